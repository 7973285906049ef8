"""The loop and the run folder, in real runs on small images."""

import json
import shutil
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from helpers import STAGES, draw, history, log, manifest, newest, settings, stopped_after, weights
from trainings import compiled, plain, same_training

import mslab
from mslab import checkpoint, files, model
from mslab.check import check_dataset
from mslab.config import load_settings
from mslab.data import batching, sources
from mslab.errors import ConfigError, DatasetError, RunError, TrainingError
from mslab.evaluation import measuring
from mslab.runtime import devices
from mslab.training import learning_rates, optimizers, start


@pytest.fixture(scope="module")
def run(squares, finished):
    """A finished run, which many tests look at. Not to be changed."""
    return finished(plain(squares))


@pytest.fixture(autouse=True)
def device():
    """Reset the mode that the previous test has set."""
    devices.start("cpu", "pynative", 1)


@pytest.mark.parametrize("settled", [plain, compiled])
def test_the_run_folder_has_the_documented_files(settled, squares, finished):
    result = finished(settled(squares))
    folder = result.run
    assert folder.parent.name == "runs" and folder.name.startswith("run-20")
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    saved = {name for name in names if "epoch-" in name}
    assert len(saved) == 2
    assert names - saved == {
        *("config.yaml", "manifest.json", "images.csv", "steps.csv", "history.csv", "eval.json", "train.log"),
        *(f"checkpoints/{name}.ckpt" for name in ("best", "last", "best_backbone")),
    }
    assert list(history(folder)[0]) == (
        ["epoch", "step", "lr", "train_loss", "train_acc", "val_loss", "val_acc", "images_per_s", "seconds"]
    )
    assert [(row["epoch"], row["step"]) for row in history(folder)] == [("1", "6"), ("2", "12"), ("3", "18")]
    content = manifest(folder)
    assert content["status"] == "done" and content["exit_status"] == 0 and content["class_names"] == ["a", "b", "c"]
    assert content["data"]["fingerprint"] == check_dataset(squares / "three/train", squares / "three/val").fingerprint
    assert content["versions"]["mindspore"] and content["device"] == "cpu" and content["seed"] == 1
    for name, digest in content["artifacts"].items():
        assert files.sha256(folder / name) == digest
    assert content["metrics"]["val_acc"] == result.val_acc and content["metrics"]["linear_acc"] == 1.0
    assert load_settings(folder / "config.yaml").stages == STAGES


def test_it_learns(run):
    rows = history(run.run)
    assert float(rows[-1]["train_loss"]) < 0.7 * float(rows[0]["train_loss"])


def test_pynative_learns_what_a_graph_does(squares, finished):
    graph, lines = (history(finished(compiled(squares) | {"mode": mode}).run) for mode in ("graph", "pynative"))
    assert float(graph[0]["train_loss"]) == pytest.approx(float(lines[0]["train_loss"]), rel=1e-3)


def test_best_is_the_highest_val_acc_and_eval_json_is_of_it(run):
    best = max(history(run.run), key=lambda row: float(row["val_acc"]))
    content = json.loads((run.run / "eval.json").read_text())
    assert run.best_epoch == int(best["epoch"]) and content["accuracy"] == pytest.approx(run.val_acc)
    again = mslab.evaluate(run.run, load_settings(run.run / "config.yaml").val_data)
    assert again["accuracy"] == content["accuracy"] and again["confusion"] == content["confusion"]
    assert set(content) >= {"data", "checkpoint", "images", "accuracy", "class_names", "per_class", "confusion"}


def test_checkpoints_have_classes_table_and_normalisation(run):
    info = checkpoint.read(run.run / "checkpoints" / "best.ckpt").info
    assert info["class_names"] == ["a", "b", "c"] and info["stages"] == STAGES and info["image_size"] == 32
    assert info["profile"] == model.PROFILE and info["mean"] == [0.485, 0.456, 0.406]
    text = weights(run.run)
    assert b"/\0\0\0t\0\0\0m\0\0\0p" not in text and b"2\0\0\0" + b"0\0\0\0" + b"2\0\0\0" + b"6" not in text


def test_the_log_has_the_first_batch_and_the_linear_models_accuracy(run):
    assert "first batch: images float32 (8, 3, 32, 32)" in log(run.run) and "labels int32 (8,)" in log(run.run)
    assert "a linear model of 8x8 thumbnails has 1.000" in log(run.run)


def test_weight_decay_excludes_batchnorm_and_biases():
    network = model.ResNet50(model.resnet50_backbone(STAGES), model.resnet50_head(3, 32))
    settings = {"train_data": "a", "val_data": "b", "class_num": 3, "weight_decay": 0.5, "momentum": 0.0}
    optimizer = optimizers.build(network, np.full(4, 0.1, np.float32), load_settings(settings))
    before = {p.name: p.asnumpy().copy() for p in network.trainable_params()}
    optimizer(tuple(ms.ops.zeros_like(p) for p in optimizer.parameters))  # no gradient: only decay moves a weight
    for parameter in network.trainable_params():
        moved = not np.array_equal(parameter.asnumpy(), before[parameter.name])
        decayed = parameter.name.endswith(
            ("conv1.weight", "conv2.weight", "conv3.weight", "0.weight", "classifier.weight")
        )
        assert moved == decayed, parameter.name
    assert np.allclose(network.backbone.conv1.weight.asnumpy(), before["conv1.weight"] * (1 - 0.1 * 0.5))


@pytest.mark.parametrize(
    "rates,saved",
    [
        ({"warmup_epochs": 3, "lr_init": 0.001, "lr_max": 100}, "none: no epoch was completed"),
        ({"learning_rate_strategy": "1:0.001,4:100"}, "best.ckpt, of epoch 1"),
    ],
)
def test_a_loss_that_explodes_stops_with_step_rate_and_fix_and_has_saved_the_best(inside, three, rates, saved):
    with pytest.raises(TrainingError) as caught:
        mslab.train(three | {"epochs": 4, "momentum": 0.99, "weight_decay": 1} | rates)
    text = str(caught.value)
    assert "The loss became" in text and "step" in text and "(lr " in text and "lower lr_max (now 100)" in text
    assert saved in text
    folder = newest()
    assert manifest(folder)["status"] == "failed" and manifest(folder)["exit_status"] == 1
    assert "Traceback" in log(folder)
    best = folder / "checkpoints/best.ckpt"
    assert best.exists() == (folder / "history.csv").exists() == saved.startswith("best")
    if best.exists():
        assert all(np.isfinite(v).all() for v in checkpoint.read(best).tensors.values())


def test_adam_learns_too_and_momentum_beside_it_is_reported(inside, three):
    with pytest.raises(ConfigError, match=r"momentum .*does nothing here"):
        load_settings(three | {"optimizer": "adam"}, ["momentum=0.5"])
    run = Path(mslab.train(three | {"optimizer": "adam", "lr_init": 1e-4, "lr_max": 1e-3}).run)
    rows = history(run)
    assert float(rows[1]["train_loss"]) < float(rows[0]["train_loss"])
    assert any(name.startswith("training.moment2.") for name in checkpoint.read(run / "checkpoints/last.ckpt").tensors)
    loaded = mslab.load_network(run / "checkpoints" / "last.ckpt")  # Adam's own tensors are left out
    assert loaded.class_names == ["a", "b", "c"]


def test_a_schedule_of_another_length_is_refused():
    with pytest.raises(TrainingError, match="has 5 learning rates, the run 6 steps"):
        learning_rates.check_rates(np.ones(5), 6)


def test_wrong_data_stops_before_a_run_folder_is_made(inside, three):
    shutil.copytree(three["train_data"], "stray")
    Path("stray/.checkpoint").mkdir()
    with pytest.raises(DatasetError, match=r"stray-folder"):
        mslab.train(three | {"train_data": "stray"})
    with pytest.raises(DatasetError, match="class_num is 9"):
        mslab.train(three | {"class_num": 9})
    assert not (inside / "runs").exists()


def test_a_second_run_in_the_same_second_gets_a_number(inside, three, monkeypatch):
    from mslab.runs import folder

    class Frozen(folder.datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(2026, 1, 2, 3, 4, 5, tzinfo=tz)

    monkeypatch.setattr(folder, "datetime", Frozen)
    report = check_dataset(three["train_data"], three["val_data"])
    paths = [folder.RunFolder.create("x", load_settings(three), report, None).path for _ in range(3)]
    assert [path.name for path in paths] == ["x-20260102-030405", "x-20260102-030405-2", "x-20260102-030405-3"]


def test_the_last_batch_of_evaluation_is_counted_and_compiles_nothing(run, squares):
    loaded = measuring.load_network(run.run)
    images = sources.images_of(check_dataset(squares / "three"), "train")  # 48 images: 10 a batch leaves 8
    shapes = []
    network = loaded.network

    class Watched(ms.nn.Cell):
        def construct(self, x):
            return network(x)

        def __call__(self, x):
            shapes.append(x.shape)
            return network(x)

    batches = batching.eval_batches(images, 32, loaded.info["mean"], loaded.info["std"], 10)
    logits, labels = map(np.concatenate, zip(*measuring.predict_logits(Watched(), batches, 10), strict=True))
    assert set(shapes) == {(10, 3, 32, 32)} and logits.shape == (48, 3) and len(labels) == 48
    full_batch = batching.eval_batches(images, 32, loaded.info["mean"], loaded.info["std"], 48)
    assert np.allclose(next(measuring.predict_logits(network, full_batch, 48))[0], logits, atol=1e-4)


def test_load_network_gives_what_is_needed_to_use_it(run, squares):
    loaded = mslab.load_network(run.run)
    assert loaded.class_names == ["a", "b", "c"]
    file = squares / "three" / "val" / "b" / "000.png"
    x = loaded.preprocess(file)
    assert x.shape == (1, 3, 32, 32) and x.dtype == np.float32
    assert np.array_equal(loaded.preprocess([file, file.read_bytes()]), np.concatenate([x, x]))
    logits = loaded.network(ms.Tensor(x)).asnumpy()
    assert logits.shape == (1, 3) and not loaded.network.training
    assert mslab.load_network(run.run / "checkpoints" / "last.ckpt").class_names == [
        "a",
        "b",
        "c",
    ]  # optimizer left out


def test_an_edited_table_is_followed_by_train_eval_and_transfer_and_an_old_file_has_its_own(
    inside, three, two, monkeypatch
):
    table = [[1, 8, 1], [1, 12, 2], [1, 16, 2]]
    monkeypatch.setattr(
        model, "STAGES", [(1, 8, 1), (1, 12, 2), (1, 16, 2)]
    )  # the line in model.py that a student edits
    edited = mslab.train({key: value for key, value in three.items() if key != "stages"} | {"epochs": 1})
    monkeypatch.undo()
    monkeypatch.chdir(inside)
    assert load_settings(Path(edited.run) / "config.yaml").stages == table
    assert mslab.evaluate(edited.run, three["val_data"])["images"] == 21  # model.STAGES is another table now
    moved = mslab.transfer(two | {"stages": None, "epochs": 1}, backbone=edited.run)
    assert load_settings(Path(moved.run) / "config.yaml").stages == table


def test_evaluating_on_other_classes_is_refused(run, squares, tmp_path, caplog):
    with pytest.raises(DatasetError, match=r"has the classes left, right; .* has a, b, c"):
        mslab.evaluate(run.run, squares / "two")
    assert "measuring the test images; data_root=" in caplog.text  # as the command says it
    draw(tmp_path / "renamed", ["a", "b", "d"], 2)
    with pytest.raises(DatasetError, match=r"has the classes a, b, d"):
        mslab.evaluate(run.run, tmp_path / "renamed")


def test_resume_equals_the_uninterrupted_run(run, trained, inside, squares):
    """After a kill that left history.csv a row ahead of last.ckpt, best.ckpt of a later epoch, half a file."""
    broken = trained(plain(squares)).run
    killed = manifest(broken) | {"status": "running", "exit_status": None, "end": None, "saved": None, "artifacts": {}}
    (broken / "manifest.json").write_text(json.dumps(killed))
    rows = (broken / "history.csv").read_text().splitlines(keepends=True)
    (broken / "history.csv").write_text("".join(rows[:3]))
    (broken / "checkpoints" / ".last.ckpt.0123456789abcdef.tmp").write_bytes(b"half")
    with stopped_after(1):
        mslab.train(plain(squares), name="stopped")
    shutil.copy(newest("stopped-*") / "checkpoints" / "last.ckpt", broken / "checkpoints" / "last.ckpt")
    result = start.resume(broken)
    assert result.best_epoch == run.best_epoch
    same_training(broken, run.run)
    assert len(list((broken / "checkpoints").iterdir())) == 5  # best, last, best_backbone, two of max_to_keep


@pytest.mark.parametrize("linked", ["train.log", "checkpoints"])
def test_a_resume_writes_nothing_through_a_link_in_the_run(trained, inside, squares, linked):
    folder, private = trained(plain(squares)).run, inside / "private"
    killed = manifest(folder) | {"status": "running", "exit_status": None, "end": None}
    (folder / "manifest.json").write_text(json.dumps(killed))
    (folder / linked).rename(private)
    (folder / linked).symlink_to(private)
    before = private.read_text() if private.is_file() else sorted(private.iterdir())
    with pytest.raises(RunError, match=rf"{linked}.* (is a link|cannot be written: it is a link)"):
        start.resume(folder)
    assert before == (private.read_text() if private.is_file() else sorted(private.iterdir()))


def test_a_run_killed_after_its_last_epoch_is_completed(run, trained, inside, squares):
    folder = trained(plain(squares)).run
    original = manifest(folder)
    (folder / "manifest.json").write_text(
        json.dumps(original | {"status": "running", "exit_status": None, "end": None, "metrics": {}, "artifacts": {}})
    )
    result = start.resume(folder)
    after = manifest(folder)
    assert after["status"] == "done" and after["metrics"] == original["metrics"]
    assert after["artifacts"] == original["artifacts"]
    assert result.val_acc == run.val_acc and result.linear_acc == run.linear_acc


def test_a_tie_has_the_same_best_epoch_after_a_resume(inside, squares):
    """history.csv has six digits: the same figures are compared before and after a stop."""
    from mslab.runs import folder

    config = load_settings(settings(squares / "three", 3))
    original = folder.RunFolder(inside / "a", config, {"artifacts": {}})
    (inside / "a" / "checkpoints").mkdir(parents=True)
    network = model.ResNet50(model.resnet50_backbone(STAGES), model.resnet50_head(3, 32))
    for epoch, accuracy in enumerate([20 / 24, 0.5, 20 / 24], 1):
        row = dict.fromkeys(folder.COLUMNS, 0.0) | {"epoch": epoch, "step": epoch, "val_acc": accuracy}
        original.record_epoch(row, {"loss": 1.0, "accuracy": accuracy}, network)
        original.commit(network.parameters_dict())
    resumed = folder.RunFolder(inside / "a", config, {"artifacts": {}})
    resumed.history = folder.read_history(inside / "a" / "history.csv")
    assert resumed.history[0]["val_acc"] == resumed.history[2]["val_acc"] == original.best["val_acc"]
    assert resumed.best["epoch"] == original.best["epoch"] == 1


def test_resume_with_other_images_is_refused(trained, inside, squares):
    copy = trained(plain(squares)).run
    shutil.copytree(squares / "three", "data")
    (inside / "data/train/a/000.png").write_bytes((inside / "data/train/a/001.png").read_bytes())
    killed = manifest(copy) | {"status": "running", "exit_status": None, "end": None}
    (copy / "manifest.json").write_text(json.dumps(killed))
    text = (copy / "config.yaml").read_text().replace(str(squares / "three"), "data")
    (copy / "config.yaml").write_text(text)
    with pytest.raises(DatasetError, match=r"The images differ from those"):
        start.resume(copy)
