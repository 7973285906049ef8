"""What is needed only after hours of training fails early, or costs a note: never the run."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

from helpers import manifest, newest, process, settings

BROKEN = 'raise ImportError("libgomp-d22c30c5.so.1.0.0: cannot allocate memory in static TLS block")\n'


def test_a_broken_scikit_learn_costs_the_linear_model_and_not_the_run(squares, inside):
    (inside / "broken" / "sklearn").mkdir(parents=True)
    (inside / "broken" / "sklearn" / "__init__.py").write_text(BROKEN)
    (inside / "c.yaml").write_text(json.dumps(settings(squares / "three", 3, epochs=1, log_to="tensorboard")))
    path = ":".join([str(inside / "broken"), *filter(None, [sys.path[0], *map(str, Path(__file__).parents[2:3])])])
    done = process("train", "c.yaml", env={"PYTHONPATH": path})
    assert done.returncode == 0, done.stderr
    assert "note: no linear model of 8x8 thumbnails to compare with: ImportError: libgomp" in done.stderr
    assert "Traceback" not in done.stderr
    content = manifest(newest())
    assert content["status"] == "done" and content["metrics"]["linear_acc"] is None and content["metrics"]["val_acc"]


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
