"""A network and a folder of images must agree on the order of their classes, not only on their names."""

import shutil
import subprocess
from pathlib import Path

import pytest

import mslab
from mslab import checkpoint
from mslab.check import check_dataset
from mslab.errors import DatasetError
from mslab.evaluation import measuring


@pytest.mark.parametrize("order", [["c", "b", "a"], ["b", "a", "c"]], ids="".join)
def test_the_same_classes_in_another_order_are_refused(order, parent, squares, inside):
    """Folders are sorted by name; a checkpoint from elsewhere may have another order."""
    weights = checkpoint.read(parent / "checkpoints" / "best.ckpt")
    checkpoint.save_arrays(weights.tensors, inside / "x.ckpt", weights.info | {"class_names": order})
    with pytest.raises(DatasetError) as caught:
        mslab.evaluate("x.ckpt", squares / "three" / "val")
    assert f"has the classes a, b, c; x.ckpt has {', '.join(order)}." in str(caught.value)
    assert "the same class names, in the same order, as in training" in str(caught.value)


def test_classes_in_another_spelling_are_renamed_by_the_command_that_is_shown(parent, squares, inside):
    shutil.copytree(squares / "three" / "test", "my images")
    Path("my images/a").rename("my images/A")
    loaded = mslab.load_network(parent)
    with pytest.raises(DatasetError) as caught:
        measuring.same_classes(loaded, check_dataset("my images"))
    assert caught.value.fix.startswith("in my images, rename 'A' to 'a':    mv 'my images/A' ")
    subprocess.run(["bash", "-c", caught.value.fix.split("    ")[1]], check=True)
    assert measuring.same_classes(loaded, check_dataset("my images")) == ["a", "b", "c"]
