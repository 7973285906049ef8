"""Each guard fires where its trouble is provoked, says what helps, and stays silent in a normal run."""

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
from helpers import PROJECT, STAGES, settings
from PIL import Image

import mslab
from mslab import guards
from mslab.guards import Watch

NAMES = ["a", "b", "c"]


def watch(told=()):
    said = {}
    return Watch(NAMES, said.__setitem__, told), said


def row(epoch, train_loss=1.0, train_acc=0.5, val_loss=1.0, val_acc=0.5, lr=0.1, seconds=1.0):
    return locals()


def warnings(run):
    return {w["code"]: w["text"] for w in json.loads((Path(run) / "manifest.json").read_text())["warnings"]}


def test_a_normal_run_says_nothing(inside, three):
    run = mslab.train(three | {"epochs": 4, "lr_max": 0.02})
    assert run.val_acc == 1 and warnings(run.run) == {}


def test_a_loss_that_explodes_is_said_before_it_is_not_finite(inside, three):
    try:
        run = mslab.train(three | {"lr_init": 30, "lr_max": 60, "epochs": 4, "warmup_epochs": 0.5}).run
    except mslab.errors.TrainingError:
        run = next(Path("runs").iterdir())
    text = warnings(run)["loss-explodes"]
    assert (
        "lower lr_max to a tenth" in text
        and "clip_grad_norm=1" in text
        and "warning: the loss explodes" in (Path(run) / "train.log").read_text()
    )


def test_a_rate_of_nearly_nothing(inside, three):
    """The loss does not move, and the head stays at its beginning, where one class wins everywhere."""
    found = warnings(mslab.train(three | {"lr_init": 1e-9, "lr_max": 1e-9, "epochs": 3}).run)
    text = found["loss-still"]
    assert "at most 1e-09 so far" in text and "lr-find" in text and "mslab check" in text
    text = found["one-answer"]
    assert "all 21 validation images are taken for" in text and "label_balance=true" in text


def test_labels_that_are_all_the_same():
    one, said = watch()
    one.step(0, 1.0, np.array([1, 1]), 0.1)
    one.labels()
    assert "every label of this epoch was b" in said["one-label"]
    other, said = watch()
    other.step(0, 1.0, np.array([[0.9, 0.1, 0], [0, 0.2, 0.8]]), 0.1)
    other.labels()
    assert said == {}


def test_chance_and_not_a_bad_start():
    one, said = watch()
    one.chance([row(n, train_acc=0.34, val_acc=0.33) for n in (1, 2)])
    one.chance([row(1, train_acc=0.34, val_acc=0.33), row(2, train_acc=0.5, val_acc=0.33), row(3, train_acc=0.6)])
    assert said == {}
    one.chance([row(n, train_acc=0.34, val_acc=0.33) for n in (1, 2, 3)])
    assert "what guessing among 3 classes gives" in said["chance"]


def test_overfitting_and_not_a_gap_alone():
    one, said = watch()
    one.overfitting([row(n, train_acc=0.95, val_acc=0.6, val_loss=1.0) for n in (1, 2, 3)])  # a gap, and no worse
    assert said == {}
    one.overfitting([row(1)] + [row(n, train_acc=0.95, val_acc=0.6, val_loss=1.5) for n in (2, 3)])
    assert "train_acc 0.950, val_acc 0.600" in said["overfitting"] and "mixup_alpha" in said["overfitting"]


def test_overfitting_on_labels_that_mean_nothing(inside, tmp_path):
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for name in ("left", "right"):
            (tmp_path / split / name).mkdir(parents=True)
            for number in range(16):
                pixels = rng.integers(0, 255, (32, 32, 3)).astype(np.uint8)
                Image.fromarray(pixels).save(tmp_path / split / name / f"{number}.png")
    config = settings(tmp_path, 2, epochs=12, optimizer="adam", lr_max=1e-2, color_jitter=0, flip=False)
    config |= {"crop_scale": 1, "lr_scheduler": "constant", "warmup_epochs": 0}
    assert "and val_loss rises" in warnings(mslab.train(config).run)["overfitting"]


def test_dead_channels_and_statistics_out_of_range():
    from mslab import model

    network = model.ResNet50(model.resnet50_backbone(STAGES), model.resnet50_head(3, 32))
    one, said = watch()
    one.statistics(network)
    assert said == {}
    parameters = network.parameters_dict()
    beta = parameters["layer2.0.bn2.beta"]
    beta.set_data(_tensor(np.full(beta.shape, -4, np.float32)))
    parameters["bn1.moving_variance"].set_data(_tensor(np.full(64, 1e9, np.float32)))
    one.statistics(network)
    assert "100% of the channels of layer2.0.bn2 are never above zero" in said["dead-relu"]
    assert "bn1.moving_variance reaches 1e+09" in said["batchnorm"]
    other, said = watch()
    parameters["layer2.0.bn2.beta"].set_data(_tensor(np.zeros(beta.shape, np.float32)))
    parameters["bn1.moving_variance"].set_data(_tensor(np.ones(64, np.float32)))
    last = parameters["layer1.0.bn3.beta"]  # no ReLU behind it, but an addition
    last.set_data(_tensor(np.full(last.shape, -4, np.float32)))
    other.statistics(network)
    assert said == {}


def _tensor(array):
    import mindspore as ms

    return ms.Tensor(array)


def test_an_epoch_that_waits_for_images(inside, three, monkeypatch):
    import time

    from mslab import data

    train = data.ImageFeed.train

    def slow(self, epoch):
        for batch in train(self, epoch):
            time.sleep(0.2)
            yield batch

    monkeypatch.setattr(data.ImageFeed, "train", slow)
    monkeypatch.setattr(guards, "LONG", 0.5)
    text = warnings(mslab.train(three).run)["waiting-for-data"]
    assert "went into waiting for images" in text and "cache=memory" in text


def test_a_batch_of_one_is_refused_with_the_reason(three):
    with pytest.raises(mslab.errors.ConfigError, match="BatchNorm"):
        mslab.load_config(three | {"batch_size": 1})


def test_each_is_said_once_also_after_a_resume():
    one, said = watch(told=["one-label"])
    one.step(0, 1.0, np.array([1, 1]), 0.1)
    one.labels()
    assert said == {}
    count = []
    two = Watch(NAMES, lambda code, text: count.append(code))
    for _ in range(3):
        two.overfitting([row(1)] + [row(n, train_acc=0.95, val_acc=0.6, val_loss=1.5) for n in (2, 3)])
    assert count == ["overfitting"]


def test_epochs_that_were_not_measured_are_left_out():
    one, said = watch()
    one.overfitting([row(1), row(2, val_acc=math.nan, val_loss=math.nan), row(3)])
    one.chance([row(1, val_acc=math.nan), row(2), row(3)])
    assert said == {}


def test_the_page_has_a_row_for_each():
    codes = re.findall(r'self\.say\(\s*"([a-z-]+)"', Path(guards.__file__).read_text())
    page = (PROJECT / "docs" / "controls.md").read_text(encoding="utf-8")
    assert set(codes) == set(re.findall(r"^\| `([a-z-]+)` \|", page[page.index("## Guards") :], re.MULTILINE))
