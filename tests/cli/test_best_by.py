"""best_by on the command line: what it writes, what follows it, and what a wrong one is told."""

import csv
import json
import re
import shlex
import shutil

import pytest
from helpers import cli, draw, figures, history, log, manifest, overrides, settings, weights
from sklearn.metrics import balanced_accuracy_score, f1_score, recall_score

from mslab.runs.history import COLUMNS

CLASSES = ["3", "a: b", "fly agaric"]  # a number, a colon and a blank


@pytest.fixture(scope="module")
def uneven(once):
    """{train,val} of three classes, of which the last is rare."""

    def make(root):
        for split, seed, counts in (("train", 1, (16, 12, 6)), ("val", 2, (14, 9, 4))):
            for name, count in zip(CLASSES, counts, strict=True):
                draw(root / split, CLASSES, 0)
                for number, made in enumerate(sorted((draw(root / f"x{seed}", CLASSES, 16, seed) / name).iterdir())):
                    if number < count:
                        shutil.copy(made, root / split / name)
            shutil.rmtree(root / f"x{seed}")

    return once("uneven", make)


def config_of(root, tmp_path, **more):
    """The command line of a run."""
    file = tmp_path / "x.yaml"
    file.write_text("".join(f"{key}: {json.dumps(value)}\n" for key, value in settings(root, 3, **more).items()))
    return file


@pytest.fixture(scope="module")
def chosen(once, uneven):
    """(the output, the run) of four epochs with best_by: recall:fly agaric."""

    def make(folder):
        file = config_of(uneven, folder, epochs=4, lr_max=0.02, max_to_keep=2, max_device_memory=None)
        done = cli("train", file, "best_by=recall:fly agaric", "--no-report")
        assert done.returncode == 0, done.stderr
        (folder / "output").write_text(done.stderr)

    folder = once("chosen", make)
    return (folder / "output").read_text(), next((folder / "runs").iterdir())


def test_a_run_keeps_the_epoch_that_the_measure_chooses_and_writes_its_columns(chosen):
    output, run = chosen
    rows = [{key: float(value) for key, value in row.items()} for row in history(run)]
    assert list(rows[0]) == [*COLUMNS, "val_balanced_accuracy", "val_macro_f1", "val_recall"]
    best = min(rows, key=lambda row: (-row["val_recall"], row["val_loss"], row["epoch"]))
    recorded = manifest(run)["metrics"]
    assert recorded["best_epoch"] == best["epoch"] and recorded["val_recall"] == best["val_recall"]
    measured = json.loads((run / "eval.json").read_text())
    assert measured["per_class"]["fly agaric"]["recall"] == pytest.approx(best["val_recall"], abs=1e-5)
    pairs = [(i, j) for i, row in enumerate(measured["confusion"]) for j, n in enumerate(row) for _ in range(n)]
    labels, predicted = zip(*pairs, strict=True)
    assert balanced_accuracy_score(labels, predicted) == pytest.approx(best["val_balanced_accuracy"], abs=1e-5)
    assert f1_score(labels, predicted, average="macro") == pytest.approx(best["val_macro_f1"], abs=1e-5)
    assert recall_score(labels, predicted, average=None)[2] == pytest.approx(best["val_recall"], abs=1e-5)
    top = sorted(rows, key=lambda row: (-row["val_recall"], row["val_loss"], row["epoch"]))[:2]
    kept = {path.stem for path in (run / "checkpoints").glob("epoch-*.ckpt")}
    assert kept == {f"epoch-{row['epoch']:04.0f}" for row in top}
    assert f"best val_recall {best['val_recall']:.3f} in epoch {best['epoch']:.0f} (val_acc" in output
    assert "val_recall" in log(run)


def test_watch_and_report_say_what_chose_the_epoch_and_what_others_would_have(chosen, inside):
    _, run = chosen
    copy = shutil.copytree(run, inside / "copy")
    rows = list(csv.DictReader((copy / "history.csv").open()))
    for row, recall, loss in zip(rows, (0.5, 1, 0.5, 0.5), (0.9, 0.9, 0.001, 0.9), strict=True):
        row |= {"val_recall": recall, "val_loss": loss}  # the loss would have chosen another one
    with (copy / "history.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    accuracy = float(rows[1]["val_acc"])
    said = f"best val_recall 1.000 in epoch 2 (val_acc {accuracy:.3f})"
    assert said in cli("watch", "--once", copy).stdout
    assert cli("report", copy).returncode == 0
    page = (copy / "report.html").read_text()
    assert "Best epoch: 2. It was chosen by recall:fly agaric (best_by)." in page
    assert "loss would have chosen epoch 3." in page and "val_balanced_accuracy" in page
    assert cli("report", copy, "--lang", "zh").returncode == 0
    assert "val_balanced_accuracy" in (copy / "report.html").read_text()


def test_without_it_files_and_bytes_are_as_before(parent, squares, inside):
    (inside / "x.yaml").write_text("class_num: 3\n")
    shared = overrides(settings(squares / "three", 3, epochs=1))
    assert cli("train", "x.yaml", *shared, "best_by=accuracy", "--no-report").returncode == 0
    (run,) = (inside / "runs").iterdir()
    assert list(history(parent)[0]) == COLUMNS
    assert set(manifest(parent)["metrics"]) == {"best_epoch", "val_acc", "val_loss", "linear_acc"}
    assert weights(run) == weights(parent) and weights(run, "last.ckpt") == weights(parent, "last.ckpt")
    assert figures(parent)[0].items() <= figures(run)[0].items()


@pytest.mark.parametrize(
    ("given", "fix"),
    [
        ("recall:fly agarik", "'best_by=recall:fly agaric'"),
        ("recall:Fly Agaric", "'best_by=recall:fly agaric'"),
        ("recall:03", "best_by=recall:3"),
        ("recall:zzz", "best_by=recall:3"),
    ],
)
def test_a_class_that_does_not_exist_is_refused_before_training_with_the_one_that_is_meant(uneven, inside, given, fix):
    file = config_of(uneven, inside)
    done = cli("train", file, f'best_by="{given}"')
    assert done.returncode == 1 and not (inside / "runs").exists()
    assert f"best_by: {given} (the command line) names a class without validation images" in done.stderr
    assert "recall: and one of 3, a: b, fly agaric" in done.stderr and fix in done.stderr


def test_a_class_name_with_a_colon_is_typed_as_the_message_says(uneven, inside):
    file = config_of(uneven, inside, epochs=1)
    done = cli("train", file, 'best_by="recall:a:b"')
    fix = re.search(r"fix +(.*)", done.stderr)[1]
    done = cli("train", file, *shlex.split(fix), "--no-report")
    assert done.returncode == 0 and "val_recall" in done.stderr
    done = cli("train", file, "best_by=recall: a")
    assert done.returncode == 1 and "is a table; write" in done.stderr
    done = cli("train", file, "best_by=recall:")
    assert done.returncode == 1 and "best_by='recall:CLASS' on a command line" in done.stderr


def test_it_cannot_change_when_a_run_goes_on(chosen, inside):
    _, run = chosen
    copy = shutil.copytree(run, inside / "copy")
    content = manifest(copy) | {"status": "interrupted", "ended_by": None}
    (copy / "manifest.json").write_text(json.dumps(content))
    done = cli("train", "--resume", copy, "best_by=macro_f1", "epochs=5")
    assert done.returncode == 1 and "recall:fly agaric -> macro_f1: the epochs so far were trained with" in done.stderr
    rows = [",".join(line.split(",")[:-1]) for line in (copy / "history.csv").read_text().splitlines()]
    (copy / "history.csv").write_text("\n".join(rows) + "\n")  # without the column that decides
    done = cli("report", copy)
    assert done.returncode == 1 and "its first line has no val_recall" in done.stderr
    content["settings"]["best_by"] = "luck"
    (copy / "manifest.json").write_text(json.dumps(content))
    done = cli("report", copy)
    assert done.returncode == 1 and "manifest.json records best_by: luck, which does not exist." in done.stderr


def test_repeat_shows_the_measure(uneven, inside):
    file = config_of(uneven, inside, epochs=1)
    done = cli("repeat", file, "--seeds", "1", "best_by=balanced_accuracy")
    assert done.returncode == 0 and "balanced accuracy, in that epoch" in done.stdout
    (result,) = (inside / "runs").glob("*-repeat-*/repeat.json")
    content = json.loads(result.read_text())
    assert content["runs"][0]["val_balanced_accuracy"] == content["metrics"]["val_balanced_accuracy"]["mean"]
