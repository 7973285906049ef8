"""A network and a folder of images must agree on the order of their classes, not only on their names."""

import pytest

import mslab
from mslab import checkpoint
from mslab.errors import DatasetError


@pytest.mark.parametrize("order", [["c", "b", "a"], ["b", "a", "c"]], ids="".join)
def test_the_same_classes_in_another_order_are_refused(order, parent, squares, inside):
    """Folders are sorted by name; a checkpoint from elsewhere may have another order."""
    weights = checkpoint.read(parent / "checkpoints" / "best.ckpt")
    checkpoint.save_arrays(weights.tensors, inside / "x.ckpt", weights.info | {"class_names": order})
    with pytest.raises(DatasetError) as caught:
        mslab.evaluate("x.ckpt", squares / "three" / "val")
    assert f"has the classes a, b, c; x.ckpt has {', '.join(order)}." in str(caught.value)
    assert "the same class names, in the same order, as in training" in str(caught.value)
