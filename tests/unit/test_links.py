"""Images that stand in a store, and roots that nobody may change: links that are followed, names that are left out."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from checking import codes_and_paths
from helpers import PROJECT, cli, draw, without_roots_rights

from mslab.check import check_dataset
from mslab.check.quarantine import fix, plan_moves
from mslab.config import load_settings
from mslab.data.splitting import split_dataset
from mslab.errors import ConfigError, DatasetError


@pytest.fixture
def store(tmp_path):
    return draw(tmp_path / "store", ["a", "b", "c"], 5)


@pytest.fixture
def linked(tmp_path, store):
    """Every kind of link to the same images: to files, to a folder, relative, through another link, without suffix."""
    root, blobs = tmp_path / "linked", tmp_path / "blobs"
    for folder in (root / "a", root / "c", blobs):
        folder.mkdir(parents=True)
    for path in (store / "a").iterdir():
        (root / "a" / path.name).symlink_to(path)
    (root / "b").symlink_to("../store/b")
    for number, path in enumerate(sorted((store / "c").iterdir())):
        os.link(path, blobs / f"{number:040x}")  # as Hugging Face's cache keeps files
        (blobs / f"link-{number}").symlink_to(f"{number:040x}")
        (root / "c" / path.name).symlink_to(f"../../blobs/link-{number}")
    return root


def state(folder):
    return {str(path): (path.lstat().st_mtime_ns, path.is_symlink()) for path in folder.rglob("*")}


def test_links_out_of_the_data_are_refused_with_the_way_to_follow_them(linked):
    errors = check_dataset(linked).errors
    assert {finding.code for finding in errors} == {"symlink"}
    assert {finding.path for finding in errors if "/" not in finding.path} == {"b"}
    assert len(errors) == 11 and all("not followed unless you say so" in finding.message for finding in errors)
    assert all(f"mslab check {linked} --follow-links" in finding.fix for finding in errors)
    assert all(finding.fix.startswith("follow_links: true") for finding in errors)


@pytest.mark.parametrize(
    ("val", "links"),
    [
        ("", {"a": "a", "b": "b", "c": "c"}),  # the classes
        ("val", {"train/a": "a", "train/b": "b", "train/c": "c"}),
        ("val", {"train": ""}),
        ("set/val", {"set/train": ""}),
        ("", {"set": ""}),  # a folder around the classes
    ],
)
def test_a_link_out_of_the_data_is_the_only_error(tmp_path, store, val, links):
    root = tmp_path / "root"
    draw(root / val, ["a", "b", "c"], 3, seed=8) if val else None
    for name, target in links.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).symlink_to(store / target)
    report = check_dataset(root, class_num=3, skip_content=True)
    assert {(finding.code, finding.path.rstrip("/")) for finding in report.errors} == {("symlink", n) for n in links}
    assert all(finding.fix.startswith("follow_links: true") for finding in report.errors)
    assert "--fix" not in str(report) and plan_moves(report) == []
    assert check_dataset(root, class_num=3, follow_links=True, skip_content=True).ok
    if links == {"train": ""}:  # each of them is a ROOT that may be a link
        assert check_dataset(root / "train", root / "val", class_num=3, skip_content=True).ok


def test_a_linked_class_in_val_is_not_a_missing_one(tmp_path, store):
    for name in ("train", "val"):
        draw(tmp_path / "set" / name, ["a", "b", "c"][: 3 if name == "train" else 2], 3, seed=len(name))
    (tmp_path / "set" / "val" / "c").symlink_to(store / "c")
    report = check_dataset(tmp_path / "set", class_num=3, skip_content=True)
    assert [(finding.code, finding.path) for finding in report.errors] == [("symlink", "val/c")]


def test_followed_links_have_the_fingerprint_of_the_files_themselves(linked, store, tmp_path):
    report = check_dataset(linked, follow_links=True)
    assert report.ok and report.fingerprint == check_dataset(store).fingerprint
    counts = split_dataset(report, tmp_path / "split", 0.4)
    assert {name: sum(row.values()) for name, row in counts.items()} == {"train": 9, "val": 6}
    assert not any(path.is_symlink() for path in (tmp_path / "split").rglob("*"))
    done = cli("data", "split", linked, "--follow-links", "--out", tmp_path / "by-command")
    assert done.returncode == 0, done.stderr


def test_loops_and_broken_links_stay_what_they_are(linked):
    (linked / "a" / "up").symlink_to("../..")
    (linked / "a" / "self").symlink_to("self")
    (linked / "a" / "gone.png").symlink_to(linked / "nowhere.png")
    report = check_dataset(linked, follow_links=True)
    assert codes_and_paths(report) == {("symlink", "a/up"), ("symlink", "a/self"), ("broken-symlink", "a/gone.png")}
    (linked / "a" / "gone.png").unlink()
    (linked / "a" / "gone.png").symlink_to("../.git/annex/objects/Xk/9/SHA256E-s1--2.png/SHA256E-s1--2.png")
    (annexed,) = [f for f in check_dataset(linked, follow_links=True).findings if f.code == "broken-symlink"]
    assert annexed.fix == "git annex get    fetches it"
    assert all(finding.fix.startswith("mslab check") for finding in report.errors)


def test_links_to_images_count_as_images_before_they_are_moved(linked):
    report = check_dataset(linked)
    assert not any("--fix" in finding.fix for finding in report.errors)
    with pytest.raises(DatasetError, match="linked/a would be left without images: --fix would move all 5") as caught:
        list(fix(report, yes=True))
    assert caught.value.fix == report.follow(report.splits[""])
    for name in "abc":  # some images of each class are files
        if (linked / name).is_symlink():
            (linked / name).unlink()
        draw(linked, [name], 20)
    with pytest.raises(DatasetError, match="--fix would move more than a tenth of the images") as caught:
        for number in range(5, 12):
            (linked / "a" / f"l{number}.png").symlink_to(linked.parent / "store/b/000.png")
        list(fix(check_dataset(linked, skip_content=True), yes=False))
    assert caught.value.fix.startswith(f"mslab check {linked} --follow-links    reads what the links lead to\n")


def test_fix_and_convert_change_nothing_behind_a_link(linked, store):
    """A link itself may be moved, a file behind a link to a folder belongs to the store."""
    for folder in (store / "a", store / "b"):
        (folder / "cut.png").write_bytes((folder / "000.png").read_bytes()[:200])
    (store / "b" / "turned.gif").write_bytes((PROJECT / "docs" / "demo.png").read_bytes()[:30])
    (linked / "a" / "cut.png").symlink_to(store / "a" / "cut.png")
    before = state(store)
    report = check_dataset(linked, follow_links=True)
    behind = next(finding for finding in report.errors if finding.path == "b/cut.png")
    assert behind.fix.startswith('ignore: ["b/cut.png"]') and "--fix" not in behind.fix
    assert [source.name for source, *_ in plan_moves(report, convert=True)] == ["cut.png"]
    lines = list(fix(report, convert=True))
    assert any("b/cut.png: it is behind the link" in line and "nothing is changed" in line for line in lines)
    assert state(store) == before and not os.path.lexists(linked / "a" / "cut.png")
    assert linked.with_name("linked.quarantine").joinpath("a", "cut.png").is_symlink()
    assert check_dataset(linked, follow_links=True, ignore=["b/cut.png", "b/turned.gif"]).ok


def test_a_root_that_is_a_link_is_checked_but_not_changed(store, tmp_path):
    (store / ".checkpoint").mkdir()
    (tmp_path / "data").symlink_to(store)
    report = check_dataset(tmp_path / "data")
    with pytest.raises(DatasetError) as caught:
        list(fix(report))
    assert f"is a link to {store}: nothing is changed through it" in str(caught.value)
    assert f"mslab check {store} --fix" in str(caught.value) and (store / ".checkpoint").is_dir()


SYSTEMS = [".snapshot", "lost+found", "@eaDir", "#recycle", ".Trash-1000", "$RECYCLE.BIN", "System Volume Information"]
SYSTEMS += [".zfs", "@Recently-Snapshot", ".DS_Store"]


def test_what_a_file_system_keeps_there_is_left_out_by_its_name(store):
    for name in SYSTEMS:
        (store / name).mkdir()
        (store / "a" / name).mkdir()
    report = check_dataset(store)
    strays = {finding.path: finding.fix for finding in report.errors if finding.code == "stray-folder"}
    assert {finding.code for finding in report.errors} == {"stray-folder"}
    assert set(strays) == {f"{place}{name}/" for name in SYSTEMS for place in ("", "a/")}
    for name in SYSTEMS:
        for place in ("", "a/"):
            assert strays[f"{place}{name}/"].startswith(f'ignore: ["{name}"]    in the config')
            assert "--fix" not in strays[f"{place}{name}/"]
    ignoring = check_dataset(store, ignore=SYSTEMS)
    assert ignoring.ok and not {"stray-folder", "nested-folder"} & {code for code, _ in codes_and_paths(ignoring)}
    assert ignoring.ignored == tuple(SYSTEMS)


def test_the_fix_for_a_folder_that_may_not_be_changed_is_to_ignore(store):
    (store / ".cache").mkdir()
    (store / "a" / "000.png").write_bytes(b"")
    script = f"import mslab\nfrom mslab.check import quarantine\nreport = mslab.check_dataset({str(store)!r})\n"
    script += "for f in report.errors: print(f.path, f.fix)\nfor line in quarantine.fix(report): print(line)"
    for folder in (store, store / "a"):
        folder.chmod(0o555)
    try:
        command = [sys.executable, "-c", script]
        done = subprocess.run(command, capture_output=True, text=True, cwd=PROJECT, preexec_fn=without_roots_rights)
    finally:
        for folder in (store, store / "a"):
            folder.chmod(0o755)
    assert done.stdout.splitlines() == [
        f'.cache/ ignore: [".cache"]    in the config leaves it out, as does mslab check {store} --ignore .cache',
        f'a/000.png ignore: ["a/000.png"]    in the config leaves it out, as does mslab check {store} '
        "--ignore a/000.png",
        f"left {store}/.cache: you may not change it",
        f"left {store}/a/000.png: you may not change it",
    ], done.stderr
    assert cli("check", store, "--ignore", ".cache", "--ignore", "a/000.png").returncode == 0


def test_ignore_takes_names_and_paths_in_the_split_and_nothing_else(three):
    assert load_settings(three | {"ignore": [".snapshot", "a/1.jpg"], "follow_links": True}).follow_links
    for wrong in ("/mnt/x", "a/", "", "a//b"):
        with pytest.raises(ConfigError, match="ignore"):
            load_settings(three | {"ignore": [wrong]})
    with pytest.raises(ConfigError, match="ignore"):
        load_settings(three | {"ignore": Path("x").name})
