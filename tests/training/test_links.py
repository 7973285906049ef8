"""Training, evaluation and prediction of images that stand elsewhere, under names without a suffix."""

import json
import shutil
from pathlib import Path

from helpers import cli, manifest, settings, weights

import mslab
from mslab.check import check_dataset
from mslab.inference import predicting


def test_a_run_on_links_without_suffixes_is_the_run_on_the_files_themselves(squares, parent, inside):
    root = inside / "linked"
    for path in sorted((squares / "three").glob("*/*/*.png")):
        link = root / path.relative_to(squares / "three").with_suffix("")
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(path)
    (root / "train" / ".snapshot").mkdir()
    config = settings(root, 3, epochs=1)
    refused = cli("check", root / "train")
    assert refused.returncode == 1 and "follow_links: true" in refused.stdout
    result = mslab.train(config | {"follow_links": True, "ignore": [".snapshot", "lost+found"]})
    assert weights(result.run) == weights(parent)
    data = manifest(result.run)["data"]
    assert data["ignored"] == [".snapshot", "lost+found"] and data["follow_links"] is True
    assert data["counts"] == manifest(parent)["data"]["counts"]
    options = ["--follow-links", "--ignore", ".snapshot", "--json", "-", "--device", "cpu"]
    done = cli("eval", parent, "--data", root, *options)
    assert json.loads(done.stdout)["images"] == 15, done.stderr
    missing = cli("eval", parent, "--data", root, *options[-4:])
    assert missing.returncode == 1 and "--follow-links" in missing.stderr


def test_prediction_takes_what_the_check_takes_and_names_the_rest(squares, parent, inside):
    folder = inside / "photos"
    folder.mkdir()
    for name in ("no-suffix", "photo.jpg_large", "x.png.1", "PHOTO.PNG"):
        shutil.copy(squares / "three" / "val" / "b" / "000.png", folder / name)
    (folder / "phone.HEIC").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100))
    (folder / "x.dng").write_bytes(b"II*\0\x10\0\0\0CR\2\0")
    (folder / "notes.txt").write_text("no image")
    (folder / "elsewhere").symlink_to(squares)  # its images have to be named themselves
    (folder / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0")
    done = cli("predict", parent, folder, "--jsonl", "out.jsonl", "--device", "cpu")
    rows = {
        json.loads(line)["file"].rpartition("/")[2]: json.loads(line)
        for line in Path("out.jsonl").read_text().splitlines()
    }
    assert done.returncode == 1 and f"{folder}: 3 files are no images: Thumbs.db, elsewhere, notes.txt" in done.stderr
    errors = {name: row["error"] for name, row in rows.items() if row["error"]}
    assert errors.keys() == {"phone.HEIC", "x.dng"} and len(rows) == 6
    assert errors["phone.HEIC"].startswith("format: HEIC: ") and errors["x.dng"].startswith("format: raw data of a")
    assert len({row["class"] for name, row in rows.items() if not row["error"]}) == 1
    for path in [p for p in folder.iterdir() if p.name in {*errors, "elsewhere"}]:
        path.unlink()
    (inside / "set").mkdir()
    folder.rename(inside / "set" / "b")
    checked = check_dataset(inside / "set").splits[""].pictures
    assert sorted(p.name.partition("/")[2] for p in checked) == sorted(
        p.name for p in predicting.expand([str(inside / "set" / "b")])
    )
