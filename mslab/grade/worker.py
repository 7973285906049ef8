"""The program of the process that touches one submission: unpack, read, run its networks, answer, end.

It gets a job as a line of JSON, confines itself before it opens anything of the submission, asks for images by
`need {"network", "size", "resize"}`, and leaves facts.json and arrays in its folder. It never sees a label.
A student's code runs in a process apart, which this program is too: it leaves logits.npy, and nothing else counts.
"""

import json
import os
import sys
from pathlib import Path
from typing import IO

from mslab.grade import sandbox


def main() -> None:
    """Answer the one job on standard input."""
    job = json.loads(sys.stdin.readline())
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what MindSpore prints is no answer
    if job.get("core") is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {job["core"]})
    folder = Path(job["folder"])
    readable = [Path(path) for path in (job["source"], job.get("given"), *job.get("images", [])) if path]
    held = sandbox.confine(folder, readable, sandbox.Limits(**job["sandbox"]))
    if os.getppid() != job["parent"]:  # it ended before this process could be made to end with it
        return
    from mslab.grade import looking  # it imports NumPy, whose threads would be there before confine()

    if "code_of" in job:
        say(out, f"held {json.dumps(held)}")  # before anything of the student's can say otherwise
        answer = looking.coded(job, folder)
        say(out, f"failed {answer['error'][:500]}" if "error" in answer else "done")
        return

    def ask(network: str, size: int, resize: int) -> str:
        say(out, f"need {json.dumps({'network': network, 'size': size, 'resize': resize})}")
        return sys.stdin.readline().rstrip("\n")

    facts = looking.look(job, folder, ask) | {"sandbox": held}
    (folder / "facts.json").write_text(looking.fitting(facts), encoding="utf-8")
    say(out, "done")


def say(out: IO[str], line: str) -> None:
    print(line, file=out, flush=True)
