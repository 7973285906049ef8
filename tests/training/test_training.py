"""The loop and the run folder, for real on small images."""

import csv
import json
import shutil
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from helpers import STAGES, draw, settings

import mslab
from mslab import checkpoint, data, evaluation, model, optimizers, training
from mslab.check import check_dataset
from mslab.config import load_config
from mslab.errors import ConfigError, DatasetError, TrainingError


@pytest.fixture(scope="module")
def run(squares, tmp_path_factory):
    """One finished run, which many tests look at."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("run"))
        result = mslab.train(settings(squares / "three", 3, epochs=4, max_to_keep=2))
        return Path(result.run).resolve(), result


def history(run):
    with (run / "history.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def manifest(run):
    return json.loads((run / "manifest.json").read_text())


def test_the_run_folder_holds_what_design_says(run, squares):
    folder, result = run
    assert folder.parent.name == "runs" and folder.name.startswith("run-20")
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    kept = {name for name in names if "epoch-" in name}
    assert len(kept) == 2
    assert names - kept == {
        *("config.yaml", "manifest.json", "images.csv", "steps.csv", "history.csv", "eval.json", "train.log"),
        *(f"checkpoints/{name}.ckpt" for name in ("best", "last", "best_backbone")),
    }
    assert list(history(folder)[0]) == (
        ["epoch", "step", "lr", "train_loss", "train_acc", "val_loss", "val_acc", "images_per_s", "seconds"]
    )
    assert [row["epoch"] for row in history(folder)] == ["1", "2", "3", "4"] and history(folder)[1]["step"] == "12"
    content = manifest(folder)
    assert content["status"] == "done" and content["exit_status"] == 0 and content["class_names"] == ["a", "b", "c"]
    assert content["data"]["fingerprint"] == check_dataset(squares / "three/train", squares / "three/val").fingerprint
    assert content["versions"]["mindspore"] and content["device"] == "cpu" and content["seed"] == 1
    for name, digest in content["artifacts"].items():
        assert checkpoint.sha256(folder / name) == digest
    assert content["metrics"]["val_acc"] == result.val_acc and content["metrics"]["linear_acc"] == 1.0
    assert load_config(folder / "config.yaml").stages == STAGES


def test_it_learns(run):
    rows = history(run[0])
    assert float(rows[-1]["train_loss"]) < 0.7 * float(rows[0]["train_loss"])


def test_best_is_the_highest_val_acc_and_eval_json_tells_of_it(run):
    folder, result = run
    best = max(history(folder), key=lambda row: float(row["val_acc"]))
    content = json.loads((folder / "eval.json").read_text())
    assert result.best_epoch == int(best["epoch"]) and content["accuracy"] == pytest.approx(result.val_acc)
    again = mslab.evaluate(folder, load_config(folder / "config.yaml").val_data)
    assert again["accuracy"] == content["accuracy"] and again["confusion"] == content["confusion"]
    assert set(content) >= {"data", "checkpoint", "images", "accuracy", "class_names", "per_class", "confusion"}


def test_checkpoints_tell_classes_table_and_normalisation(run):
    info = checkpoint.read(run[0] / "checkpoints" / "best.ckpt").info
    assert info["class_names"] == ["a", "b", "c"] and info["stages"] == STAGES and info["image_size"] == 32
    assert info["profile"] == model.PROFILE and info["mean"] == [0.485, 0.456, 0.406]
    text = (run[0] / "checkpoints" / "best.ckpt").read_bytes()
    assert b"/\0\0\0t\0\0\0m\0\0\0p" not in text and b"2\0\0\0" + b"0\0\0\0" + b"2\0\0\0" + b"6" not in text


def test_weight_decay_is_kept_off_batchnorm_and_biases():
    network = model.ResNet50(model.resnet50_backbone(STAGES), model.resnet50_head(3, 32))
    settings = {"train_data": "a", "val_data": "b", "class_num": 3, "weight_decay": 0.5, "momentum": 0.0}
    optimizer = optimizers.build(network, np.full(4, 0.1, np.float32), load_config(settings))
    before = {p.name: p.asnumpy().copy() for p in network.trainable_params()}
    optimizer(tuple(ms.ops.zeros_like(p) for p in optimizer.parameters))  # no gradient: only decay moves a weight
    for parameter in network.trainable_params():
        moved = not np.array_equal(parameter.asnumpy(), before[parameter.name])
        decayed = parameter.name.endswith(
            ("conv1.weight", "conv2.weight", "conv3.weight", "0.weight", "classifier.weight")
        )
        assert moved == decayed, parameter.name
    assert np.allclose(network.backbone.conv1.weight.asnumpy(), before["conv1.weight"] * (1 - 0.1 * 0.5))


def test_a_loss_that_explodes_stops_with_step_rate_and_fix_and_keeps_the_last_good(inside, three):
    config = three | {
        "epochs": 4,
        "warmup_epochs": 3,
        "lr_init": 0.001,
        "lr_max": 100,
        "momentum": 0.99,
        "weight_decay": 1,
    }
    with pytest.raises(TrainingError) as caught:
        mslab.train(config)
    text = str(caught.value)
    assert "The loss became" in text and "step" in text and "(lr " in text and "lower lr_max (now" in text
    folder = next((inside / "runs").iterdir())
    assert manifest(folder)["status"] == "failed" and manifest(folder)["exit_status"] == 1
    assert "Traceback" in (folder / "train.log").read_text()
    if (folder / "history.csv").exists():
        assert "best.ckpt, of epoch" in text
        assert all(np.isfinite(v).all() for v in checkpoint.read(folder / "checkpoints/best.ckpt").tensors.values())
    else:
        assert "none: no epoch was completed" in text


def test_adam_learns_too_and_momentum_beside_it_is_said(inside, three):
    with pytest.raises(ConfigError, match=r"momentum .*does nothing here"):
        load_config(three | {"optimizer": "adam"}, ["momentum=0.5"])
    result = mslab.train(three | {"optimizer": "adam", "lr_init": 1e-4, "lr_max": 1e-3})
    rows = history(Path(result.run))
    assert float(rows[1]["train_loss"]) < float(rows[0]["train_loss"])
    assert any(
        name.startswith("moment2.") for name in checkpoint.read(Path(result.run) / "checkpoints/last.ckpt").tensors
    )
    loaded = mslab.load_network(Path(result.run) / "checkpoints" / "last.ckpt")  # Adam's own tensors are left out
    assert loaded.class_names == ["a", "b", "c"]


def test_a_schedule_of_another_length_is_refused():
    with pytest.raises(TrainingError, match="has 5 learning rates, the run 6 steps"):
        training.check_rates(np.ones(5), 6)


def test_freezing_from_scratch_is_refused(inside, three):
    with pytest.raises(ConfigError, match="freeze: all in training from scratch"):
        mslab.train(three | {"freeze": "all"})
    assert not (inside / "runs").exists()


def test_wrong_data_stops_before_a_run_folder_is_made(inside, three):
    shutil.copytree(three["train_data"], "stray")
    Path("stray/.checkpoint").mkdir()
    with pytest.raises(DatasetError, match=r"stray-folder"):
        mslab.train(three | {"train_data": "stray"})
    with pytest.raises(DatasetError, match="class_num says 9"):
        mslab.train(three | {"class_num": 9})
    assert not (inside / "runs").exists()


def test_a_second_run_in_the_same_second_gets_a_number(inside, three, monkeypatch):
    from mslab import runfolder

    class Frozen(runfolder.datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(2026, 1, 2, 3, 4, 5, tzinfo=tz)

    monkeypatch.setattr(runfolder, "datetime", Frozen)
    report = check_dataset(three["train_data"], three["val_data"])
    paths = [runfolder.Run.create("x", load_config(three), report, None).path for _ in range(3)]
    assert [path.name for path in paths] == ["x-20260102-030405", "x-20260102-030405-2", "x-20260102-030405-3"]


@pytest.mark.slow
def test_pynative_learns_the_same(inside, three):
    graph, eager = mslab.train(three), mslab.train(three | {"mode": "pynative"})
    first, second = history(Path(graph.run))[0], history(Path(eager.run))[0]
    assert float(first["train_loss"]) == pytest.approx(float(second["train_loss"]), rel=1e-3)


def test_the_last_batch_of_evaluation_is_counted_and_compiles_nothing(run, squares):
    loaded = evaluation.load_network(run[0])
    images = evaluation.images_of(check_dataset(squares / "three"), "train")  # 48 images: 10 a batch leaves 8
    shapes = []
    network = loaded.network

    class Watched(ms.nn.Cell):
        def construct(self, x):
            return network(x)

        def __call__(self, x):
            shapes.append(x.shape)
            return network(x)

    batches = data.eval_batches(images, 32, loaded.info["mean"], loaded.info["std"], 10)
    logits, labels = map(np.concatenate, zip(*evaluation.predict_logits(Watched(), batches, 10), strict=True))
    assert set(shapes) == {(10, 3, 32, 32)} and logits.shape == (48, 3) and len(labels) == 48
    one = data.eval_batches(images, 32, loaded.info["mean"], loaded.info["std"], 48)
    assert np.allclose(next(evaluation.predict_logits(network, one, 48))[0], logits, atol=1e-4)


def test_load_network_gives_what_is_needed_to_use_it(run, squares):
    loaded = mslab.load_network(run[0])
    assert loaded.class_names == ["a", "b", "c"]
    file = squares / "three" / "val" / "b" / "000.png"
    x = loaded.preprocess(file)
    assert x.shape == (1, 3, 32, 32) and x.dtype == np.float32
    assert np.array_equal(loaded.preprocess([file, file.read_bytes()]), np.concatenate([x, x]))
    logits = loaded.network(ms.Tensor(x)).asnumpy()
    assert logits.shape == (1, 3) and not loaded.network.training
    assert mslab.load_network(run[0] / "checkpoints" / "last.ckpt").class_names == ["a", "b", "c"]  # optimizer left out


@pytest.mark.slow
def test_an_edited_table_is_followed_by_train_eval_and_transfer_and_an_old_file_keeps_its_own(
    inside, three, two, monkeypatch
):
    table = [[1, 8, 1], [1, 12, 2], [1, 16, 2]]
    monkeypatch.setattr(
        model, "STAGES", [(1, 8, 1), (1, 12, 2), (1, 16, 2)]
    )  # the line in model.py that a student edits
    edited = mslab.train({key: value for key, value in three.items() if key != "stages"} | {"epochs": 1})
    monkeypatch.undo()
    monkeypatch.chdir(inside)
    assert load_config(Path(edited.run) / "config.yaml").stages == table
    assert mslab.evaluate(edited.run, three["val_data"])["images"] == 21  # model.STAGES is another table now
    moved = mslab.transfer(two | {"stages": None, "epochs": 1}, backbone=edited.run)
    assert load_config(Path(moved.run) / "config.yaml").stages == table


def test_evaluating_on_other_classes_is_refused(run, squares, tmp_path):
    with pytest.raises(DatasetError, match=r"has the classes left, right; .* knows a, b, c"):
        mslab.evaluate(run[0], squares / "two" / "val")
    draw(tmp_path / "renamed", ["a", "b", "d"], 2)
    with pytest.raises(DatasetError, match=r"has the classes a, b, d"):
        mslab.evaluate(run[0], tmp_path / "renamed")


def test_resume_equals_the_uninterrupted_run(run, inside):
    broken = inside / "broken"
    shutil.copytree(run[0], broken)
    # as a kill in the third epoch would leave it: history one row ahead of last.ckpt, best.ckpt of a later epoch
    rows = (broken / "history.csv").read_text().splitlines(keepends=True)
    (broken / "history.csv").write_text("".join(rows[:4]))
    config = load_config(broken / "config.yaml")
    state = partial(config, 2, inside)
    shutil.copy(state, broken / "checkpoints" / "last.ckpt")
    result = training.resume(broken)
    assert result.best_epoch == run[1].best_epoch
    for name in ("best.ckpt", "last.ckpt", "best_backbone.ckpt"):
        assert (broken / "checkpoints" / name).read_bytes() == (run[0] / "checkpoints" / name).read_bytes(), name
    strip = [{k: v for k, v in row.items() if k not in ("images_per_s", "seconds")} for row in history(broken)]
    assert strip == [{k: v for k, v in row.items() if k not in ("images_per_s", "seconds")} for row in history(run[0])]


def partial(config, epochs, folder):
    """last.ckpt as it is after `epochs` of the same run: stopped by a real Ctrl-C flag after them."""
    stopped = {}

    class Stop(Exception):
        pass

    from mslab.runfolder import Run

    original = Run.end_epoch

    def end_epoch(self, *arguments):
        original(self, *arguments)
        stopped["run"] = self.path
        if self.epoch == epochs:
            raise Stop

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "end_epoch", end_epoch)
        with pytest.raises(Stop):
            mslab.train(config)
    return stopped["run"] / "checkpoints" / "last.ckpt"


def test_a_run_killed_after_its_last_epoch_is_completed(run, inside):
    folder = Path(shutil.copytree(run[0], "killed"))
    whole = manifest(folder)
    (folder / "manifest.json").write_text(
        json.dumps(whole | {"status": "running", "exit_status": None, "end": None, "metrics": {}, "artifacts": {}})
    )
    result = training.resume(folder)
    after = manifest(folder)
    assert (
        after["status"] == "done" and after["metrics"] == whole["metrics"] and after["artifacts"] == whole["artifacts"]
    )
    assert result.val_acc == run[1].val_acc and result.linear_acc == run[1].linear_acc


def test_a_tie_has_the_same_best_epoch_after_a_resume(run, inside, squares):
    """history.csv keeps six digits: what is compared before a stop is what is compared after it."""
    from mslab import runfolder

    config = load_config(settings(squares / "three", 3))
    whole = runfolder.Run(inside / "a", config, {"artifacts": {}})
    (inside / "a" / "checkpoints").mkdir(parents=True)
    network = model.ResNet50(model.resnet50_backbone(STAGES), model.resnet50_head(3, 32))
    for epoch, accuracy in enumerate([20 / 24, 0.5, 20 / 24], 1):
        row = dict.fromkeys(runfolder.COLUMNS, 0.0) | {"epoch": epoch, "step": epoch, "val_acc": accuracy}
        whole.keep(row, network, {"loss": 1.0, "accuracy": accuracy})
        whole.end_epoch(network.parameters_dict())
    rows = history(inside / "a")
    assert whole.best["epoch"] == 1 and float(rows[0]["val_acc"]) == float(rows[2]["val_acc"]) == whole.best["val_acc"]


def test_resume_with_other_images_is_refused(run, inside, squares):
    shutil.copytree(run[0], "copy")
    shutil.copytree(squares / "three", "data")
    (inside / "data/train/a/000.png").write_bytes((inside / "data/train/a/001.png").read_bytes())
    text = (
        Path("copy/config.yaml").read_text().replace(str(squares / "three"), "data").replace("epochs: 4", "epochs: 9")
    )
    Path("copy/config.yaml").write_text(text)
    with pytest.raises(DatasetError, match=r"The images are not those"):
        training.resume("copy")
