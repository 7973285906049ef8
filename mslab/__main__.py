"""`python -m mslab …` is `mslab …`, where the command is not on PATH."""

import sys

from mslab.cli import app

sys.argv[0] = "mslab"  # in the usage line, and in the manifests of runs
app(prog_name="mslab")
