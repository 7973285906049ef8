"""Mirrored and turned copies in two splits are leaks and stay together; other images are not taken for copies."""

import base64
import shutil

import numpy as np
import pytest
from checking import photo
from helpers import cli
from PIL import Image, ImageDraw

from mslab.check import check_dataset, content, worker
from mslab.data.splitting import split_dataset

TURNED = [lambda image, turn=turn: image.transpose(turn) for turn in Image.Transpose]


def findings(root):
    rows = check_dataset(root, cache=False).findings
    return {(f.code, f.path): f.message for f in rows if f.code in ("split-leak", "near-duplicate")}


def place(root, images):
    for name, image in images.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        image.save(root / name)
    return root


def test_a_mirrored_and_a_turned_copy_in_another_split_are_leaks(tmp_path, cases):
    root = place(tmp_path / "set", {f"train/a/{n}.png": photo(n) for n in range(3)})
    for split, name in (("train", "a.png"), ("val", "a-mirrored.png"), ("test", "a-turned.png")):
        (root / split / "a").mkdir(exist_ok=True, parents=True)
        shutil.copy(cases / "images" / name, root / split / "a")
    done = cli("check", root)
    assert done.returncode == 1 and "split-leak  (2)" in done.stdout
    text = "(the same image as train/a/a.png, mirrored: training and evaluation share it)"
    assert f"val/a/a-mirrored.png  {text}" in done.stdout
    assert "test/a/a-turned.png  (the same image as train/a/a.png, turned by 90°" in done.stdout
    assert f"mslab check {root} --fix    moves the copy in train" in done.stdout
    done = cli("check", root, "--fix")
    assert (root / "val/a/a-mirrored.png").is_file() and not (root / "train/a/a.png").exists()


@pytest.mark.parametrize("size", [(64, 64), (96, 64), (37, 53), (500, 375)])
def test_all_seven_turns_are_found_and_named(tmp_path, size):
    images = {f"val/a/{n}.png": turn(photo(7, size)) for n, turn in enumerate(TURNED)}
    found = findings(place(tmp_path / "set", images | {"train/a/0.png": photo(7, size)}))
    assert found.keys() == {("split-leak", f"val/a/{n}.png") for n in range(7)}
    named = ["mirrored", "upside down and mirrored", "turned by 90°", "turned by 180°", "turned by 270°"]
    named += ["turned by 90° and mirrored", "turned by 270° and mirrored"]
    texts = [found["split-leak", f"val/a/{n}.png"] for n in range(7)]
    assert [text.partition("train/a/0.png, ")[2].partition(":")[0] for text in texts] == named


def test_a_mirrored_copy_that_was_compressed_or_made_paler_is_found(tmp_path):
    images = {}
    for number in range(6):
        image = photo(number, (200, 150))
        mirrored = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        images |= {f"train/a/{number}.png": image, f"val/a/{number}.png": mirrored.point(lambda v: 60 + v * 0.6)}
        images[f"test/a/{number}.jpg"] = mirrored.resize((150, 112))
    leaks = [path for code, path in findings(place(tmp_path / "set", images)) if code == "split-leak"]
    assert sorted(leaks) == sorted(name for name in images if not name.startswith("train"))


def test_turned_copies_are_no_leak_in_one_split_or_in_another_class(tmp_path):
    mirrored = photo(1).transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    turned = photo(1).transpose(Image.Transpose.ROTATE_90)
    images = {"train/left/0.png": photo(1), "train/left/1.png": mirrored, "val/right/0.png": turned}
    images |= {"train/right/0.png": photo(2), "val/left/0.png": photo(3)}
    found = findings(place(tmp_path / "set", images))
    assert found.keys() == {("near-duplicate", "train/left/1.png"), ("near-duplicate", "val/right/0.png")}
    assert "looks like train/left/0.png, mirrored: " in found["near-duplicate", "train/left/1.png"]


def test_silhouettes_symmetric_and_blank_images_are_not_taken_for_copies(tmp_path, test_data):
    """With hashes alone, 14 of these 720 animals look like another one, mirrored or turned."""
    root = tmp_path / "set"
    shutil.copytree(test_data / "animals" / "animals9" / "val", root / "train")
    across, down = np.meshgrid(np.arange(64), np.arange(64))
    drawn = {"flat": 0 * across + 90, "slope": across * 4, "other slope": 255 - down * 4}
    distance = np.hypot(across - 31.5, down - 31.5)
    drawn |= {"large disc": 200 * (distance < 20), "small disc": 200 * (distance < 9)}
    place(root, {f"val/cat/{name}.png": Image.fromarray(pixels.astype(np.uint8)) for name, pixels in drawn.items()})
    found = check_dataset(root, cache=False)
    assert not [f for f in found.findings if f.code == "split-leak" or "mirrored" in f.message or "turned" in f.message]
    assert content.maybe_turned(found)


@pytest.mark.parametrize(
    ("points", "code"),
    [
        ([(32, 8), (50, 28), (38, 28), (38, 56), (26, 56), (26, 28), (14, 28)], "near-duplicate"),  # an arrow
        ([(22, 8), (40, 8), (52, 22), (52, 42), (40, 56), (22, 56), (10, 42), (10, 22)], "near-duplicate"),  # an O
        ([(20, 10), (44, 10), (44, 18), (28, 18), (28, 28), (40, 28), (40, 36), (28, 36), (28, 54), (20, 54)],
         "split-leak"),  # an F
    ],
)  # fmt: skip
def test_mirroring_proves_nothing_where_an_image_equals_its_own_mirror_image(tmp_path, points, code):
    """Arrows that point up and to the left are no copies of one image, nor are two that are not in the middle."""

    def drawn(seed):
        image = Image.new("L", (64, 64), 230)
        ImageDraw.Draw(image).polygon([(x - 3, y) for x, y in points], fill=30)
        noise = np.random.default_rng(seed).normal(0, 2, (64, 64))
        return Image.fromarray((np.asarray(image) + noise).astype(np.uint8))

    images = {"train/a/0.png": drawn(1), "val/a/0.png": drawn(2).transpose(Image.Transpose.ROTATE_90)}
    assert findings(place(tmp_path / "set", images)).keys() == {(code, "val/a/0.png")}


def test_turned_copies_stay_together_when_a_folder_is_split(tmp_path):
    images = {f"{name}/{n}.png": photo(100 * ord(name) + n) for name in "ab" for n in range(12)}
    images |= {f"a/{n}-turned.png": TURNED[n](photo(100 * ord("a") + n)) for n in range(7)}
    report = check_dataset(place(tmp_path / "set", images))
    for seed in range(3):
        split_dataset(report, tmp_path / f"out{seed}", 0.4, seed=seed)
        split_of = {path.name: path.parts[-3] for path in (tmp_path / f"out{seed}").glob("*/a/*")}
        assert all(split_of[f"{n}-turned.png"] == split_of[f"{n}.png"] for n in range(7))


def test_the_second_check_reads_the_comparison_from_the_cache(tmp_path, monkeypatch):
    root = place(tmp_path / "set", {"train/a/0.png": photo(1), "val/a/0.png": TURNED[0](photo(1))})
    monkeypatch.setattr("mslab.check.cache.FRESH", -1)
    assert not check_dataset(root).ok
    monkeypatch.setattr("mslab.check.dataset.ask", lambda request, paths: pytest.fail(request) if paths else iter(()))
    assert not check_dataset(root).ok


def test_the_hash_is_that_of_the_library_imagehash():
    thumbnails = [base64.b64decode(worker.image_facts(photo(n, (200, 150)))["thumbnail"]) for n in (1, 2, 3)]
    hashes = [content.perceptual_hash(thumbnail)[:8].hex() for thumbnail in thumbnails]
    assert hashes == ["8ce3d8b83acbc534", "fc6c8d47db2420da", "ed49da94d6fc2803"]  # imagehash 4.3.2
