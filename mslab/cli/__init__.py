"""The command line: parses, calls one function, prints what comes back."""

from mslab.cli.commands import app

__all__ = ["app"]
