"""`mslab sweep`: searches the settings of a space with Optuna, in several processes and on several machines.

study: the complete sweep; space: what is searched; trials: Optuna's storage and what is tried again; pool: the worker
processes of this machine; worker: such a process; page: report.html.
"""
