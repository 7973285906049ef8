"""Before something large is written: what does not fit is refused, and where it is tight there is a note."""

import shutil
from pathlib import Path

import pytest
from helpers import cli, draw

from mslab.errors import MslabError
from mslab.runtime import disks


def test_what_does_not_fit_is_refused_and_what_is_tight_is_said(tmp_path, caplog):
    free = shutil.disk_usage(tmp_path).free
    with pytest.raises(MslabError) as caught:
        disks.require_space(tmp_path / "runs" / "new", 2 * free, "this run", "free some space")
    what, expected, fix = str(caught.value).splitlines()
    assert what.startswith(f"this run needs {disks.size_text(2 * free)} in {tmp_path}/runs/new, and the disk has ")
    assert what.endswith(" free. Nothing was written.") and expected.strip().startswith("expected  a disk")
    assert fix.split(maxsplit=1)[1] == "free some space" and not caplog.text
    disks.require_space(tmp_path, free // 2, "this run", "")
    assert f"note: this run needs {disks.size_text(free // 2)} in {tmp_path}; the disk has " in caplog.text
    caplog.clear()
    disks.require_space(tmp_path, free // 5, "this run", "")
    assert not caplog.text


def test_an_archive_larger_than_the_disk_is_refused_before_it_is_unpacked(inside):
    with Path("photos.zip").open("wb") as file:
        file.truncate(2 * shutil.disk_usage(inside).free)  # its zeros take no space
    done = cli("data", "import", "photos.zip")
    assert done.returncode == 1 and "MslabError: photos needs " in done.stderr, done.stderr
    assert "use --out on another disk" in done.stderr and sorted(p.name for p in inside.iterdir()) == ["photos.zip"]


def test_drawn_images_that_do_not_fit_are_refused_before_the_first(inside, monkeypatch):
    from mslab.data.mushrooms import drawing

    counts = {"mushrooms2": {"train": 10**9, "val": 1, "test": 1}}
    monkeypatch.setattr(drawing, "draw_file", None)
    with pytest.raises(MslabError, match=r"mushrooms2 needs [0-9.]+ TB in datasets, and the disk has"):
        drawing.draw_datasets(Path("datasets"), names=("mushrooms2",), counts=counts)
    assert list(inside.iterdir()) == []


def test_a_split_says_that_it_is_tight_only_where_it_is(inside):
    draw(inside / "set", ["a", "b"], 8)
    done = cli("data", "split", "set", "--out", "parts")
    assert done.returncode == 0 and "note:" not in done.stderr
