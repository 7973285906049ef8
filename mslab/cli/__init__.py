"""The command line: each command parses its arguments, calls one function and prints the result.

MindSpore is imported only inside commands. options, endings: shared by all commands; lab, data, train, results,
runs, predicting, experiments, grading, weights: the commands of one topic each.
"""

from mslab.cli import data, experiments, grading, lab, predicting, results, runs, train, weights
from mslab.cli.options import app

ORDER = """doctor new settings demo check show lr-find sweep repeat tune-batch train transfer convert watch eval verify
reproduce reproduce-all archive report predict serve export suspects pack grade"""  # of `mslab --help`

app.add_typer(data.data_app, name="data")
app.registered_commands.sort(key=lambda command: ORDER.split().index(str(command.name)))

__all__ = ["app", "data", "experiments", "grading", "lab", "predicting", "results", "runs", "train", "weights"]
