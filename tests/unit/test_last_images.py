"""`mslab check --fix` never moves the last image of a class."""

import pytest
from helpers import draw

from mslab.check import check_dataset, quarantine
from mslab.errors import DatasetError


@pytest.fixture
def root(tmp_path):
    return draw(tmp_path / "set", ["a", "b"], 3)


def broken(root, count):
    """Damage `count` images of class a. Returns the data set's files."""
    for path in sorted((root / "a").iterdir())[:count]:
        path.write_text("no image")
    return sorted(root.rglob("*"))


def test_fix_moves_nothing_if_it_would_move_all_images_of_a_class_and_nothing_else(root):
    before = broken(root, 3)
    with pytest.raises(DatasetError, match=r"set/a would be left without images: --fix would move all 3"):
        list(quarantine.fix(check_dataset(root)))
    assert sorted(root.rglob("*")) == before and not quarantine.quarantine_folder(root).exists()


def test_fix_moves_all_images_of_a_class_but_one(root):
    broken(root, 2)
    assert len(list(quarantine.fix(check_dataset(root)))) == 2
    assert [path.name for path in (root / "a").iterdir()] == ["002.png"] and check_dataset(root).ok
