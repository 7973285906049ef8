"""Exports of a calibrated network, and a network for which no temperature can be fitted."""

import csv
import io
import json

import numpy as np
from helpers import cli, draw, settings

from mslab import checkpoint


def predicted(source, images):
    """float (n, C) of `mslab predict`."""
    done = cli("predict", source, images, "--csv", "-")
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    return np.array([[float(value) for key, value in row.items() if key.startswith("p(")] for row in rows])


def test_both_exports_give_the_calibrated_probabilities_of_predict(inside):
    draw(inside / "train", ["a", "b", "c"], 12, 1)
    draw(inside / "val", ["a", "b", "c"], 8, 2)
    for number, image in enumerate(sorted((draw(inside / "more", ["a"], 4, 3) / "a").iterdir())):
        image.rename(inside / "val" / "c" / f"wrong-{number}.png")
    config = settings(inside, 3, epochs=3, lr_max=0.02, calibrate=True, head_hidden=8)
    (inside / "x.yaml").write_text("".join(f"{key}: {json.dumps(value)}\n" for key, value in config.items()))
    assert cli("train", "x.yaml", "--no-report").returncode == 0
    (run,) = (inside / "runs").iterdir()
    own = checkpoint.read(run / "checkpoints" / "best.ckpt").info["temperature"]
    assert abs(own - 1) > 0.1
    wanted = predicted(run, inside / "val" / "c")
    for kind in ("onnx", "mindir"):
        done = cli("export", run, "--format", kind, "--out", f"x.{kind}")
        assert done.returncode == 0 and f"divided by the temperature {own:.4g}" in done.stdout
        assert np.allclose(predicted(f"x.{kind}", inside / "val" / "c"), wanted, atol=2e-5)
    assert cli("convert", "x.onnx", "--to", "y.ckpt").returncode == 0
    assert np.allclose(predicted("y.ckpt", inside / "val" / "c"), wanted, atol=2e-5)
    assert cli("convert", run / "checkpoints" / "best.ckpt", "--to", "z.safetensors").returncode == 0
    assert np.allclose(predicted("z.safetensors", inside / "val" / "c"), wanted, atol=2e-5)


def test_where_every_image_is_right_no_temperature_is_fitted_and_the_run_says_so(squares, inside):
    config = settings(squares / "two", 2, calibrate=True, epochs=3)
    (inside / "x.yaml").write_text("".join(f"{key}: {json.dumps(value)}\n" for key, value in config.items()))
    done = cli("train", "x.yaml", "--no-report")
    (run,) = (inside / "runs").iterdir()
    assert json.loads((run / "eval.json").read_text())["accuracy"] == 1
    assert checkpoint.read(run / "checkpoints" / "best.ckpt").info["temperature"] == 1
    said = "calibrate: no temperature was fitted, probabilities stay as they are: every validation image is classified"
    assert said in " ".join(done.stderr.split())
