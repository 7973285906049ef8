"""--fix, --convert, --dry-run, --undo and --html: no file is lost."""

import hashlib
import json
import shutil
import subprocess

import numpy as np
import pytest
from checking import photo
from helpers import cli, draw
from PIL import Image

from mslab.check import check_dataset, page, quarantine
from mslab.errors import DatasetError


@pytest.fixture
def root(tmp_path):
    return draw(tmp_path / "set", ["a", "b", "c"], 3)


@pytest.fixture
def messy(root):
    """A data set with one file or folder of each kind that is moved or converted, and no other problems."""
    (root / ".checkpoint").mkdir()
    (root / ".checkpoint" / "x").write_text("x")
    (root / "a" / "deep").mkdir()
    (root / "b" / "text.png").write_text("no image")
    (root / "b" / "empty.jpg").write_bytes(b"")
    (root / "c" / "away.png").symlink_to("/etc/hostname")
    shutil.copy(root / "a" / "000.png", root / "a" / "twin.png")
    image = Image.open(root / "c" / "000.png").resize((60, 40))
    image.save(root / "c" / "anim.gif")
    image.convert("CMYK").save(root / "b" / "inks.jpg", quality=95)
    exif = Image.Exif()
    exif[274] = 6
    image.rotate(15).save(root / "a" / "turned.jpg", exif=exif, quality=95)
    wide = (np.arange(2400, dtype=np.uint16) * 3).reshape(40, 60)
    Image.fromarray(wide).save(root / "a" / "wide.png")
    clear = Image.new("RGBA", (60, 40), (10, 200, 30, 0))
    clear.paste((200, 10, 30, 255), (0, 0, 30, 40))
    clear.save(root / "b" / "clear.png")
    return root


def state(folder):
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        for path in folder.rglob("*")
    }


def test_fix_moves_the_labs_own_stray_folder_to_quarantine(root):
    (root / ".checkpoint").mkdir()
    done = cli("check", root, "--fix", "--classes", 3)
    assert done.returncode == 0, done.stderr
    assert f"moved {root}/.checkpoint -> {root}.quarantine/.checkpoint (stray-folder)" in done.stderr
    assert f"mslab check {root} --undo    moves everything back" in done.stderr
    report = check_dataset(root, class_num=3)
    assert report.ok and "stray-folder" not in str(report)
    assert root.with_name("set.quarantine").joinpath(".checkpoint").is_dir()


def test_fix_moves_what_it_reports_and_nothing_else(messy):
    before = state(messy)
    lines = list(quarantine.fix(check_dataset(messy)))
    assert len(lines) == 7
    home = messy.with_name("set.quarantine")
    moved = state(home)
    moved.pop("log.jsonl")
    gone = {
        ".checkpoint",
        ".checkpoint/x",
        "a/deep",
        "b/text.png",
        "b/empty.jpg",
        "c/away.png",
        "c/anim.gif",
        "a/twin.png",
    }
    assert before.keys() - state(messy).keys() == gone
    assert {name: moved[name] for name in gone} == {name: before[name] for name in gone}
    assert check_dataset(messy).ok


def test_undo_brings_everything_back(messy):
    before = state(messy)
    for convert in (False, True):
        list(quarantine.fix(check_dataset(messy), convert))
        assert state(messy) != before
        list(quarantine.undo(messy))
        assert state(messy) == before and not messy.with_name("set.quarantine").exists()


def test_two_fixes_are_undone_together(messy):
    before = state(messy)
    list(quarantine.fix(check_dataset(messy)))
    (messy / ".checkpoint").mkdir()  # from another run
    list(quarantine.fix(check_dataset(messy)))
    assert messy.with_name("set.quarantine").joinpath(".checkpoint_").is_dir()
    lines = list(quarantine.undo(messy))
    assert any(line.startswith("left") and ".checkpoint" in line for line in lines)  # the other one is there
    assert before.keys() - state(messy).keys() == {".checkpoint/x"}
    assert json.loads(messy.with_name("set.quarantine").joinpath("log.jsonl").read_text())["why"] == "stray-folder"


def test_convert_writes_upright_rgb_copies_and_saves_the_originals(messy):
    list(quarantine.fix(check_dataset(messy), convert=True))
    report = check_dataset(messy)
    assert report.ok and not {"mode", "format", "exif-orientation", "animated"} & {
        finding.code for finding in report.findings if finding.severity != "info"
    }
    originals = state(messy.with_name("set.quarantine"))
    assert {"c/anim.gif", "b/inks.jpg", "a/turned.jpg", "a/wide.png", "b/clear.png"} <= originals.keys()
    assert (messy / "c" / "anim.png").is_file() and Image.open(messy / "a" / "turned.jpg").size == (40, 60)
    assert np.asarray(Image.open(messy / "a" / "wide.png")).max() == 255  # the range of the 16 bits is scaled to 255
    assert Image.open(messy / "b" / "clear.png").getpixel((50, 20)) == (255, 255, 255)
    assert not list(messy.rglob("*.partial"))


def test_convert_follows_no_link_and_overwrites_no_file(messy, tmp_path):
    private = tmp_path / "private"
    private.write_text("a key")
    (messy / "c" / "anim.gif.partial").symlink_to(private)
    (messy / "b" / "inks.jpg.partial").write_text("a download")
    list(quarantine.fix(check_dataset(messy), convert=True))
    assert private.read_text() == "a key" and (messy / "b" / "inks.jpg.partial").read_text() == "a download"
    assert (messy / "c" / "anim.png").stat().st_mode == (messy / "a" / "000.png").stat().st_mode
    list(quarantine.undo(messy))
    assert (messy / "b" / "inks.jpg.partial").read_text() == "a download"


def test_a_changed_converted_copy_is_not_deleted(messy):
    list(quarantine.fix(check_dataset(messy), convert=True))
    (messy / "c" / "anim.png").write_bytes(b"work of an hour")
    lines = list(quarantine.undo(messy))
    assert any("its converted copy" in line and "has changed since" in line for line in lines)
    assert (messy / "c" / "anim.png").read_bytes() == b"work of an hour"
    assert messy.with_name("set.quarantine").joinpath("c/anim.gif").is_file()


def test_dry_run_touches_nothing(messy):
    before = state(messy.parent)
    done = cli("check", messy, "--convert", "--dry-run")
    assert done.returncode == 1 and state(messy.parent) == before
    assert (
        f"would move {messy}/c/anim.gif -> {messy}.quarantine/c/anim.gif (format); a converted copy stays"
        in done.stderr
    )
    assert "to move; nothing was touched" in done.stderr


def test_fix_refuses_to_leave_a_class_empty(root):
    for path in (root / "a").iterdir():
        path.write_text("no image")
    (root / ".checkpoint").mkdir()
    done = cli("check", root, "--fix")
    assert done.returncode == 1 and (root / ".checkpoint").is_dir()
    assert "would be left without images: --fix would move all 3" in done.stderr


LEFTOVERS = (".ipynb_checkpoints", ".thumbnails", ".AppleDouble", "__MACOSX")


def test_what_tools_leave_in_a_class_is_moved_and_of_equal_images_the_copy(root):
    copies = ("000-checkpoint", "001 (1)", "001 - Copy", "Copy of 001", "0 - Kopie (2)")
    for name in LEFTOVERS:
        (root / "a" / name).mkdir()
        for number in range(9):  # they are not counted as images of the class
            shutil.copy(root / "a/000.png", root / "a" / name / f"{number}.png")
    for name in copies:
        shutil.copy(root / "b" / ("000.png" if "000" in name else "001.png"), root / "b" / f"{name}.png")
    report = check_dataset(root)
    assert {finding.code for finding in report.errors} == {"stray-folder"}
    assert not any("mv " in finding.fix for finding in report.errors)
    assert len(list(quarantine.fix(report, yes=False))) == len(LEFTOVERS) + len(copies)
    assert state(root).keys() == {*"abc", *(f"{name}/00{number}.png" for name in "abc" for number in range(3))}


def test_folders_in_a_class_are_emptied_by_the_command_though_names_repeat(root):
    for inner in ("it's one", "-two"):
        shutil.copytree(root / "c", root / "a" / inner)
    shutil.copytree(root / "c", root / "b" / "alone")
    for number in range(3):
        (root / "b" / f"00{number}.png").rename(root / "b" / f"1{number}.png")
    report = check_dataset(root, skip_content=True)
    for finding in report.errors:
        line = finding.fix.partition(":    ")[2]
        assert finding.code == "nested-folder" and subprocess.run(["sh", "-c", line], check=True).returncode == 0
    assert check_dataset(root, skip_content=True).ok
    assert {"a/it's one-000.png", "a/-two-000.png", "b/000.png"} <= state(root).keys() and len(state(root)) == 21


def test_a_folder_of_runs_beside_the_classes_is_one_finding(root):
    for name in ("x-20260101-000000", "y-20260101-000000"):
        (root / "runs" / name / "checkpoints").mkdir(parents=True)
        (root / "runs" / name / "config.yaml").touch()
    (found,) = check_dataset(root).errors
    assert (found.code, found.path) == ("empty-class", "runs/") and 'ignore: ["runs"]' in found.fix


def test_fix_of_a_leak_moves_the_copy_in_train(tmp_path):
    for seed, split in enumerate(("train", "val", "test")):
        draw(tmp_path / "set" / split, ["a", "b"], 3, seed)
    for split in ("val", "test"):
        shutil.copy(tmp_path / "set/train/a/000.png", tmp_path / f"set/{split}/a/x.png")
    list(quarantine.fix(check_dataset(tmp_path / "set")))
    assert check_dataset(tmp_path / "set").ok
    assert (tmp_path / "set/test/a/x.png").is_file()
    assert {"train/a/000.png", "val/a/x.png"} <= state(tmp_path / "set.quarantine").keys()


@pytest.mark.parametrize(("one", "two", "option"), [("val", "test", " --val 0.5"), ("train", "val", "")])
def test_fix_of_two_equal_splits_says_that_they_are(tmp_path, one, two, option):
    root = tmp_path / "set"
    for number, name in enumerate(["train", one]):
        for index in range(6):
            (root / name / "ab"[index % 2]).mkdir(parents=True, exist_ok=True)
            photo(10 * number + index).save(root / name / "ab"[index % 2] / f"{index}.png")
    shutil.copytree(root / one, root / two)
    with pytest.raises(DatasetError, match=f"{one} and {two} are the same images") as caught:
        quarantine.plan_moves(check_dataset(root))
    again = f"mslab data split {root / one}{option}"
    assert caught.value.fix == f"remove one of them, or split it again: {again}"
    assert cli(*again.split()[1:]).returncode == 0 and check_dataset(f"{root / one}-split").ok


def test_after_a_failed_move_the_log_lets_undo_restore_everything(messy, monkeypatch):
    before = state(messy)
    messy.with_name("set.quarantine").mkdir()
    messy.with_name("set.quarantine").joinpath("b").write_text("a file where a folder is needed")
    with pytest.raises(DatasetError, match=r"cannot be moved to .*set.quarantine/b"):
        list(quarantine.fix(check_dataset(messy)))
    list(quarantine.undo(messy))
    assert state(messy) == before


def test_undo_without_a_quarantine_and_undo_together_with_fix(root):
    done = cli("check", root, "--undo")
    assert done.returncode == 1 and "There is nothing to undo" in done.stderr and "fix " in done.stderr
    done = cli("check", root, "--undo", "--fix")
    assert done.returncode == 2 and "--undo cannot be combined" in done.stderr and "Traceback" not in done.stderr


def test_the_page_is_one_file_with_thumbnails_and_escapes_names(messy, tmp_path):
    Image.open(messy / "a" / "000.png").save(messy / "b" / "<img src=x onerror=alert(1)>.png")
    done = cli("check", messy, "--html", tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    assert done.returncode == 1 and "<img src=x" not in text and "&lt;img src=x onerror=alert(1)&gt;.png" in text
    assert text.count("data:image/jpeg;base64,") >= 4 and "http" not in text.replace("http-equiv", "")
    assert "Training would be stopped." in text and "stray-folder" in text


def test_the_page_of_thousands_of_findings_stays_small(root):
    for number in range(400):
        (root / "a" / f"x{number}.png").write_bytes(b"")
    text = page.page(check_dataset(root))
    assert len(text) < 100_000 and text.count(".png") < 60 and "… and 376 more" in text


def test_a_log_that_comes_with_the_data_moves_and_deletes_nothing_elsewhere(messy, tmp_path):
    """Whoever hands over a data set could hand over a quarantine with it."""
    home, keys, copy = messy.with_name("set.quarantine"), tmp_path / "authorized_keys", tmp_path / "mine.png"
    keys.write_text("mine")
    copy.write_bytes(b"picture")
    digest = hashlib.sha256(b"picture").hexdigest()
    home.mkdir()
    (home / "evil").write_text("ssh-ed25519 …")
    (home / "link").symlink_to(tmp_path)
    (messy / "link").symlink_to(tmp_path)
    inside, outside = str(messy / "a" / "x.png"), str(tmp_path / "new")
    victim = next(path for path in sorted((messy / "a").iterdir()) if path.is_file())
    own = hashlib.sha256(victim.read_bytes()).hexdigest()
    evil = {"from": inside, "to": str(home / "evil")}
    for entry in (
        evil | {"copy": str(victim), "sha256": own},
        evil | {"copy": inside, "sha256": own, "partial": str(victim)},
        evil | {"copy": inside},
        evil | {"copy": 5, "sha256": own},
        evil | {"copy": inside, "sha256": own, "partial": None},
        {"from": inside + "\0", "to": str(home / "evil")},
        {"from": inside, "to": str(home / "log.jsonl")},
        {"from": outside, "to": str(home / "evil")},
        {"from": f"{messy}/../new", "to": str(home / "evil")},
        {"from": str(messy / "link" / "new"), "to": str(home / "evil")},
        {"from": inside, "to": str(keys)},
        {"from": inside, "to": str(home / "link" / "authorized_keys")},
        {"from": inside, "to": str(home / "evil"), "copy": str(copy), "sha256": digest},
        {"from": inside, "to": str(home / "evil"), "copy": inside, "sha256": digest, "partial": str(copy)},
        {"from": 1, "to": str(home / "evil")},
        ["from", "to"],
    ):
        (home / "log.jsonl").write_text(json.dumps(entry | {"why": "x"} if isinstance(entry, dict) else entry) + "\n")
        with pytest.raises(DatasetError, match=r"log.jsonl, line 1: .*(is not (inside|a move)|did not make)"):
            list(quarantine.undo(messy))
    assert victim.exists() and keys.read_text() == "mine" and copy.exists() and (home / "evil").exists()
    assert not (tmp_path / "new").exists() and not (messy / "a" / "x.png").exists()


@pytest.mark.parametrize("linked", ["quarantine", "quarantine/log.jsonl", "quarantine/b"])
def test_a_quarantine_of_links_receives_nothing(messy, tmp_path, linked):
    private, link = tmp_path / "private", tmp_path / f"set.{linked}"
    private.mkdir()
    (private / "file").write_text("mine\n")
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(private / "file" if link.suffix == ".jsonl" else private)
    with pytest.raises(DatasetError, match=r"cannot be (moved|written)"):
        list(quarantine.fix(check_dataset(messy)))
    assert [path.name for path in private.iterdir()] == ["file"] and (private / "file").read_text() == "mine\n"


def test_a_converted_copy_is_never_written_through_a_link(messy, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("mine")
    for name in ("c/anim.gif", "b/inks.jpg", "a/wide.png"):
        (messy / f"{name}.partial").symlink_to(secret)
    list(quarantine.fix(check_dataset(messy), convert=True))
    assert secret.read_text() == "mine" and (messy / "c" / "anim.png").is_file()
