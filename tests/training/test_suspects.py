"""Labels that are probably wrong: the paper's definition, flips that are found, files that are safe."""

import csv
import json
import shutil

import numpy as np
import pytest
from helpers import cli, draw

from mslab.check import check_dataset
from mslab.errors import ConfigError, DatasetError, MslabError, RunError
from mslab.report import suspects


def by_the_paper(shares, labels):
    """Equations 1 and 2 of Northcutt, Jiang & Chuang 2021, word for word: X̂(i, j) of the confident joint."""
    images, classes = range(len(labels)), range(shares.shape[1])
    threshold = {}
    for j in classes:
        own = [shares[x, j] for x in images if labels[x] == j]
        threshold[j] = sum(own) / len(own)
    joint = {}
    for i in classes:
        for j in classes:
            joint[i, j] = set()
            for x in images:
                over = [k for k in classes if shares[x, k] >= threshold[k]]
                if labels[x] == i and over and j == max(over, key=lambda k: shares[x, k]):
                    joint[i, j].add(x)
    return joint


@pytest.mark.parametrize("seed", range(20))
def test_confident_classes_are_those_of_the_paper(seed):
    rng = np.random.default_rng(seed)
    n, classes = int(rng.integers(12, 60)), int(rng.integers(2, 6))
    labels = rng.permutation(np.arange(n) % classes)
    logits = rng.normal(size=(n, classes)) + rng.uniform(0, 4) * np.eye(classes)[labels]
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    found = suspects.confident(shares, labels)
    joint = by_the_paper(shares, labels)
    assert {(i, j): set(np.flatnonzero((labels == i) & (found == j))) for i, j in joint} == joint
    assert (found == -1).sum() == n - sum(map(len, joint.values()))


def test_the_example_by_hand():
    shares = np.array([[0.9, 0.1], [0.6, 0.4], [0.8, 0.2], [0.1, 0.9]])  # thresholds 0.75 and 0.55
    assert suspects.confident(shares, np.array([0, 0, 1, 1])).tolist() == [0, -1, 0, 1]


def test_no_image_is_judged_by_its_own_label():
    """A head that had seen the one odd image of class 1 would know it; the others put it where its features lie."""
    features = np.concatenate([np.random.default_rng(s).normal(8 * s, 1, (20, 3)) for s in (0, 1)]).astype(np.float32)
    labels = np.repeat([0, 1], 20)
    labels[7] = 1
    shares = suspects.out_of_sample(features, labels, 5)
    assert shares.shape == (40, 2) and np.allclose(shares.sum(axis=1), 1) and shares[7, 0] > 0.7
    assert np.array_equal(shares, suspects.out_of_sample(features, labels, 5))


@pytest.fixture(scope="module")
def flipped(tmp_path_factory):
    """set/{train,val} with 40 and 20 images of a, b, c, of which a tenth lies in the next class's folder."""
    root = tmp_path_factory.mktemp("flipped") / "set"
    flips = set()
    for seed, (split, count) in enumerate([("train", 40), ("val", 20)], start=20):
        folder = draw(root / split, ["a", "b", "c"], count, seed)
        for name, to in ("ab", "bc", "ca"):
            for number in range(count // 10):
                target = folder / to / (f"{name}{number}.png" if number else f"=1+1 <b>{name}.png")
                shutil.move(folder / name / f"{number:03}.png", target)
                flips.add(f"{split}/{to}/{target.name}")
    return root, flips


@pytest.fixture(scope="module")
def found(flipped, parent):
    return suspects.find(parent, flipped[0])


def test_flips_are_found(found, flipped):
    _, flips = flipped
    named = {row["file"] for row in found}
    recall, precision = len(named & flips) / len(flips), len(named & flips) / len(named)
    assert recall >= 0.8 and precision >= 0.7, (recall, precision)
    assert {row["file"] for row in found[:10]} <= flips  # the first ones are all flips
    assert [row["rank"] for row in found] == list(range(1, len(found) + 1))
    shares = [row["p_label"] for row in found]
    assert shares == sorted(shares)
    for row in found:
        split, label, name = row["file"].split("/")
        assert (split, label) == (row["split"], row["label"]) and row["suggested"] != label
        assert 0 <= row["p_label"] < row["p_suggested"] <= 1
        if row["file"] in flips and name[0] != "=":
            assert row["suggested"] == name[0]  # where it came from
    assert found.total == 180 and found.folds == {"train": 5, "val": 5}


def test_files_are_safe_and_can_be_read_back(found, tmp_path):
    suspects.write(found, tmp_path / "new")
    text = (tmp_path / "new" / "suspects.csv").read_text()
    lines = list(csv.reader(text.splitlines()))
    assert lines[0] == ["file", "split", "label", "suggested", "p_label", "p_suggested", "rank"]
    assert len(lines) == 1 + len(found)
    back = suspects.load(tmp_path / "new")
    for row, read in zip(found, back, strict=True):
        assert read == row | {key: pytest.approx(row[key], abs=1e-6) for key in ("p_label", "p_suggested")}
    page = (tmp_path / "new" / "suspects.html").read_text()
    assert "<b>" not in page and "=1+1 &lt;b&gt;" in page and "<script" not in page and "://" not in page
    assert page.count("data:image/jpeg;base64,") == len(found) and "default-src 'none'" in page
    table = str(found)
    assert f"{len(found)} suspects among 180 images" in table
    assert table.endswith("suspects are for a person to look at; nothing was changed")


def test_names_that_a_spreadsheet_would_run_come_back_as_they_were(tmp_path):
    names = ["=1", "+a,b", "-", "@", 'a"b', "é\nf", "h\ri", "'g"]
    rows = [dict(zip(suspects.COLUMNS, [n, "", n, "x", 0.25, 0.5, 1], strict=True)) for n in names]
    suspects.write(suspects.Suspects(rows, "set", "best.ckpt", {}, {}, []), tmp_path)
    assert suspects.load(tmp_path) == rows
    cells = [line[0] for line in csv.reader((tmp_path / "suspects.csv").open(newline=""))]
    assert cells[1:5] == ["'=1", "'+a,b", "'-", "'@"]
    assert suspects.load(tmp_path / "nowhere") == []
    (tmp_path / "suspects.csv").write_text("file,label\na,b\n")
    with pytest.raises(RunError, match=r"suspects.csv cannot be read: other columns\.\n  expected .*\n  fix "):
        suspects.load(tmp_path)


def test_clean_labels_are_said_to_be_clean(parent, tmp_path):
    draw(tmp_path / "set", ["a", "b", "c"], 10, seed=5)
    found = suspects.find(parent, tmp_path / "set")
    assert found == [] and suspects.load(tmp_path) == []
    suspects.write(found, tmp_path)
    assert str(found) == ("no suspects among 30 images: every label is as credible as the others of its class")
    assert "no suspects among 30 images" in (tmp_path / "suspects.html").read_text()


def test_small_classes_get_fewer_folds_and_single_images_are_refused(parent, tmp_path, caplog):
    draw(tmp_path / "set", ["a", "b", "c"], 6, seed=6)
    for number in range(3):
        (tmp_path / "set" / "b" / f"{number:03}.png").unlink()
    report = check_dataset(tmp_path / "set")
    assert suspects.possible_folds(report, 5) == {"": 3} and suspects.possible_folds(report, 2) == {"": 2}
    assert [text.split(": b in ")[0] for text in caplog.messages] == ["note: 3 folds instead of 5"]
    for number in range(3, 5):
        (tmp_path / "set" / "b" / f"{number:03}.png").unlink()
    with pytest.raises(DatasetError) as caught:
        suspects.find(parent, tmp_path / "set")
    text = str(caught.value)
    assert "has classes of a single image: nothing is left to compare it with.\n  b         1 image in /" in text
    assert "expected  2 images or more of each class" in text and "fix       add images" in text
    with pytest.raises(ConfigError, match="folds: 1 is too few"):
        suspects.possible_folds(report, 1)


def test_another_data_set_is_refused(parent, squares):
    with pytest.raises(DatasetError, match=r"has the classes left, right; .* knows a, b, c"):
        suspects.find(parent, squares / "two")


def test_a_folder_that_cannot_be_made(found, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(MslabError, match=r"file/new cannot be created: Not a directory"):
        suspects.write(found, tmp_path / "file" / "new")


def test_the_command(flipped, parent, found, tmp_path):
    root, flips = flipped
    shutil.copytree(parent, tmp_path / "run")
    before = sorted(path.relative_to(root) for path in root.rglob("*"))
    done = cli("suspects", "run", "--data", root, "--folds", 30, "--json", "-", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    content = json.loads(done.stdout)
    assert content["images"] == {"train": 120, "val": 60} and content["folds"] == {"train": 30, "val": 20}
    assert "note: 20 folds instead of 30: a in val has 20 images" in done.stderr
    assert len(flips & {row["file"] for row in content["suspects"]}) >= 0.8 * len(flips)
    assert [row["rank"] for row in suspects.load(tmp_path / "run")] == [row["rank"] for row in content["suspects"]]
    assert (tmp_path / "run" / "suspects.html").is_file()
    assert sorted(path.relative_to(root) for path in root.rglob("*")) == before
    assert cli("suspects", "run", "--data", root, "--folds", 1).returncode == 2


def test_a_packed_data_set_has_thumbnails_too(flipped, parent, found, tmp_path):
    from mslab.data.packing import pack_dataset

    pack_dataset(check_dataset(flipped[0] / "val"), tmp_path / "pack")
    packed = suspects.find(parent, tmp_path / "pack")
    alike = [row for row in found if row["split"] == "val"]
    assert sorted(row["p_label"] for row in packed) == pytest.approx([row["p_label"] for row in alike])
    assert packed.page().count("data:image/jpeg;base64,") == len(alike)
