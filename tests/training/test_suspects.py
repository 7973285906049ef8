"""Labels that are probably wrong: the paper's definition, detection of swapped labels, safe files."""

import csv
import json
import shutil

import numpy as np
import pytest
from helpers import cli, draw

from mslab.check import check_dataset
from mslab.errors import ConfigError, DatasetError, MslabError, RunError
from mslab.report import suspects


def by_the_paper(probabilities, labels):
    """Equations 1 and 2 of Northcutt, Jiang & Chuang 2021, literally: X̂(i, j) of the confident joint."""
    images, classes = range(len(labels)), range(probabilities.shape[1])
    threshold = {}
    for j in classes:
        own = [probabilities[x, j] for x in images if labels[x] == j]
        threshold[j] = sum(own) / len(own)
    joint = {}
    for i in classes:
        for j in classes:
            joint[i, j] = set()
            for x in images:
                over = [k for k in classes if probabilities[x, k] >= threshold[k]]
                if labels[x] == i and over and j == max(over, key=lambda k: probabilities[x, k]):
                    joint[i, j].add(x)
    return joint


@pytest.mark.parametrize("seed", range(20))
def test_confident_classes_are_those_of_the_paper(seed):
    rng = np.random.default_rng(seed)
    n, classes = int(rng.integers(12, 60)), int(rng.integers(2, 6))
    labels = rng.permutation(np.arange(n) % classes)
    logits = rng.normal(size=(n, classes)) + rng.uniform(0, 4) * np.eye(classes)[labels]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    confident = suspects.confident(probabilities, labels)
    joint = by_the_paper(probabilities, labels)
    assert {(i, j): set(np.flatnonzero((labels == i) & (confident == j))) for i, j in joint} == joint
    assert (confident == -1).sum() == n - sum(map(len, joint.values()))


def test_the_example_by_hand():
    probabilities = np.array([[0.9, 0.1], [0.6, 0.4], [0.8, 0.2], [0.1, 0.9]])  # thresholds 0.75 and 0.55
    assert suspects.confident(probabilities, np.array([0, 0, 1, 1])).tolist() == [0, -1, 0, 1]


def test_no_image_is_judged_by_its_own_label():
    """A head fitted to the mislabelled image 7 would have learned its label; the other heads go by its features."""
    features = np.concatenate([np.random.default_rng(s).normal(8 * s, 1, (20, 3)) for s in (0, 1)]).astype(np.float32)
    labels = np.repeat([0, 1], 20)
    labels[7] = 1
    probabilities = suspects.out_of_sample(features, labels, 5)
    assert probabilities.shape == (40, 2) and np.allclose(probabilities.sum(axis=1), 1) and probabilities[7, 0] > 0.7
    assert np.array_equal(probabilities, suspects.out_of_sample(features, labels, 5))


@pytest.fixture(scope="module")
def flipped(tmp_path_factory):
    """set/{train,val} with 40 and 20 images of a, b and c; a tenth of them is in the next class's folder."""
    root = tmp_path_factory.mktemp("flipped") / "set"
    flips = set()
    for seed, (split, count) in enumerate([("train", 40), ("val", 20)], start=20):
        folder = draw(root / split, ["a", "b", "c"], count, seed)
        for name, wrong in ("ab", "bc", "ca"):
            for number in range(count // 10):
                target = folder / wrong / (f"{name}{number}.png" if number else f"=1+1 <b>{name}.png")
                shutil.move(folder / name / f"{number:03}.png", target)
                flips.add(f"{split}/{wrong}/{target.name}")
    return root, flips


@pytest.fixture(scope="module")
def result(flipped, parent):
    return suspects.find(parent, flipped[0])


def test_swapped_labels_are_found(result, flipped):
    _, flips = flipped
    files = {row["file"] for row in result}
    recall, precision = len(files & flips) / len(flips), len(files & flips) / len(files)
    assert recall >= 0.8 and precision >= 0.7, (recall, precision)
    assert {row["file"] for row in result[:10]} <= flips  # the first ones are all flips
    assert [row["rank"] for row in result] == list(range(1, len(result) + 1))
    probabilities = [row["p_label"] for row in result]
    assert probabilities == sorted(probabilities)
    for row in result:
        split, label, name = row["file"].split("/")
        assert (split, label) == (row["split"], row["label"]) and row["suggested"] != label
        assert 0 <= row["p_label"] < row["p_suggested"] <= 1
        if row["file"] in flips and name[0] != "=":
            assert row["suggested"] == name[0]  # its true class
    assert result.total == 180 and result.folds == {"train": 5, "val": 5}


def test_files_are_safe_and_can_be_read_back(result, tmp_path):
    suspects.write(result, tmp_path / "new")
    text = (tmp_path / "new" / "suspects.csv").read_text()
    lines = list(csv.reader(text.splitlines()))
    assert lines[0] == ["file", "split", "label", "suggested", "p_label", "p_suggested", "rank"]
    assert len(lines) == 1 + len(result)
    back = suspects.load(tmp_path / "new")
    for row, read in zip(result, back, strict=True):
        assert read == row | {key: pytest.approx(row[key], abs=1e-6) for key in ("p_label", "p_suggested")}
    page = (tmp_path / "new" / "suspects.html").read_text()
    assert "<b>" not in page and "=1+1 &lt;b&gt;" in page and "<script" not in page and "://" not in page
    assert page.count("data:image/jpeg;base64,") == len(result) and "default-src 'none'" in page
    table = str(result)
    assert f"{len(result)} suspects among 180 images" in table
    assert table.endswith("suspects are for a person to review; nothing was changed")


def test_names_that_a_spreadsheet_would_run_are_read_back_unchanged(tmp_path):
    names = ["=1", "+a,b", "-", "@", 'a"b', "é\nf", "h\ri", "'g"]
    rows = [dict(zip(suspects.COLUMNS, [n, "", n, "x", 0.25, 0.5, 1], strict=True)) for n in names]
    suspects.write(suspects.Suspects(rows, "set", "best.ckpt", {}, {}, []), tmp_path)
    assert suspects.load(tmp_path) == rows
    cells = [line[0] for line in csv.reader((tmp_path / "suspects.csv").open(newline=""))]
    assert cells[1:5] == ["'=1", "'+a,b", "'-", "'@"]
    assert suspects.load(tmp_path / "nowhere") == []
    (tmp_path / "suspects.csv").write_text("file,label\na,b\n")
    with pytest.raises(RunError, match=r"suspects.csv cannot be read: it has other columns\.\n  expected .*\n  fix "):
        suspects.load(tmp_path)


def test_correct_labels_give_no_suspects(parent, tmp_path):
    draw(tmp_path / "set", ["a", "b", "c"], 10, seed=5)
    result = suspects.find(parent, tmp_path / "set")
    assert result == [] and suspects.load(tmp_path) == []
    suspects.write(result, tmp_path)
    assert str(result) == "no suspects among 30 images: no label is less credible than the others of its class"
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
    message = (
        "has classes with a single image, which cannot be compared with others of its class.\n  b         1 image in"
    )
    assert message in text
    assert "expected  at least 2 images of each class" in text and "fix       add images" in text
    with pytest.raises(ConfigError, match="folds: 1 is too few"):
        suspects.possible_folds(report, 1)


def test_another_data_set_is_refused(parent, squares):
    with pytest.raises(DatasetError, match=r"has the classes left, right; .* has a, b, c"):
        suspects.find(parent, squares / "two")


def test_a_folder_that_cannot_be_created(result, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(MslabError, match=r"file/new cannot be created: Not a directory"):
        suspects.write(result, tmp_path / "file" / "new")


def test_the_command(flipped, parent, result, tmp_path):
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


def test_a_packed_data_set_has_thumbnails_too(flipped, parent, result, tmp_path):
    from mslab.data.packing import pack_dataset

    pack_dataset(check_dataset(flipped[0] / "val"), tmp_path / "pack")
    packed = suspects.find(parent, tmp_path / "pack")
    expected = [row for row in result if row["split"] == "val"]
    assert sorted(row["p_label"] for row in packed) == pytest.approx([row["p_label"] for row in expected])
    assert packed.page().count("data:image/jpeg;base64,") == len(expected)
