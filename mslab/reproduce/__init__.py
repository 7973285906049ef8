"""`mslab reproduce`: repeat a run from its records and compare the figures.

reproducing: differing (differences found before training) -> the functions that made the run -> comparing (figures,
epochs, steps, weights) -> rendering (tables and verdict). archiving packs everything that is needed to repeat a run
elsewhere, opening unpacks it, installing builds the run's Python environment; recipes: reproduce-all.
"""
