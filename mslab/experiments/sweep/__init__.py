"""`mslab sweep`: tries settings of a space, in several processes and on several machines, and says which do best.

study: the whole sweep; space: what is tried; ledger: Optuna's storage, and what is done again; pool: the parent, which
hands out trials; worker: the process that trains them; page: report.html.
"""
