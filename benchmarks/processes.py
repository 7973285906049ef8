"""Run a part of a benchmark in a process: its result, or the reason why there is none."""

import json
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

from mslab.errors import MslabError


def last_error(stderr: str) -> str:
    """The reason why a process ended: the last line of standard error that names an error, else the last line."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()] or ["no message"]
    return next((line for line in reversed(lines) if "Error" in line), lines[-1])


def read_result(
    command: Sequence[str], environ: Mapping[str, str], name: str, expected: str, fix: str
) -> dict[str, Any]:
    """Run a process; the JSON that it prints after "bench ". Raises MslabError, with these parts, if it prints none."""
    done = subprocess.run(command, capture_output=True, text=True, env=environ)
    lines = [line for line in done.stdout.splitlines() if line.startswith("bench ")]
    if not lines:
        raise MslabError(f"{name} did not finish: {last_error(done.stderr)}", expected=expected, fix=fix)
    return json.loads(lines[-1][6:])  # type: ignore[no-any-return]
