"""What a command says after Ctrl-C, SIGTERM or a closed terminal: what is kept, and what goes on from there."""

from contextlib import suppress
from pathlib import Path

from mslab.runtime import signals

NOTHING = "nothing was written"
KEPT = {  # command -> what it leaves, unless it knows more: signals.Interrupted
    "check": "the images that it has looked at are remembered",
    "demo": "the drawn images and the runs so far, in runs/demo-*, are kept",
    "grade": "the submissions that were measured are kept",
    "make": "complete data sets are kept",
    "animals": "complete data sets are kept",
    "reproduce-all": "the runs so far are kept, in runs/",
    "tune-batch": "nothing was written",
}
AGAIN = {  # what the same command does; else it begins again
    "check": "goes on from there",
    "grade": "continues with the submissions that are left",
    "make": "draws what is missing",
    "animals": "builds what is missing",
}


def message(name: str, stop: BaseException | None) -> str:
    """The last line of a command that was stopped. `stop`: what it has raised; None if it has to end at once."""
    # message("train", KeyboardInterrupt()) -> "stopped by Ctrl-C; nothing was written; the same command begins again"
    if name == "serve":  # the normal way to stop a server
        return "stopped"
    if isinstance(stop, signals.Interrupted):
        rest = stop.continues
    else:
        rest = f"{KEPT.get(name, NOTHING)}; the same command {AGAIN.get(name, 'begins again')}"
    return f"stopped by {signals.cause()}; {rest}"


def remove_dump(began: float) -> None:
    """Remove what MindSpore has written into the current folder, since then, about a compilation that was stopped."""
    dump = Path("rank_0/om/analyze_fail.ir")
    with suppress(OSError):
        if not dump.is_symlink() and dump.stat().st_mtime >= began:
            dump.unlink()
        dump.parent.rmdir()
        dump.parent.parent.rmdir()
