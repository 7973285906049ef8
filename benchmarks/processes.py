"""A benchmark's process: what it prints, and why it ended without that."""

import json
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

from mslab.errors import MslabError


def last_word(stderr: str) -> str:
    """Why a process ended, from what it wrote on standard error: the last line that names an error, else the last."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()] or ["no message"]
    return next((line for line in reversed(lines) if "Error" in line), lines[-1])


def told(command: Sequence[str], environ: Mapping[str, str], what: str, expected: str, fix: str) -> dict[str, Any]:
    """What a process prints after "bench ". Raises MslabError, with these parts, where it ends without that line."""
    done = subprocess.run(command, capture_output=True, text=True, env=environ)
    lines = [line for line in done.stdout.splitlines() if line.startswith("bench ")]
    if not lines:
        raise MslabError(f"{what} did not finish: {last_word(done.stderr)}", expected=expected, fix=fix)
    return json.loads(lines[-1][6:])  # type: ignore[no-any-return]
