"""Networks of tasks as MINDIR and ONNX files: MindSpore's outputs, for any number of images and odd sizes."""

import mindspore as ms
import numpy as np
import pytest
import scenes
from helpers import cli
from PIL import Image
from scenes import MEASURES, NAMES, settings

from mslab import checkpoint
from mslab.checkpoint.networks import ResNet
from mslab.config.schema import Profile
from mslab.evaluation import task_models
from mslab.evaluation.onnx_graph import write_onnx
from mslab.inference import export, graphs
from mslab.tasks.network import network_of
from mslab.tasks.registry import task_of

PROFILES = [
    {},
    {"stem": "small", "padding": "same", "block": "basic"},
    {"pool": "same", "eps": 1e-2, "outer_eps": 1e-1, "block": "basic"},
]


def write_network(path, task, size, stages, profile=None):
    """Write a network of random numbers, BatchNorm's statistics included."""
    profile = Profile.model_validate(profile or {}).model_dump()
    resnet = ResNet(stages, profile)
    names = [f"name {number}" for number in range(NAMES[task])]
    info = {"schema": 1, "task": task, "class_names": names, "image_size": size, "resize_size": size}
    info |= {"resize_mode": "pad", "mean": [0.5] * 3, "std": [0.2] * 3, **resnet.record()}
    info |= {"options": {}} if task in ("segment", "keypoints") else {}
    if task == "detect":
        info["options"] = {"box_score_thresh": 0.3, "nms_iou_thresh": 0.5, "box_detections_per_img": 100}
        info["options"] |= {"tile_grid_size": None, "tile_overlap_ratio": 0.25, "tile_predictions_nms_thresh": 0.25}
        info["options"] |= {"validation_metric_type": "voc", "validation_iou_threshold": 0.5}
    ms.set_context(mode=ms.PYNATIVE_MODE)
    network, rng = network_of(task_of(info), resnet.backbone()), np.random.default_rng(3)
    tensors = {}
    for name, parameter in network.parameters_dict().items():
        value = parameter.asnumpy()
        if name.endswith(("gamma", "moving_variance")):
            value = rng.uniform(0.5, 1.5, value.shape)
        elif name.endswith(("beta", "moving_mean")) or value.ndim == 1:
            value = rng.normal(size=value.shape)
        tensors[name] = value.astype(np.float32)
    checkpoint.save_arrays(tensors, path, info)
    return path


def outputs(path, x):
    """Outputs of the network without compilation."""
    ms.set_context(mode=ms.PYNATIVE_MODE)
    return task_models.load(checkpoint.read(path))[2](ms.Tensor(x)).asnumpy()


def images(count, size):
    return np.random.default_rng(7).normal(size=(count, 3, size, size)).astype(np.float32)


@pytest.mark.parametrize("task", MEASURES)
@pytest.mark.parametrize("size, profile", [(66, 0), (64, 1), (33, 2), (50, 1)])
def test_an_onnx_graph_has_the_outputs_of_the_network(tmp_path, task, size, profile):
    path = write_network(tmp_path / "x.ckpt", task, size, [[1, 8, 1], [2, 8, 2], [1, 8, 2]], PROFILES[profile])
    weights, x = checkpoint.read(path), images(3, size)
    content = write_onnx(weights.backbone | weights.head, weights.network, size)
    expected = outputs(path, x)
    found = graphs.onnx(content)(x)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= 1e-4 * max(1, np.abs(expected).max())


@pytest.mark.parametrize("stages", [[[1, 8, 2]], [[1, 8, 1], [1, 8, 3]], [[1, 8, 1], [1, 8, 1], [1, 8, 2]]])
def test_any_table_of_stages_has_a_graph(tmp_path, stages):
    path = write_network(tmp_path / "x.ckpt", "segment", 70, stages)
    weights, x = checkpoint.read(path), images(2, 70)
    found = graphs.onnx(write_onnx(weights.backbone | weights.head, weights.network, 70))(x)
    np.testing.assert_allclose(found, outputs(path, x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["mindir", "onnx"])
@pytest.mark.parametrize("task", ["detect", "multilabel"])
def test_an_exported_network_answers_like_its_checkpoint(tmp_path, task, kind):
    path = write_network(tmp_path / "x.ckpt", task, 66, [[1, 8, 1], [1, 8, 2]])
    result = export.export_run(path, kind)
    assert result["relative"] < 1e-5 and result["of"].startswith("arrays of random numbers")
    file = tmp_path / f"x.{kind}"
    forward, info = graphs.open_exported(file)
    assert info["task"] == task and len(info["class_names"]) == NAMES[task]
    assert ("options" in info) == (task == "detect") and info["resize_mode"] == "pad"
    x = images(2, 66)
    np.testing.assert_allclose(forward(x), outputs(path, x), rtol=1e-4, atol=1e-4)
    again = export.export_run(path, kind, tmp_path / f"again.{kind}")
    assert again["sha256"] == result["sha256"]
    Image.fromarray(np.zeros((70, 70, 3), np.uint8)).save(tmp_path / "x.png")
    done = cli("predict", file, tmp_path / "x.png")
    assert done.returncode == 1, done.stdout
    assert f"{file} is of task {task}: mslab does not make answers of" in done.stderr
    assert "use the run or best.ckpt that it was exported from" in done.stderr
    if (task, kind) == ("detect", "onnx"):
        done = cli("eval", file, "--data", tmp_path)
        assert done.returncode == 1
        assert f"{file} is an exported network of task detect, whose weights are not read back." in done.stderr
        assert "use that run, or its best.ckpt" in done.stderr


def test_export_compares_on_the_images_with_labels(finished, once, inside):
    drawn = once("scenes", scenes.draw)
    run = finished(settings(drawn, "keypoints")).run
    done = cli("export", run, "--format", "onnx", "--out", "x.onnx")
    assert done.returncode == 0, done.stderr
    assert "compared on 8 images of" in done.stderr + done.stdout  # one for each object
    done = cli("export", run, "--format", "onnx", "--out", "y.onnx", "--data", drawn / "scenes" / "test")
    assert done.returncode == 0, done.stderr
    assert "images of" in done.stderr + done.stdout
