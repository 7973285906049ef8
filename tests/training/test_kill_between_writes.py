"""A kill between any two files that end an epoch leaves a folder that resumes to the same end."""

import shutil
from pathlib import Path

from helpers import figures, settings, weights

import mslab
from mslab import checkpoint, files
from mslab.runs.folder import RunFolder
from mslab.training import start


def test_a_kill_between_history_and_last_ckpt_loses_no_epoch(squares, inside, monkeypatch):
    """last.ckpt makes an epoch count. It is written last: an extra row is dropped, a missing one is lost."""
    left, commit = {}, RunFolder.commit

    def watched(write):
        def then_copied(*arguments):
            write(*arguments)
            file = next(Path(part).name for part in arguments if isinstance(part, Path))
            left[file] = Path(shutil.copytree(next(Path("runs").glob("uninterrupted-*")), f"left-{file}"))

        return then_copied

    def ending(run, *rest):
        with monkeypatch.context() as patch:
            if run.epochs_done == 2:
                for module, name in ((files, "write_text"), (checkpoint, "save_arrays")):
                    patch.setattr(module, name, watched(getattr(module, name)))
            commit(run, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "commit", ending)
        uninterrupted = Path(mslab.train(settings(squares / "three", 3, epochs=3), name="uninterrupted").run)
    assert sorted(left) == ["history.csv", "last.ckpt", "steps.csv"]
    completed = {name: start.reopen(folder)[0].epochs_done for name, folder in left.items()}
    assert completed == {"steps.csv": 1, "history.csv": 1, "last.ckpt": 2}
    start.resume(left["history.csv"])
    assert figures(left["history.csv"]) == figures(uninterrupted)
    for name in ("last.ckpt", "best.ckpt"):
        assert weights(left["history.csv"], name) == weights(uninterrupted, name)
    assert (left["history.csv"] / "steps.csv").read_bytes() == (uninterrupted / "steps.csv").read_bytes()
