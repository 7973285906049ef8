"""A resume refuses a run folder in which something is gone or changed, and trains nothing over what is there."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import cli, manifest, settings, stopped_after, without_roots_rights

import mslab
from mslab.errors import MslabError
from mslab.training import start

LAST, BEST = "checkpoints/last.ckpt", "checkpoints/best.ckpt"
FRESH = {"image_size": 16, "stages": [[1, 4, 1]], "epochs": 1}


UNREADABLE = """
import sys
from pathlib import Path
from mslab.errors import MslabError
from mslab.training import resuming
run, *names = sys.argv[1:]
for file in (Path(run) / name for name in names):
    mode = file.stat().st_mode
    file.chmod(0)
    try:
        resuming.reopen(run)
    except MslabError as error:
        print(error)
    file.chmod(mode)
"""


@pytest.fixture(scope="module")
def runs(squares, tmp_path_factory):
    """A finished run, and another one of the same network with another seed."""
    before = Path.cwd()
    os.chdir(tmp_path_factory.mktemp("runs"))
    try:
        return [Path(mslab.train(settings(squares / "three", 3, **FRESH, seed=n)).run).resolve() for n in (1, 2)]
    finally:
        os.chdir(before)


@pytest.fixture(params=["finished", "killed"])
def run(runs, request, inside):
    """A copy of the finished run; the manifest of a killed one lists no files of its epochs."""
    copy = Path(shutil.copytree(runs[0], "copy"))
    if request.param == "killed":
        edit(copy, status="running", end=None, exit_status=None, artifacts=at_start(copy), metrics={})
    return copy


def at_start(run: Path) -> dict[str, str]:
    return {
        name: digest for name, digest in manifest(run)["artifacts"].items() if name in ("config.yaml", "images.csv")
    }


def edit(run: Path, **changes):
    (run / "manifest.json").write_text(json.dumps(manifest(run) | changes))


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def refused(run: Path) -> str:
    """The message of a resume, which has changed no file."""
    before = content(run)
    with pytest.raises(MslabError) as caught:
        start.resume(run)
    assert content(run) == before
    text = str(caught.value)
    assert "\n  expected" in text and "\n  fix" in text, text
    return text


def remove(path: Path):
    path.unlink()


def empty(path: Path):
    path.write_bytes(b"")


def halve(path: Path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def folder_instead(path: Path):
    path.unlink()
    path.mkdir()


def garble(path: Path):
    path.write_bytes(bytes(255 - byte for byte in path.read_bytes()))


@pytest.mark.parametrize("damage", [remove, empty, halve, folder_instead, garble])
@pytest.mark.parametrize("name", [LAST, "history.csv", "manifest.json", "config.yaml", "steps.csv"])
def test_a_resume_refuses_what_is_gone_or_cut_off_and_writes_nothing(run, name, damage):
    damage(run / name)
    text = refused(run)
    assert Path(name).name in text, text
    assert "put back" in text or "began" in text or "old values" in text, text
    if name == "steps.csv" and damage in (remove, empty):
        assert re.search(rf"steps.csv +is {'gone' if damage is remove else 'empty; the run had 6 steps'}\n", text), text
    if name == "history.csv" and damage is remove:
        assert "history.csv is gone; last.ckpt is of epoch 1" in text
    if Path(name).suffix == ".csv":
        best = f"put back {name}, from a copy of the run; or begin a new run with its best network:"
        assert re.search(rf"fix +{best}\n +mslab train copy/config.yaml --from copy/{BEST}", text), text


def test_a_run_without_last_ckpt_does_not_begin_again_and_what_is_said_instead_works(runs, inside):
    run = Path(shutil.copytree(runs[0], "copy"))
    (run / LAST).unlink()
    done = cli("train", "--resume", run)
    assert done.returncode == 1 and f"{run} has no {LAST}, with which it goes on" in done.stderr, done.stderr
    assert "would begin again over its own results" in done.stderr
    assert f"mslab train {run}/config.yaml --from {run}/{BEST}" in done.stderr
    (run / "manifest.json").unlink()
    assert f"mslab train {run}/config.yaml --from {run}/{BEST}" in cli("train", "--resume", run).stderr
    again = cli("train", run / "config.yaml", "--from", run / BEST, "--no-report")
    assert again.returncode == 0, again.stderr


def test_files_of_another_run_are_refused_by_name(run, runs):
    for name, words in (("history.csv", "history.csv  "), ("config.yaml", "seed"), ("manifest.json", "seed")):
        kept = (run / name).read_bytes()
        shutil.copy(runs[1] / name, run / name)
        if name == "manifest.json" and manifest(run)["status"] == "done":
            text = refused(run)
            assert "manifest.json  is another run's: 5 of the 5 files that it lists have other contents" in text, text
            assert "put back manifest.json, from a copy" in text and "last.ckpt" not in text
        else:
            assert words in refused(run)
        (run / name).write_bytes(kept)


def test_checkpoints_of_another_run_are_refused(runs, inside):
    for name in (LAST, BEST, "checkpoints/best_backbone.ckpt"):
        run = Path(shutil.copytree(runs[0], f"copy-{Path(name).stem}"))
        shutil.copy(runs[1] / name, run / name)
        assert f"{name}  has changed since the run wrote it" in " ".join(refused(run).split(" ")).replace("   ", "  ")
        (run / name).unlink()
        left = LAST if name == BEST else BEST
        text = refused(run)
        assert f"mslab train {run}/config.yaml --from {run}/{left}" in text and f"put back {name}, from" in text, text
        assert "is gone" in text or "has no checkpoints/last.ckpt" in text


def test_a_folder_without_checkpoints_begins_again_only_before_the_first_of_them(run):
    shutil.rmtree(run / "checkpoints")
    assert "has no checkpoints/last.ckpt" in refused(run)


def test_files_that_cannot_be_read_are_named(runs, inside):
    """Root may read everything: in a process without that right."""
    run = Path(shutil.copytree(runs[0], "copy"))
    names = (LAST, "history.csv", "manifest.json", "config.yaml")
    command = [sys.executable, "-c", UNREADABLE, str(run), *names]
    done = subprocess.run(command, capture_output=True, text=True, preexec_fn=without_roots_rights)
    for name in names:
        assert re.search(rf"{run}/{re.escape(name)}.*[Pp]ermission", done.stdout), done.stdout + done.stderr


def test_a_spreadsheet_that_saved_the_tables_changed_nothing(runs, inside):
    run = Path(shutil.copytree(runs[0], "copy"))
    text = (run / "history.csv").read_text()
    (run / "history.csv").write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    steps = (run / "steps.csv").read_text()
    (run / "steps.csv").write_bytes(b"\xef\xbb\xbf" + steps.replace(",", ";").replace("\n", "\r\n").encode())
    assert start.resume(run).best_epoch == 1
    (run / "steps.csv").write_text(steps.replace(",", "\t"), encoding="utf-16")
    assert start.resume(run).best_epoch == 1
    (run / "steps.csv").write_text("".join(steps.splitlines(keepends=True)[:-2]))
    assert re.search("steps.csv +ends with step 4; the run had 6 steps", refused(run))
    (run / "steps.csv").write_text(steps.replace(",", ";").replace(".", ","))
    assert "a spreadsheet has written decimal commas" in refused(run)
    (run / "steps.csv").write_text(steps)
    (run / "history.csv").write_text(text.replace("0.", "0.9", 1))
    assert "history.csv" in refused(run)


def test_an_images_csv_that_is_gone_is_written_again(squares, inside, caplog):
    with stopped_after(1):
        mslab.train(settings(squares / "three", 3, **(FRESH | {"epochs": 2})))
    (run,) = Path("runs").iterdir()
    listed = (run / "images.csv").read_bytes()
    (run / "images.csv").unlink()
    start.resume(run)
    assert (run / "images.csv").read_bytes() == listed
    assert caplog.text.count("images.csv was gone; it is written again, as the images are the same") == 1


def test_a_run_killed_before_its_first_last_ckpt_begins_again(squares, inside):
    config = settings(squares / "three", 3, **(FRESH | {"epochs": 2}), checkpoint_frequency=2, lr_scheduler="constant")
    with stopped_after(1):
        mslab.train(config)
    (run,) = Path("runs").iterdir()
    assert not (run / LAST).exists() and (run / BEST).exists()
    assert start.resume(run).best_epoch >= 1 and manifest(run)["saved"]["epoch"] == 2
