"""The command line: parses, calls one function, prints what comes back. MindSpore is imported inside commands only.

options has what commands share; lab, data, train, results, experiments and grading have a topic's commands each.
"""

from mslab.cli import data, experiments, grading, lab, results, train
from mslab.cli.options import app

ORDER = """doctor new demo check show lr-find sweep repeat tune-batch train transfer convert watch eval verify reproduce
reproduce-all archive report predict serve export suspects pack grade"""  # of `mslab --help`

app.add_typer(data.data_app, name="data")
app.registered_commands.sort(key=lambda command: ORDER.split().index(str(command.name)))

__all__ = ["app", "data", "experiments", "grading", "lab", "results", "train"]
