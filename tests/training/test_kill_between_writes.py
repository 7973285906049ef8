"""A kill between any two files that end an epoch leaves a folder that goes on to the same end."""

import shutil
from pathlib import Path

from helpers import figures, settings, weights

import mslab
from mslab import checkpoint
from mslab.runs.folder import RunFolder
from mslab.training import start


def test_a_kill_between_history_and_last_ckpt_loses_no_epoch(squares, inside, monkeypatch):
    """last.ckpt makes an epoch count. It comes last: a row more is dropped, a row less could not be made up."""
    left, end_epoch = {}, RunFolder.commit

    def watched(write):
        def then_copied(*arguments):
            write(*arguments)
            file = next(Path(part).name for part in arguments if isinstance(part, Path))
            left[file] = Path(shutil.copytree(next(Path("runs").glob("whole-*")), f"left-{file}"))

        return then_copied

    def ending(run, *rest):
        with monkeypatch.context() as patch:
            if run.epochs_done == 2:
                for name in ("write_text", "save"):
                    patch.setattr(checkpoint, name, watched(getattr(checkpoint, name)))
            end_epoch(run, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "end_epoch", ending)
        whole = Path(mslab.train(settings(squares / "three", 3, epochs=3), name="whole").run)
    assert sorted(left) == ["history.csv", "last.ckpt", "steps.csv"]
    completed = {name: start.reopen(folder)[0].epoch for name, folder in left.items()}
    assert completed == {"steps.csv": 1, "history.csv": 1, "last.ckpt": 2}
    start.resume(left["history.csv"])
    assert figures(left["history.csv"]) == figures(whole)
    for name in ("last.ckpt", "best.ckpt"):
        assert weights(left["history.csv"], name) == weights(whole, name)
    assert (left["history.csv"] / "steps.csv").read_bytes() == (whole / "steps.csv").read_bytes()
