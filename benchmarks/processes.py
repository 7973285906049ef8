"""Speed and memory beside others, measured side by side in one run. Figures are ratios: machines and days differ.

check       the dataset checker beside a bare parallel Pillow decode, CleanVision and imagededup
pipeline    loading and augmenting images with no network: folders, packs, caches, and how all that grows
transfer    head-only transfer with cached features beside the same job without
bookkeeping what a run's manifest, hashes, tables and log cost
predictions answering images beside the network's forward pass alone
speed       ResNet-50, training and inference, beside PyTorch and mindcv
grading     a generated class of submissions, graded twice
knobs       what the knobs of training are worth, over several seeds
steptime    where the time of a training step goes
contenders  what runs inside a contender's process, for the last two
"""

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
