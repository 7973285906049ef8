"""What a long run needs only at its end, and what begins with one of its epochs."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

from helpers import cli, manifest, newest, settings

import mslab


def test_scikit_learn_is_loaded_before_mindspore_where_a_run_ends_with_it():
    for line in ("import mslab; mslab.train", "import mslab.training.start"):
        script = (
            f"{line}; import sys; names = list(sys.modules); print(names.index('sklearn') < names.index('mindspore'))"
        )
        assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout == "True\n"


def test_event_files_that_cannot_be_written_end_and_the_run_does_not(squares, inside):
    from mslab.check.training_data import check_or_raise
    from mslab.config import load_settings
    from mslab.training import start

    def no_more(rows):
        if len(rows) == 1:
            shutil.rmtree(newest() / "tensorboard")
            (newest() / "tensorboard").write_text("not a folder")
        return ""

    config = load_settings(settings(squares / "three", 3, epochs=3, log_to="tensorboard"))
    run = Path(start.run(start.Job(config, check_or_raise(config), "run"), should_stop=no_more).run)
    text = (run / "train.log").read_text()
    assert manifest(run)["status"] == "done"
    assert text.count("The event files end here; the run goes on") == 2  # in epoch 2, and at the end of the run


def test_a_chosen_epoch_begins_a_new_run(squares, inside):
    run = Path(mslab.train(settings(squares / "three", 3, epochs=1, max_to_keep=1)).run)
    kept = run / "checkpoints" / "epoch-0001.ckpt"
    further = cli("train", run / "config.yaml", "--from", kept, "epochs=1", "--no-report")
    assert further.returncode == 0 and "3 of 3 classes reused by name" in further.stderr, further.stderr
    Path("two.yaml").write_text(json.dumps(settings(squares / "two", 2, epochs=1, image_size=16, stages=None)))
    moved = cli("transfer", "two.yaml", "--backbone", kept, "--no-report")
    assert moved.returncode == 0 and "head: new (2 classes)" in moved.stderr, moved.stderr
