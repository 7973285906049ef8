"""mslab: a transfer-learning lab kit on MindSpore. Nothing fails silently.

mslab.train(config)                          mslab.transfer(config, backbone="best_backbone.ckpt")
mslab.evaluate(run_or_ckpt, data)            mslab.check_dataset(train, val=None, test=None, class_num=None)
mslab.load_network(run_or_ckpt)              mslab.load_config(path_or_dict)
mslab.Run(path), for notebooks
"""

import contextlib
import importlib
import os
import signal
import sys
from typing import Any


def _end(number: int, frame: Any) -> None:
    """Answer Ctrl-C while the command is imported, where Python's own answer is a traceback."""
    os.write(2, b"stopped by Ctrl-C; nothing was written; the same command begins again\n")
    os._exit(130)


def _is_command() -> bool:
    """Whether this process is `mslab …`, or `python -m mslab …`, whose sys.argv[0] is -m by now."""
    module = sys.orig_argv[sys.orig_argv.index("-m") + 1 :][:1] if sys.argv[0] == "-m" and "-m" in sys.orig_argv else []
    return os.path.basename(sys.argv[0]) == "mslab" or module in (["mslab"], ["mslab.modelarts"], ["benchmarks"])  # noqa: PTH119


if _is_command() and "--multiprocessing-fork" not in sys.orig_argv:
    with contextlib.suppress(ValueError):  # not the main thread
        if signal.getsignal(signal.SIGINT) == signal.default_int_handler:
            signal.signal(signal.SIGINT, _end)  # until the command begins: signals.command

from mslab.runtime import console, importing, versions  # noqa: E402

__version__ = "0.2.0"

PUBLIC = {  # name -> module; imported at first use, since MindSpore takes seconds to import
    "train": "training.start",
    "transfer": "training.start",
    "evaluate": "evaluation.measuring",
    "load_network": "evaluation.measuring",
    "check_dataset": "check",
    "load_config": "config",
    "Run": "report.notebook",
}
__all__ = [*PUBLIC, "__version__"]

versions.set_environment()  # must come before MindSpore's first operator

importing.watch()

console.log_to_terminal()


def __getattr__(name: str) -> Any:
    if name not in PUBLIC:
        raise AttributeError(f"module 'mslab' has no attribute '{name}'; it has {', '.join(PUBLIC)}")
    return getattr(importlib.import_module(f"mslab.{PUBLIC[name]}"), name)
