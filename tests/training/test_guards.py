"""Guards of the monitor in a real run: each fires on its problem, and a normal run has no warning."""

import re
import time
from pathlib import Path
from types import SimpleNamespace

import mindspore as ms
import numpy as np
from helpers import STAGES, cli, log, manifest, newest, settings
from PIL import Image

import mslab
from mslab import model
from mslab.config.language import translated
from mslab.data import batching
from mslab.runs.folder import RunFolder
from mslab.runtime.workers import Group
from mslab.training import monitor, start, zh
from mslab.training.build import make_callbacks
from mslab.training.monitor import Monitor

NAMES = ["a", "b", "c"]


def make_monitor(warned=()):
    messages = {}

    def warn(code, text):
        messages[code] = text
        shown = translated(text, zh.WARNINGS[code], lang="zh")
        assert re.search("[\u4e00-\u9fff]", shown), f"{text} has no Chinese text"

    return Monitor(NAMES, warn, warned), messages


def test_the_log_of_a_run_speaks_the_users_language_and_its_manifest_english(
    trained, inside, three, monkeypatch, caplog
):
    run = RunFolder.open(trained(three | {"epochs": 4, "lr_max": 0.02}).run)
    monkeypatch.setenv("MSLAB_LANG", "zh")
    callback = make_callbacks(run, Group())[0]
    callback.label_set = {1}
    with caplog.at_level("INFO", "mslab"):
        callback.labels()
    assert caplog.messages[-1:] == [
        "警告（one-label）：这一轮的所有标签都是 b：没有可学的东西；mslab check ROOT 列出各个类别"
    ]
    assert warnings(run.path)["one-label"].startswith("every label of this epoch was b: there is nothing")
    words = ["report", run.path, "--lang", "zh", "--out", "zh.html"]
    assert cli(*words).returncode == 0 and "这一轮的所有标签都是 b" in Path("zh.html").read_text()


def warnings(run):
    return {warning["code"]: warning["text"] for warning in manifest(run)["warnings"]}


def test_a_normal_run_has_no_warning(finished, three):
    run = finished(three | {"epochs": 4, "lr_max": 0.02})
    assert run.val_acc == 1 and warnings(run.run) == {}


def test_an_exploding_loss_warns_before_it_is_not_finite(inside, three):
    try:
        run = mslab.train(three | {"lr_init": 30, "lr_max": 60, "epochs": 4, "warmup_epochs": 0.5}).run
    except mslab.errors.TrainingError:
        run = newest()
    text = warnings(run)["loss-explodes"]
    assert "lower lr_max to a tenth" in text and "clip_grad_norm=1" in text
    assert "warning (loss-explodes): the loss explodes" in log(run)
    assert "train longer" not in log(run)


def test_the_note_at_the_end_does_not_contradict_the_warnings():
    for codes, rollbacks, text in (
        (["loss-explodes", "one-answer"], [], "lower lr_max to a tenth or less"),
        ([], [1], "lower lr_max"),
        (["overfitting"], [], "see the warning (overfitting)"),
        (["waiting-for-data"], [], "train longer, or with another lr_max"),
    ):
        manifest = {"warnings": [{"code": code} for code in codes], "rollbacks": rollbacks}
        assert start.remedy(SimpleNamespace(manifest=manifest)).startswith(text)


def test_a_learning_rate_near_zero_warns(inside, three):
    """The loss does not move, and the head stays at its initial weights, with which one class always wins."""
    texts = warnings(mslab.train(three | {"lr_init": 1e-9, "lr_max": 1e-9, "epochs": 3}).run)
    text = texts["loss-still"]
    assert "at most 1e-09 so far" in text and "lr-find" in text and "mslab check" in text
    text = texts["one-answer"]
    assert "all 21 validation images are classified as" in text and "label_balance=true" in text


def test_overfitting_on_random_labels_warns(inside, tmp_path):
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


def test_dead_channels_and_statistics_out_of_range_warn():
    network = model.ResNet50(model.resnet50_backbone(STAGES), model.resnet50_head(3, 32))
    guard, messages = make_monitor()
    guard.statistics(network)
    assert messages == {}
    parameters = network.parameters_dict()
    beta = parameters["layer2.0.bn2.beta"]
    beta.set_data(ms.Tensor(np.full(beta.shape, -4, np.float32)))
    parameters["bn1.moving_variance"].set_data(ms.Tensor(np.full(64, 1e9, np.float32)))
    guard.statistics(network)
    assert "100% of the channels of layer2.0.bn2 are never above zero" in messages["dead-relu"]
    assert "bn1.moving_variance reaches 1e+09" in messages["batchnorm"]
    second, messages = make_monitor()
    parameters["layer2.0.bn2.beta"].set_data(ms.Tensor(np.zeros(beta.shape, np.float32)))
    parameters["bn1.moving_variance"].set_data(ms.Tensor(np.ones(64, np.float32)))
    last = parameters["layer1.0.bn3.beta"]  # an addition follows, not a ReLU
    last.set_data(ms.Tensor(np.full(last.shape, -4, np.float32)))
    second.statistics(network)
    assert messages == {}


def test_an_epoch_that_waits_for_images_warns(inside, three, monkeypatch):
    train = batching.ImageFeed.train

    def slow(self, epoch):
        wait = 0.2
        for batch in train(self, epoch):
            time.sleep(wait)
            start = time.perf_counter()
            yield batch
            wait = 3 * (time.perf_counter() - start)  # of a step, however busy the machine is

    monkeypatch.setattr(batching.ImageFeed, "train", slow)
    monkeypatch.setattr(monitor, "LONG", 0.5)
    text = warnings(mslab.train(three | {"epochs": 1}).run)["waiting-for-data"]
    assert "were spent waiting for images" in text and "cache=memory" in text
