"""Event files read back record by record: they contain what happened, each epoch once; nothing else changes."""

import io
import json
import struct
import sys

import numpy as np
import pytest
from eventfiles import epochs_of, events, series
from helpers import draw, figures, full_after, history, log, manifest, newest, settings, stopped_after
from PIL import Image
from sklearn.metrics import precision_recall_curve
from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData
from trainings import logged

import mslab
from mslab import checkpoint
from mslab.check import check_dataset
from mslab.config import load_settings
from mslab.data import batching, sources
from mslab.errors import RunError
from mslab.evaluation import measuring, metrics
from mslab.runs.folder import RunFolder
from mslab.runtime import devices
from mslab.runtime.workers import ALONE
from mslab.training import eventlog, start

LOGGED = {"log_to": "tensorboard", "epochs": 3}


@pytest.fixture(scope="module")
def run(squares, finished):
    """A run that is logged, whose epochs 2 and 3 of three are measured. Not to be changed."""
    return finished(logged(squares)).run


@pytest.fixture(autouse=True)
def device():
    """Reset the mode that the previous test has set."""
    devices.start("cpu", "pynative", 1)


def test_the_scalars_are_those_of_history_csv(run):
    records = series(run)
    for column, tag in eventlog.SCALARS.items():
        rows = [(int(row["epoch"]), row[column]) for row in history(run) if row[column]]
        assert [(step, f"{value.simple_value:.6g}") for step, value in records[tag]] == rows
    assert epochs_of(run, "loss/val") == [2, 3] and epochs_of(run) == [1, 2, 3]


def test_the_first_batch_is_what_the_network_sees(run):
    config = load_settings(run / "config.yaml")
    images = sources.images_of(check_dataset(config.train_data, config.val_data), "train")
    records = series(run)["first_batch"]
    assert [step for step, _ in records] == [1, 2, 3]
    for step, value in records:
        picture = np.asarray(Image.open(io.BytesIO(value.image.encoded_image_string)))
        x, _ = next(batching.train_batches(images, config, step - 1))
        pixels = np.clip((x * np.reshape(config.std, (3, 1, 1)) + np.reshape(config.mean, (3, 1, 1))) * 255, 0, 255)
        assert picture.shape == (32, 8 * 32, 3)  # eight images side by side
        assert np.abs(picture - np.hstack(pixels.transpose(0, 2, 3, 1))).max() <= 0.51


def test_the_histograms_count_every_weight_that_is_trained(run):
    last, records = checkpoint.read(run / "checkpoints" / "last.ckpt"), series(run)
    weights = {
        k: v for k, v in (last.backbone | last.head).items() if not k.endswith(("moving_mean", "moving_variance"))
    }
    tags = {tag.partition("/")[2]: tag for tag, rows in records.items() if rows[0][1].HasField("histo")}
    assert set(tags) == set(weights) and tags["conv1.weight"] == "stem/conv1.weight"
    for name, value in weights.items():
        rows = records[tags[name]]
        assert [step for step, _ in rows] == [1, 2, 3]
        histogram = rows[-1][1].histo
        assert histogram.num == sum(histogram.bucket) == value.size
        assert (histogram.min, histogram.max) == (value.min(), value.max())
        assert histogram.sum == pytest.approx(value.sum(dtype=float), abs=1e-9)
        assert np.trim_zeros(histogram.bucket) == np.trim_zeros(np.histogram(value.astype(float), 64)[0]).tolist()


def test_precision_and_recall_are_scikit_learns_on_the_runs_own_predictions(run):
    loaded = measuring.load_network(run)
    config, best = load_settings(run / "config.yaml"), max(history(run), key=lambda row: float(row["val_acc"] or 0))
    images = sources.images_of(check_dataset(config.train_data, config.val_data), "val")
    batches = batching.eval_batches(images, 32, config.mean, config.std, 8)
    pairs = list(measuring.predict_logits(loaded.network, batches, 8))
    probabilities = metrics.probabilities(np.concatenate([logits for logits, _ in pairs]))
    labels, thresholds = np.concatenate([y for _, y in pairs]), np.arange(127) / 126
    for label, name in enumerate("abc"):
        rows = dict(series(run)[f"precision_recall/{label:03} {name}"])
        assert list(rows) == [2, 3]
        tp, fp, tn, fn, precision, recall = np.reshape(rows[int(best["epoch"])].tensor.float_val, (6, 127))
        assert (tp + fn == 7).all() and (fp + tn == 14).all()
        precisions, recalls, steps = precision_recall_curve(labels == label, probabilities[:, label])
        compared = 0
        for number, threshold in enumerate(thresholds):
            if (
                np.abs(probabilities[:, label] - threshold).min() > 1e-4 and (steps >= threshold).any()
            ):  # no matter of rounding
                position = np.argmax(steps >= threshold)
                assert (precision[number], recall[number]) == pytest.approx(
                    (precisions[position], recalls[position]), abs=1e-6
                )
                compared += 1
        assert compared > 30


def test_settings_are_beside_the_figures_at_the_end(run):
    records = series(run)
    (_, start), (_, experiment) = records["_hparams_/session_start_info"][0], records["_hparams_/experiment"][0]
    plugin = [HParamsPluginData.FromString(value.metadata.plugin_data.content) for value in (start, experiment)]
    hparams = plugin[0].session_start_info.hparams
    assert hparams["lr_max"].number_value == 0.05 and hparams["log_to"].string_value == "tensorboard"
    assert hparams["flip"].bool_value is True and hparams["stages"].string_value == "[[1, 8, 1], [1, 8, 2]]"
    assert [info.name.tag for info in plugin[1].experiment.metric_infos] == [
        f"final/{key}" for key in ("val_acc", "val_loss", "best_epoch", "linear_acc")
    ]
    for key, value in manifest(run)["metrics"].items():
        assert records[f"final/{key}"][0][1].simple_value == pytest.approx(value, rel=1e-6)


def test_nothing_else_changes(run, squares, finished):
    plain = finished(logged(squares) | {"log_to": "none"}).run
    names = {path.relative_to(plain) for path in plain.rglob("*") if path.is_file()}
    more = {path.relative_to(run) for path in run.rglob("*") if path.is_file()} - names
    assert {path.parent.name for path in more} == {"tensorboard"} and len(more) == 2
    for name in names:
        if name.suffix == ".ckpt" or name.name in ("eval.json", "steps.csv", "images.csv"):
            assert (plain / name).read_bytes() == (run / name).read_bytes(), name
    assert figures(plain) == figures(run) and manifest(plain).keys() == manifest(run).keys()


def test_without_it_nothing_of_it_is_imported(three, inside, monkeypatch):
    monkeypatch.delattr(mslab, "eventlog", raising=False)
    for name in ("mslab.training.eventlog", "tensorboardX"):
        monkeypatch.setitem(sys.modules, name, None)  # importing it would fail
    with pytest.raises(ImportError):
        mslab.train(three | {"log_to": "tensorboard", "epochs": 1})
    mslab.train(three | {"epochs": 1})


def test_a_stop_and_a_resume_leave_each_epoch_once(three, inside):
    """Stopped after an epoch that last.ckpt does not have, in the middle of a record."""
    config = three | {"epochs": 4, "checkpoint_frequency": 2, "log_to": "tensorboard"}
    with stopped_after(3):
        mslab.train(config | {"stages": [[1, 8, 1]], "image_size": 16})
    run = newest()
    (first,) = (run / "tensorboard").iterdir()
    with first.open("ab") as file:
        file.write(struct.pack("<Q", 999) + b"torn")
    start.resume(run)
    for tag in ("loss/train", "accuracy/val", "head/classifier.weight", "first_batch", "precision_recall/002 c"):
        assert epochs_of(run, tag) == [1, 2, 3, 4], tag
    for step, value in series(run)["loss/train"]:
        assert f"{value.simple_value:.6g}" == history(run)[step - 1]["train_loss"]
    starts = [event.step for event in events(run) if event.HasField("session_log")]
    assert starts == [1, 3]  # here a running TensorBoard forgets the later steps


def test_a_run_killed_between_its_figures_and_its_end_has_them_once(trained, squares, inside):
    folder = trained(logged(squares)).run
    (folder / "manifest.json").write_text(json.dumps(manifest(folder) | {"status": "running", "metrics": {}}))
    start.resume(folder)
    assert len(series(folder)["final/val_acc"]) == 1 and epochs_of(folder) == [1, 2, 3]


def test_an_epoch_that_is_rolled_back_is_there_once(inside, three, monkeypatch):
    """The network's loss is not finite once; what was counted before that does not count twice."""
    measure, evaluations = measuring.measure, {"call": 2}

    def once(*arguments):
        figures = measure(*arguments)
        evaluations["call"] -= 1
        return figures | {"loss": float("nan")} if evaluations["call"] == 0 else figures

    monkeypatch.setattr(measuring, "measure", once)
    run = mslab.train(three | LOGGED | {"on_nan": "rollback"}).run
    assert len(manifest(run)["rollbacks"]) == 1
    assert epochs_of(run) == epochs_of(run, "first_batch") == [1, 2, 3]
    for _, value in series(run)["precision_recall/000 a"]:
        assert np.reshape(value.tensor.float_val, (6, 127))[[0, 3]].sum(axis=0).tolist() == [7] * 127  # tp + fn


def test_features_have_no_images_and_frozen_layers_no_histogram(inside, two, parent, capsys):
    run = mslab.transfer(two | LOGGED | {"freeze": "all"}, backbone=parent).run
    records = series(run)
    assert (
        "first_batch" not in records
        and "stem/conv1.weight" not in records
        and len(records["head/classifier.bias"]) == 3
    )
    assert log(run).count("no images: the batches are features of the frozen backbone") == 1
    assert epochs_of(run, "precision_recall/001 right") == [1, 2, 3]


HOSTILE = ["a\nb", "[red]x[/red]", "\x1b[2Jc", "…" * 60, "名前 d", "e\u202ef", "g/h", "\udcff"]


def test_names_from_outside_are_safe_in_tags():
    counts = np.zeros((2, len(HOSTILE), 127))
    tags = [summary.value[0].tag for summary in eventlog.curves(counts, HOSTILE)]
    assert tags[0] == "precision_recall/000 a_b" and tags[4] == "precision_recall/004 名前_d"
    assert len(set(tags)) == len(HOSTILE) and all(tag.isprintable() and len(tag) < 90 for tag in tags)
    assert len(eventlog.safe_tag("x" * 10_000)) == 60


def test_a_class_with_a_hostile_name_is_trained_and_logged(inside):
    for seed, split in enumerate(("train", "val")):
        draw(inside / split, ["a\nb", "[red]x\x1b[2J"], 8, seed)
    run = mslab.train(settings(inside, 2, epochs=1, log_to="tensorboard")).run
    assert {tag for tag in series(run) if "recall" in tag} == {
        "precision_recall/000 _red_x__2J",
        "precision_recall/001 a_b",
    }


def test_of_many_classes_the_first_have_curves(inside, three, capsys):
    config = load_settings(three | LOGGED)
    folder = RunFolder.create("many", config, check_dataset(config.train_data, config.val_data))
    folder.manifest["class_names"] = [f"class {number}" for number in range(1000)]
    event_log = eventlog.EventLog(folder, ALONE)
    rng = np.random.default_rng(0)
    event_log.batch_evaluated(rng.normal(size=(64, 1000)).astype(np.float32), rng.integers(0, 1000, 64))
    assert event_log.counts.shape == (2, 100, 127) and event_log.counts.sum() == 64 * 100
    event_log.batch_evaluated(
        np.full((2, 1000), np.nan, np.float32), np.array([0, 1])
    )  # the loop stops there with its own message
    assert event_log.counts.sum() == 64 * 100


def test_a_full_disk_and_a_link_are_reported(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with full_after(10), pytest.raises(RunError, match=r"events could not be written: File too large") as caught:
        eventlog.put(tmp_path / "events", [eventlog.version()], "ab")
    with pytest.raises(RunError, match=r"link could not be written: "):
        eventlog.put(tmp_path / "link", [eventlog.version()], "wb")
    assert not (tmp_path / "elsewhere").exists()
    assert "mslab train --resume RUN continues" in str(caught.value)


def test_weights_that_are_not_finite_are_left_out_of_a_histogram():
    import mindspore as ms
    from mindspore import nn

    layer = nn.Dense(2, 2)
    layer.weight.set_data(ms.Tensor(np.array([[1, np.nan], [np.inf, 2]], np.float32)))
    layer.bias.set_data(ms.Tensor(np.full(2, np.nan, np.float32)))
    (records,) = eventlog.histograms(layer)
    assert records.value[0].histo.num == 2 and records.value[0].histo.max == 2
