"""calibrate: true, and what shows probabilities afterwards."""

import csv
import html
import io
import json
import os
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers import cli, draw, log, manifest, settings, weights

from mslab import checkpoint
from mslab.check import check_dataset
from mslab.evaluation import measuring, metrics, models, temperature
from mslab.experiments import cross_validation
from mslab.runs.folder import RunFolder
from mslab.runtime import devices


@pytest.fixture(scope="module")
def noisy(once):
    """{train,val} of a, b, c; a third of the validation labels of c is wrong, so that no network knows them all."""

    def make(root):
        draw(root / "train", ["a", "b", "c"], 12, 1)
        draw(root / "val", ["a", "b", "c"], 8, 2)
        for number, image in enumerate(sorted((draw(root / "more", ["a"], 4, 3) / "a").iterdir())):
            image.rename(root / "val" / "c" / f"wrong-{number}.png")
        shutil.rmtree(root / "more")

    return once("noisy", make)


@pytest.fixture(scope="module")
def calibrated(once, noisy):
    """(the output, a run with calibrate: true)."""

    def make(folder):
        config = settings(noisy, 3, epochs=2, lr_max=0.05, calibrate=True, max_to_keep=1)
        (folder / "x.yaml").write_text("".join(f"{key}: {json.dumps(value)}\n" for key, value in config.items()))
        done = cli("train", "x.yaml", "--no-report")
        assert done.returncode == 0, done.stderr
        (folder / "output").write_text(done.stderr)

    folder = once("calibrated", make)
    return (folder / "output").read_text(), next((folder / "runs").iterdir())


def of_file(run, name="best.ckpt"):
    return checkpoint.read(run / "checkpoints" / name).info.get("temperature")


def predicted(source, images):
    """{file: probabilities} of `mslab predict`."""
    done = cli("predict", source, images, "--csv", "-")
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    return {row["file"]: [float(value) for key, value in row.items() if key.startswith("p(")] for row in rows}


def test_the_temperature_is_in_the_checkpoints_and_its_effect_in_eval_json_and_report(calibrated, inside):
    output, run = calibrated
    found = json.loads((run / "eval.json").read_text())["calibration"]
    assert found.keys() == {"temperature", "ece", "ece_calibrated"} and found["temperature"] != 1
    (top,) = (run / "checkpoints").glob("epoch-*.ckpt")
    assert of_file(run) == found["temperature"] and weights(run) == weights(run, top.name)
    assert of_file(run, "last.ckpt") is of_file(run, "best_backbone.ckpt") is None
    assert " ".join(f"calibrate: {temperature.text(found)}".split()) in " ".join(output.split())
    assert f"calibrate: {temperature.text(found)}" in log(run)
    copy = shutil.copytree(run, inside / "copy")
    (copy / "eval.json").unlink()
    assert cli("report", copy).returncode == 0  # which measures again what is lost
    again = json.loads((copy / "eval.json").read_text())["calibration"]
    assert again == pytest.approx(found, abs=1e-4)
    page = (copy / "report.html").read_text()
    assert f"by the temperature {found['temperature']:.3g}, which was fitted on these images" in page
    assert f"Without it, the error is {found['ece']:.3f}" in page
    the_pages_command_measures_what_the_page_says(page)


def the_pages_command_measures_what_the_page_says(page):
    """The command of "What a higher recall costs", with the threshold of the first class's last row."""
    section = re.search(r'<section id="recall">.*?</section>', page, re.DOTALL)[0]
    words = shlex.split(html.unescape(re.search(r"<code>mslab (eval.*?)</code>", section)[1]))
    name, _, threshold = words[-1].rpartition("=")
    rows = re.findall(r'<tr><td class="n">([\d.]+)</td><td class="n">([\d.e-]+)</td><td class="n">([\d.]+)<', section)
    recall, precision = next((row[0], row[2]) for row in rows if row[1] == threshold)
    done = cli(*words, "--json", "ruled.json")
    ruled = json.loads(Path("ruled.json").read_text())["thresholds"]
    own = ruled["per_class"][name]
    assert done.returncode == 0 and f"{own['recall']:.3f}" == recall and f"{own['precision']:.3f}" == precision
    assert ruled["values"] == {name: float(threshold)}
    assert f"with --threshold {words[-1]}" in done.stdout and "the rule: a class that reaches" in done.stdout
    assert f"accuracy {ruled['accuracy']:.3f}" in done.stdout


def test_predict_gives_the_calibrated_probabilities_and_eval_measures_them(calibrated, noisy, inside):
    _, run = calibrated
    images = noisy / "val" / "c"
    devices.start("cpu", "pynative", seed=0)
    model, loaded = models.open_weights(run, "cpu"), measuring.load_network(run)
    names = sorted(images.iterdir())
    logits = np.concatenate([model.logits(loaded.preprocess(str(name))) for name in names])
    wanted = metrics.probabilities(logits, of_file(run))
    raw = metrics.probabilities(logits)
    assert abs(wanted - raw).max() > 1e-3
    own = predicted(run, images)
    assert np.allclose([own[str(name)] for name in names], wanted, atol=2e-6)
    done = cli("eval", run, "--data", noisy / "val", "--json", "x.json")
    measured, then = json.loads((inside / "x.json").read_text()), json.loads((run / "eval.json").read_text())
    assert measured["accuracy"] == then["accuracy"] and measured["confusion"] == then["confusion"]
    assert measured["calibration"] == pytest.approx(then["calibration"], abs=1e-5)
    assert temperature.text(measured["calibration"]) in " ".join(done.stdout.split())
    best = checkpoint.read(run / "checkpoints" / "best.ckpt")
    checkpoint.save_arrays(best.tensors, inside / "one.ckpt", best.info | {"temperature": 1.0})  # none was fitted
    assert "temperature" not in cli("eval", "one.ckpt", "--data", noisy / "val").stdout


def test_out_of_fold_has_the_probabilities_that_predict_gives(calibrated, noisy, inside):
    _, run = calibrated
    predictions = cross_validation.OutOfFold()
    predictions.add(RunFolder.open(run), check_dataset(noisy / "train", noisy / "val", skip_content=True), 1)
    rows = {row["file"]: row for row in csv.DictReader(io.StringIO(predictions.to_csv()))}
    expected = {os.path.relpath(file): values for file, values in predicted(run, noisy / "val").items()}
    found = {os.path.relpath(file): [float(row[f"p({name})"]) for name in "abc"] for file, row in rows.items()}
    assert found.keys() == expected.keys() and len(found) == 28
    assert all(found[file] == pytest.approx(expected[file], abs=1e-5) for file in found)


def test_weights_and_accuracy_are_those_of_a_run_without_it(calibrated, noisy, inside):
    _, run = calibrated
    shutil.copy(run.parent.parent / "x.yaml", inside)
    done = cli("train", "x.yaml", "calibrate=false", "--no-report", "--name", "raw")
    assert done.returncode == 0 and "calibrat" not in done.stderr
    (other,) = (inside / "runs").iterdir()
    one, two = (checkpoint.read(path / "checkpoints" / "best.ckpt") for path in (run, other))
    assert all((one.tensors[name] == two.tensors[name]).all() for name in {**one.tensors, **two.tensors})
    assert {**two.info, "temperature": one.info["temperature"]} == one.info
    assert manifest(run)["metrics"] == manifest(other)["metrics"]
    assert "calibration" not in json.loads((other / "eval.json").read_text())


@pytest.mark.parametrize("value", [0, -1.0, "1.5", "NaN", 1e9, True])
def test_a_file_with_an_impossible_temperature_is_refused(calibrated, inside, value):
    _, run = calibrated
    best = checkpoint.read(run / "checkpoints" / "best.ckpt")
    checkpoint.save_arrays(best.tensors, inside / "x.ckpt", best.info | {"temperature": value})
    done = cli("predict", "x.ckpt", run / "config.yaml")
    assert done.returncode == 1 and re.search(r"its entry 'mslab' has an invalid value of temperature", done.stderr)


def test_thresholds_stand_beside_the_figures_without_them_and_wrong_ones_stop_before_the_images(
    parent, squares, inside
):
    data = squares / "three" / "val"
    done = cli("eval", parent, "--data", data, "--threshold", "c=0", "--json", "x.json")
    found, before = json.loads((inside / "x.json").read_text()), json.loads((parent / "eval.json").read_text())
    ruled = found.pop("thresholds")
    assert found.keys() == before.keys() and found["per_class"] == before["per_class"]
    assert ruled["confusion"] == [[0, 0, 7]] * 3 and ruled["per_class"]["c"]["recall"] == 1  # 0: always
    assert ruled["changed"] == 21 - sum(row[2] for row in before["confusion"])
    assert "confusion matrix" in done.stdout and f"{ruled['changed']} answer" in done.stdout
    done = cli("eval", parent, "--data", "nowhere", "--threshold", "C=0,2", "--threshold", "d=2", "--threshold", "c=.1")
    assert done.returncode == 1 and "--threshold has 4 problems." in done.stderr
    for text in (
        "'C' is no class of the network; did you mean 'c'?",
        "write 0.2",
        "'d' is no class",
        "'2' is no number",
    ):
        assert text in done.stderr
    assert cli("eval", parent, "--data", data, "--threshold").returncode == 2
