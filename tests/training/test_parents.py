"""The head rows that a run takes from its parent, and the check that the parent is unchanged."""

import shutil

import mindspore as ms
import numpy as np
import pytest
from helpers import newest, settings

import mslab
from mslab import checkpoint, model
from mslab.errors import RunError
from mslab.training import finetuning, start


@pytest.mark.parametrize("names", [["aa", "ab", "b", "c"], ["b", "c"], ["0", "a", "c", "d"]], ids=" ".join)
def test_a_class_of_the_parent_keeps_its_row_at_a_new_index(parent, names):
    """The parent has the classes a, b, c."""
    weights = checkpoint.read(parent / "checkpoints" / "best.ckpt")
    assert weights.class_names == ["a", "b", "c"]
    backbone = model.resnet50_backbone(weights.stages, weights.profile)
    network = model.ResNet50(backbone, model.resnet50_head(len(names), backbone.channels))
    network.head.classifier.bias.set_data(ms.Tensor(np.arange(7, 7 + len(names)), ms.float32))
    fresh = {part: p.asnumpy().copy() for part, p in network.head.parameters_dict().items()}
    manifest = {"kind": "incremental", "class_names": names, "parent": {}}
    message = finetuning.load_parent(network, weights, manifest, "classify")
    shared = [name for name in names if name in weights.class_names]
    assert f"{len(shared)} of {len(names)} classes reused by name" in message
    for part, parameter in network.head.parameters_dict().items():
        for row, name in enumerate(names):
            source = weights.head[part][weights.class_names.index(name)] if name in shared else fresh[part][row]
            assert np.array_equal(parameter.asnumpy()[row], source), (part, name)


@pytest.fixture
def stopped(parent, squares, inside, monkeypatch):
    """A transfer that was stopped before its first epoch, and the file that it started from."""
    file = inside / "best_backbone.ckpt"
    shutil.copy(parent / "checkpoints" / file.name, file)

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(start, "fit", stop)
        with pytest.raises(KeyboardInterrupt):
            mslab.transfer(settings(squares / "two", 2, epochs=1), backbone=file)
    return newest(), file


def test_a_resume_before_the_first_epoch_refuses_another_file_as_parent(stopped):
    run, file = stopped
    weights = checkpoint.read(file)
    other = {name: value * np.float32(1.5) for name, value in weights.tensors.items()}
    checkpoint.save_arrays(other, file, weights.info)
    with pytest.raises(RunError) as caught:
        start.resume(run)
    text = str(caught.value)
    assert f"{run} began from {file}, which is missing" in text and "or has changed" in text
    assert "restore the file, or begin a new run" in text
    assert not list((run / "checkpoints").iterdir())
