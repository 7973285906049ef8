"""What is needed only after hours of training fails early, or costs a note: never the run."""

import json
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
    assert "no ROC curves and no map of the features: scikit-learn cannot be loaded" in done.stderr
    assert (newest() / "report.html").stat().st_size > 10_000
    assert content["status"] == "done" and content["metrics"]["linear_acc"] is None and content["metrics"]["val_acc"]
