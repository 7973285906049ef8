"""Program of the process that measures one submission: unpack it, read it, run its networks, answer, exit.

It receives a job as one line of JSON, confines itself before it opens any part of the submission, requests images by
`need {"network", "size", "resize"}`, with "mode" and "colour" for padded and squashed ones, and writes facts.json and
arrays to its folder. It never receives a label.
A student's code runs in a separate process of this program; its only result is logits.npy.
"""

import json
import os
import sys
from pathlib import Path
from typing import IO

from mslab.grade import sandbox


def main() -> None:
    """Carry out the job on standard input."""
    job = json.loads(sys.stdin.readline())
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # MindSpore's own output must not become part of the answer
    if job.get("core") is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {job["core"]})
    folder = Path(job["folder"])
    readable = [Path(path) for path in (job["source"], job.get("given"), *job.get("images", [])) if path]
    guards = sandbox.confine(folder, readable, sandbox.Limits(**job["sandbox"]))
    if os.getppid() != job["parent"]:  # the parent died before PR_SET_PDEATHSIG was set
        return
    from mslab.checkpoint import networks  # NumPy is imported, which would start threads before confine()
    from mslab.grade import looking
    from mslab.grade.contents import FULL

    networks.may_start_processes = False

    if "code_of" in job:
        send(out, f"guards {json.dumps(guards)}")  # before the student's code can write anything
        answer = looking.run_student_code(job, folder)
        send(out, f"failed {answer['error'][:500]}" if "error" in answer else "done")
        return

    def request_images(network: str, *images: object) -> str:
        request = dict(zip(("network", "size", "resize", "mode", "colour"), (network, *images), strict=False))
        send(out, f"need {json.dumps(request)}")
        return sys.stdin.readline().rstrip("\n")

    try:
        facts = looking.inspect_submission(job, folder, request_images) | {"sandbox": guards}
        (folder / "facts.json").write_text(looking.bounded_json(facts), encoding="utf-8")
    except OSError as error:
        if error.errno not in FULL:
            raise
        send(out, "full")
        return
    send(out, "done")


def send(out: IO[str], line: str) -> None:
    print(line, file=out, flush=True)
