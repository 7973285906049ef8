"""One of several workers that train one run; msrun starts it. It joins the others and trains to the end of the run.

python -m mslab.training.worker TASK    TASK is launching's, as JSON
"""

import json
import logging
import os
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from mslab.config import Settings
from mslab.errors import explain
from mslab.files import write_text
from mslab.runs.folder import RunFolder
from mslab.runtime import console, devices

log = logging.getLogger("mslab")


def work(task: dict[str, Any]) -> None:
    """Join the other workers and train to the end of the run; msrun's scheduler also runs this, and only joins."""
    setup, count = task["setup"], int(os.environ["MS_WORKER_NUM"])
    devices.set_up(devices.setup_calls(**setup, workers=count))
    if os.environ["MS_ROLE"] == "MS_SCHED":
        return
    from mslab.runtime import workers
    from mslab.training import start

    group = workers.join()
    log.info("worker %d of %d: process %d", group.rank, group.size, os.getpid())
    state, last = None, None
    if group.rank == 0:
        run, last = start.reopen(task["run"])
        run.notes, run.changed = task["notes"], task["changed"]
        run.record_device(setup["device"])
        state = {
            "path": str(run.path),
            "settings": run.settings.model_dump(),
            "manifest": run.manifest,
            "history": run.history,
        }
    state = group.broadcast(state)
    if group.rank:
        run = RunFolder(Path(state["path"]), Settings(**state["settings"]), state["manifest"], writes=False)
        run.history = state["history"]
    run.device = setup["device"]
    start.continue_run(run, last, group=group)


def main(text: str) -> int:
    """Run `work`, and write its error to a file that the launching process reads. Returns the exit code."""
    logs = Path(os.environ["MSLAB_LOGS"])
    name = "scheduler" if os.environ["MS_ROLE"] == "MS_SCHED" else os.environ["RANK_ID"]
    with console.capture_stderr() as noise:
        if name != "0":  # the first worker's goes to train.log
            noise.move_to(logs / f"mindspore_{name}.log")
        try:
            work(json.loads(text))
        except BaseException as error:
            traceback.print_exc()  # into the captured output of MindSpore
            explained = explain(error, str(noise.file))
            message = (
                f"{type(explained or error).__name__}: {explained.what if explained else str(error).strip()[:2000]}"
            )
            if name != "scheduler":
                record = {"rank": int(name), "known": bool(explained), "text": message, "time": time.time()}
                if explained:
                    record |= {"details": explained.details, "expected": explained.expected, "fix": explained.fix}
                write_text(logs / f"worker_{name}.failed", json.dumps(record))
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
