"""A folder at the wrong level in place of a data set: named as what it is, with what to give; --fix moves nothing."""

import re
import subprocess
import unicodedata
from pathlib import Path

import pytest
from helpers import cli, draw

from mslab.check import check_dataset, quarantine
from mslab.check.levels import LISTED
from mslab.errors import DatasetError
from mslab.escaping import typed_with

SETS = ("nine/train/a nine/train/b nine/val/a nine/val/b", "two/train/l two/val/l")
RUN = ("x/manifest.json", "x/config.yaml", "x/checkpoints/best.ckpt")


def make(root, *folders, files=()):
    """Class folders with one file in each that is an image by its name, and other files."""
    for folder in " ".join(folders).split():
        (root / folder).mkdir(parents=True, exist_ok=True)
        (root / folder / "1.png").touch()
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).touch()
    return root


def state(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*"))


def shown(text):
    """The commands of mslab that a text shows, as words."""
    return [line.split() for line in re.findall(r"mslab (check .*?)(?:    |\n|$)", text)]


SEVERAL = "holds several data sets; give one: "


@pytest.mark.parametrize(
    ("folders", "files", "text", "instead"),
    [
        (SETS, [], SEVERAL + "nine (train, val), two (train, val)", ["nine", "two"]),
        (SETS, ["README.md", ".cache/x", "empty/notes.txt", "nine.quarantine/train/1.png"], SEVERAL, ["nine", "two"]),
        ((*SETS, "photos"), [], SEVERAL, ["nine", "two"]),  # loose pictures beside them
        (("packed/train", "two/train/l two/val/l"), ["packed/train/pack.json"], SEVERAL, ["packed", "two"]),
        (("pets/cat pets/dog", "toys/car toys/ball"), [], SEVERAL + "pets (2 classes), toys", ["pets", "toys"]),
        (("pets/cat pets/dog", "toys/car toys/ball"), ["empty/x.txt"], SEVERAL, ["pets", "toys"]),
        (("lab/data/nine/train/a lab/data/nine/val/a lab/data/two/train/l docs",), ["lab/x.py", ".git/config"],
         SEVERAL, ["lab/data/nine", "lab/data/two"]),
        (("datasets/nine/train/a datasets/nine/val/a docs",), ["src/x.py", "runs/x/manifest.json"],
         "is no data set; it holds one: nine", ["datasets/nine"]),
        (("dataset/cat dataset/dog docs", "venv/lib/x/icons venv/lib/x/images my/lib/site-packages/x/a",
          "node_modules/x/a node_modules/x/b"), ["my/pyvenv.cfg", "main.py"],
         "is no data set; it holds one: dataset (2 classes)", ["dataset"]),
        (("datasets/nine/train/a datasets/two/train/a docs",), RUN, "contains runs of mslab train (x), not classes of "
         "images; it holds nine (train), two (train)", ["datasets/nine", "datasets/two"]),
        ((), RUN, "contains runs of mslab train (x), not classes of images", []),
        ((), [name.removeprefix("x/") for name in RUN], "is of a run of mslab train, and contains no images", []),
        ((), ["a/x.py", "b/y.py", "c/d/z.py"], "contains a, b, c, with other things than images in them", []),
        ((), ["a/x/z.py", "b/x/z.py"], "contains a, b, with the folders x in them: neither classes of images nor", []),
        (("docs",), ["a/x.py", "b/y.py"], "with other things than images in them; only docs has images", []),
    ],
    ids=str,
)  # fmt: skip
def test_a_folder_above_data_sets_is_answered_with_them_and_nothing_is_moved(tmp_path, folders, files, text, instead):
    root = make(tmp_path / "set", *folders, files=files)
    before = state(tmp_path)
    for option in ([], ["--fix"], ["--fix", "--yes"]):
        done = cli("check", root, *option)
        assert done.returncode == 1 and text in done.stdout, done.stdout
        assert shown(done.stdout) == [["check", str(root / name), *option] for name in instead]
        assert state(tmp_path) == before
    report = check_dataset(root)
    assert {finding.code for finding in report.errors} == {"wrong-level"} and not quarantine.plan_moves(report)


def test_every_command_names_what_to_give_in_its_place(tmp_path, monkeypatch):
    root = make(tmp_path / "sets", *SETS)
    for words in (["data", "split"], ["data", "pack", "--out", tmp_path / "out"]):
        done = cli(*words, root)
        fixes = [" ".join(map(str, ["mslab", *words, root / name])) for name in ("nine", "two")]
        assert done.returncode == 1 and SEVERAL in done.stderr and all(fix in done.stderr for fix in fixes)
    done = cli("data", "import", root)
    assert done.returncode == 1 and f"{root} is a folder, not an archive: it {SEVERAL}" in done.stderr
    assert shown(done.stderr) == [["check", str(root / "nine")], ["check", str(root / "two")]]
    done = cli("data", "import", root / "nine")
    assert "needs no import" in done.stderr and shown(done.stderr) == [["check", str(root / "nine")]]
    with pytest.raises(DatasetError, match=SEVERAL) as caught:  # as a config names it
        check_dataset(root, root).raise_errors("x.yaml says class_num: 9")
    assert str(caught.value).startswith(f"{root} cannot be used for training.")
    assert f"train_data: {root}/nine/train\n" in caught.value.fix and f"val_data: {root}/two/val" in caught.value.fix
    monkeypatch.setattr("sys.argv", ["/usr/bin/mslab", "eval", "runs/x", "--data", f"{root}/"])
    assert typed_with(root, root / "a b") == f"mslab eval runs/x --data '{root}/a b'"
    monkeypatch.setattr("sys.argv", ["mslab", "eval", "runs/x", "--data", "runs/x"])
    assert typed_with(Path("runs/x"), root, last=True) == f"mslab eval runs/x --data {root}"
    monkeypatch.setattr("sys.argv", ["script.py", str(root)])
    assert "mslab check " in str(check_dataset(root)) and not typed_with(root, root)


def test_many_data_sets_links_to_them_and_the_whole_machine(tmp_path, monkeypatch):
    root = make(tmp_path / "sets", *(f"s{number}/train/a" for number in range(LISTED + 2)))
    text = str(check_dataset(root))
    assert text.count("mslab check ") == LISTED and "s7 (train) and 2 more" in text
    (tmp_path / "links").mkdir()
    for name in ("s0", "s1"):
        (tmp_path / "links" / name).symlink_to(root / name)
    report = check_dataset(tmp_path / "links")
    assert SEVERAL in str(report) and {finding.code for finding in report.errors} == {"wrong-level"}
    assert not quarantine.plan_moves(report)
    monkeypatch.setenv("HOME", str(tmp_path))
    report = check_dataset(tmp_path)
    assert "is your home folder, not a data set; it holds s0 (train), s1" in str(report)
    assert "is the top of the file system, not a data set" in str(check_dataset("/"))
    (tmp_path / "zips").mkdir()
    (tmp_path / "zips" / "nine.zip").touch()
    assert f"mslab data import {tmp_path}/zips/nine.zip" in str(check_dataset(tmp_path / "zips"))


def test_a_run_in_place_of_a_data_set_is_answered_with_its_own_images(tmp_path):
    root = make(tmp_path / "set", "train/a train/b val/a val/b")
    run = make(tmp_path, files=RUN) / "x"
    (run / "config.yaml").write_text(f"train_data: {root}/train\nval_data: {root}/val\n")
    for folder in (run, run / "checkpoints"):
        (finding,) = check_dataset(folder).errors
        assert "is of a run of mslab train" in finding.message
        assert finding.fix == f"mslab check {root}/train\nmslab check {root}/val"
    (run / "config.yaml").write_bytes(b"\xff: [")
    assert "names it as train_data" in check_dataset(run).errors[0].fix


def test_one_class_in_place_of_a_data_set(tmp_path):
    root = make(tmp_path / "set", "a b c")
    (finding,) = check_dataset(root / "a").errors
    assert "it is one class, not a data set" in finding.message and finding.fix == f"mslab check {root}"
    (finding,) = check_dataset(make(tmp_path / "alone", "x") / "x").errors
    assert "one folder per class" in finding.fix and "mslab" not in finding.fix


def test_a_fix_moves_no_folder_that_may_be_somebodys_work(tmp_path):
    root = draw(tmp_path / "set", ["a", "b"], 2)
    mine = [".git/config", ".venv/bin/python", "a/notes/thesis.docx"]
    tools = [".ipynb_checkpoints/x.ipynb", "b/.ipynb_checkpoints/x.png", "b/empty/.DS_Store", "__MACOSX/x"]
    make(root, files=[*mine, *tools])
    before = state(root)
    report = check_dataset(root, skip_content=True)
    list(quarantine.fix(report))
    gone = set(before) - set(state(root))
    assert gone >= set(tools) and not gone & set(mine)
    ignored = [
        re.search(r"--ignore (\S+)$", finding.fix)[1] for finding in check_dataset(root, skip_content=True).errors
    ]
    assert sorted(ignored) == [".git", ".venv", "a/notes"]
    assert check_dataset(root, skip_content=True, ignore=ignored).ok


# --- names of classes -------------------------------------------------------------------------------------------------


def run(fix):
    """Run what a fix line shows."""
    command = fix[fix.index("mv ") :].split("    ")[0]
    subprocess.run(["bash", "-c", command], check=True)


NFC, NFD = (unicodedata.normalize(form, "Träuschling") for form in ("NFC", "NFD"))
SPELLINGS = [("Cat", "cat"), ("fly agaric", "fly_agaric"), (NFC, NFD), ("Röhrling", "Rohrling"), ("a-b", "a b")]
SPELLINGS += [("bus", "buses"), ("mushrooms", "mushroom"), ("owl", "owl "), ("-x", "_x"), ("Straße", "strasse")]


def test_classes_that_two_splits_spell_otherwise_get_one_advice_that_names_the_split(tmp_path):
    root, content = tmp_path / "set", 0
    for split, names in zip(("train", "val"), zip(*SPELLINGS, strict=True), strict=True):
        for name in names:
            content += 1
            draw(root / split, [name], 1, seed=content)
    errors = check_dataset(root, skip_content=True).errors
    fixes = list(dict.fromkeys(finding.fix for finding in errors))
    assert len(errors) == 2 * len(SPELLINGS) and len(fixes) == len(SPELLINGS)
    assert all(fix.startswith("in val, rename ") for fix in fixes)
    for fix in fixes:
        run(fix)
    assert check_dataset(root, skip_content=True).ok
    assert sorted(path.name for path in (root / "val").iterdir()) == sorted(one for one, _ in SPELLINGS)


@pytest.mark.parametrize("names", [("typical", "atypical"), ("infected", "uninfected"), ("class1", "class2")])
def test_classes_that_differ_in_a_letter_are_not_taken_for_one(tmp_path, names):
    for split, name in zip(("train", "val"), names, strict=True):
        make(tmp_path / split, f"{name} other")
    fixes = [finding.fix for finding in check_dataset(tmp_path, skip_content=True).errors if "class" in finding.code]
    assert fixes and not any("rename" in fix for fix in fixes)


def test_two_spellings_in_one_split_are_merged_by_the_command_that_is_shown(tmp_path):
    root = draw(tmp_path / "my set", ["cat", "dog"], 2)
    (root / "Cat").mkdir()
    (root / "cat" / "001.png").rename(root / "Cat" / "9.png")
    (finding,) = check_dataset(root).errors
    run(finding.fix)
    assert check_dataset(root).counts == {"": {"Cat": 2, "dog": 2}} or check_dataset(root).ok


def test_one_class_says_what_it_means_and_never_class_num_1(tmp_path):
    root = draw(tmp_path / "set", ["cat"], 2)
    (finding,) = check_dataset(root, class_num=2).errors
    assert "one class folder (cat): a network that always says cat is always right" in finding.message
    assert "class_num: 1" not in finding.fix and "class_num: 2" in finding.fix
    assert check_dataset(root).ok and "always right" in str(check_dataset(root))
    draw(root, ["no cat"], 2, seed=5)
    assert check_dataset(root, class_num=2).ok


def test_images_beside_empty_classes_are_named_in_training_too_and_moved_by_the_command(tmp_path):
    root = draw(tmp_path / "set", ["photos"], 6)
    for name in ("cat", "dog"):
        (root / name).mkdir()
    for number, path in enumerate(sorted((root / "photos").iterdir())):
        path.rename(root / f"{('cat', 'dog')[number % 2]}.{number}.png")
    (root / "photos").rmdir()
    with pytest.raises(DatasetError, match=r"6 images lie beside the class folders, in no class, such as cat\.0\.png"):
        check_dataset(root, class_num=2).raise_errors("x.yaml says class_num: 2")
    for finding in check_dataset(root, class_num=2).errors:
        run(finding.fix)
    assert check_dataset(root, class_num=2).counts == {"": {"cat": 3, "dog": 3}}
    (root / "bird").mkdir()
    (root / "IMG_1.png").touch()
    (finding,) = check_dataset(root).errors
    assert finding.fix == "move each of the images beside the class folders into the folder of its class"
