"""One of several workers that train one run: what msrun starts, from joining the others to the end of the run.

python -m mslab.training.worker ORDER    ORDER is launching's, as JSON
"""

import json
import logging
import os
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from mslab.checkpoint import write_text
from mslab.config import Settings
from mslab.errors import explain
from mslab.runs.folder import RunFolder
from mslab.runtime import console, devices

log = logging.getLogger("mslab")


def work(order: dict[str, Any]) -> None:
    """One worker, from joining the others to the end of the run; also msrun's scheduler, which only joins."""
    setup, count = order["setup"], int(os.environ["MS_WORKER_NUM"])
    devices.set_up(devices.setup_calls(**setup, workers=count))
    if os.environ["MS_ROLE"] == "MS_SCHED":
        return
    from mslab.runtime import workers
    from mslab.training import start

    group = workers.join()
    log.info("worker %d of %d: process %d", group.rank, group.size, os.getpid())
    told, last = None, None
    if group.rank == 0:
        run, last = start.reopen(order["run"])
        run.notes = order["notes"]
        run.record_device(setup["device"])
        told = {
            "path": str(run.path),
            "settings": run.settings.model_dump(),
            "manifest": run.manifest,
            "history": run.history,
        }
    told = group.broadcast(told)
    if group.rank:
        run = RunFolder(Path(told["path"]), Settings(**told["settings"]), told["manifest"], writes=False)
        run.history = told["history"]
    run.device = setup["device"]
    start.continue_run(run, last, group=group)


def main(text: str) -> int:
    """`work`, with what goes wrong written where the launching process looks for it. Returns the exit code."""
    logs = Path(os.environ["MSLAB_LOGS"])
    name = "scheduler" if os.environ["MS_ROLE"] == "MS_SCHED" else os.environ["RANK_ID"]
    with console.capture_stderr() as noise:
        if name != "0":  # the first worker's goes to train.log
            noise.move_to(logs / f"mindspore_{name}.log")
        try:
            work(json.loads(text))
        except BaseException as error:
            traceback.print_exc()  # into what is kept of MindSpore's own output
            known = explain(error, str(noise.file))
            said = f"{type(known or error).__name__}: {known.what if known else str(error).strip()[:2000]}"
            if name != "scheduler":
                note = {"rank": int(name), "known": bool(known), "text": said, "time": time.time()}
                if known:
                    note |= {"details": known.details, "expected": known.expected, "fix": known.fix}
                write_text(logs / f"worker_{name}.failed", json.dumps(note))
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
