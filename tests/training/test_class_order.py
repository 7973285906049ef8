"""A network and a folder of images must agree on the order of their classes, not only on their names."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from helpers import cli

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


def test_a_class_without_images_gets_no_figures_and_the_others_keep_theirs(parent, squares, inside):
    """Its index is that of the checkpoint: without b, c would be taken for b. One that it does not have is left out."""
    whole = mslab.evaluate(parent, squares / "three" / "test")
    shutil.copytree(squares / "three" / "test", "some")
    Path("some/b").rename("some/zebra fish")
    done = cli("eval", parent, "--data", "some")
    assert done.returncode == 1 and "some has the classes a, c, zebra fish; " in done.stderr
    assert "leave out the images of what it has not learned: --ignore 'zebra fish'" in done.stderr
    assert "or rename the folder, if it is b\n" in done.stderr
    done = cli("eval", parent, "--data", "some", "--ignore", "zebra fish", "--json", "x.json")
    assert done.returncode == 0, done.stderr
    assert "note: some has no images of 1 of 3 classes, which get no figures: b\n" in done.stderr
    result = json.loads(Path("x.json").read_text())
    assert result["class_names"] == ["a", "b", "c"] and result["confusion"][1] == [0, 0, 0]
    assert result["per_class"]["b"] == {"precision": None, "recall": None, "f1": None, "support": 0}
    for index, name in ((0, "a"), (2, "c")):
        assert result["confusion"][index] == whole["confusion"][index]
        assert result["per_class"][name]["recall"] == whole["per_class"][name]["recall"]
    (row,) = (line for line in done.stdout.splitlines() if " b " in line and "–" in line)
    assert row.count("–") == 3 and "0.000" not in row
