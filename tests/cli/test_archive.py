"""An archive contains everything needed to repeat a run; an archive that mslab archive did not write is refused."""

import csv
import hashlib
import json
import os
import re
import shutil
import socket
import zipfile
from pathlib import Path

import pytest
from helpers import cli, settings

from mslab import files
from mslab.check import check_dataset
from mslab.config import dump_config, load_settings
from mslab.data import archives, packing
from mslab.errors import MslabError, RunError
from mslab.grade import handin
from mslab.reproduce import archiving, opening
from mslab.reproduce.reproducing import ReproduceOptions, reproduce
from mslab.runs.folder import RunFolder
from mslab.training import start


@pytest.fixture(scope="module")
def original(squares, parent, once):
    """A folder with a finished transfer run, its images and its parent. Copy it before use."""

    def make(root):
        shutil.copytree(squares / "two", root / "two")
        shutil.copy(parent / "checkpoints" / "best_backbone.ckpt", root / "parent.ckpt")
        config = settings(Path("two"), 2, epochs=1, freeze="all", feature_views=1) | {"stages": None}
        start.transfer(config, "parent.ckpt", name="two")

    return once("archived", make)


@pytest.fixture
def run(original, tmp_path, monkeypatch):
    """The run in a copy of that folder, which is the current folder."""
    shutil.copytree(original, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    return next(Path("runs").iterdir())


@pytest.fixture(scope="module")
def zipped(original, once):
    """The archive of that run, with images. Copy it before use."""

    def make(folder):
        shutil.copytree(original, "here")
        os.chdir("here")
        archiving.archive(next(Path("runs").iterdir()), folder / "packed.zip", data=True)

    return once("archive", make) / "packed.zip"


@pytest.fixture
def packed(run, zipped):
    """The run's archive, with images, beside the run."""
    return Path(shutil.copy(zipped, "packed.zip")).resolve()


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    return lambda: monkeypatch.chdir(folder)


def members(file):
    with zipfile.ZipFile(file) as archive:
        return {info.filename: archive.read(info) for info in archive.infolist()}


def rewrite(file, change, listed=True):
    """Change the archive's members. `listed`: update archive.json too."""
    content = members(file)
    change(content)
    if listed:
        listing = json.loads(content["archive.json"])
        names = sorted(set(content) - {"archive.json"})
        listing["members"] = {name: hashlib.sha256(content[name]).hexdigest() for name in names}
        listing["sizes"] = {name: len(content[name]) for name in names}
        content["archive.json"] = json.dumps(listing).encode()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in content.items():
            archive.writestr(name, data)


def plain(error):
    """The message without the padding of its first column."""
    return re.sub(" +", " ", str(error))


def refusal(file):
    """Check that the archive is refused and leaves nothing behind. Returns the message."""
    before = sorted(Path("runs").glob("*")) if Path("runs").is_dir() else []
    with pytest.raises(RunError) as caught:
        opening.unpack(file)
    assert (sorted(Path("runs").glob("*")) if Path("runs").is_dir() else []) == before
    text = plain(caught.value)
    assert "expected a complete, unchanged archive of mslab archive RUN" in text
    assert "fix copy it again, or have it packed again; nothing was written" in text
    return text


# --- packing ---------------------------------------------------------------------------------------------------------


def test_an_archive_contains_the_run_its_parent_its_packages_and_all_digests(run):
    file = archiving.archive(run).file
    assert file == Path(f"{run.name}.zip")
    content = members(file)
    assert set(content) == {
        *("archive.json", "config.yaml", "manifest.json", "history.csv", "steps.csv", "images.csv", "eval.json"),
        *("train.log", "environment.txt", "checkpoints/best.ckpt", "checkpoints/best_backbone.ckpt"),
        "parent/parent.ckpt",
    }
    listing = json.loads(content.pop("archive.json"))
    assert listing["schema"] == 1 and listing["run"] == run.name and listing["data"] is False
    assert listing["members"] == {name: hashlib.sha256(data).hexdigest() for name, data in sorted(content.items())}
    assert listing["sizes"] == {name: len(data) for name, data in content.items()}
    lines = content["environment.txt"].decode().splitlines()
    environment = RunFolder.read(run).manifest["environment"]
    packages = environment["packages"]
    assert lines[0] == f"# Python {environment['python']}" and lines[1] == f"# {environment['platform']}"
    assert f"numpy=={packages['numpy']}" in lines and not any(line.startswith("mslab==") for line in lines)
    assert len(lines) == 2 + len(packages) - ("mslab" in packages)


def test_equal_runs_give_equal_bytes_regardless_of_file_times(run):
    first = archiving.archive(run, "first.zip", data=True)
    for path in Path().rglob("*"):
        os.utime(path, (1, 1))
    second = archiving.archive(run, "second.zip", data=True)
    assert first.file.read_bytes() == second.file.read_bytes()
    assert (
        str(first) == f"first.zip: {first.members} files, {first.images} of them images, {first.size / 2**20:.1f} MiB"
    )
    assert not list(Path().glob(".*.tmp"))


def test_images_are_those_of_images_csv_and_weights_can_be_left_out(run):
    shutil.copy("two/train/left/000.png", "two/train/left/later.png")
    content = members(archiving.archive(run, "packed.zip", data=True, weights=False).file)
    with (run / "images.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    images = {f"data/{row['split']}/{row['image']}": row["sha256"] for row in rows}
    packed = {name: hashlib.sha256(data).hexdigest() for name, data in content.items() if name.startswith("data/")}
    assert packed == images and len(packed) == 46
    assert [name for name in content if name.endswith(".ckpt")] == ["parent/parent.ckpt"]
    assert json.loads(content["archive.json"])["data"] is True


def test_a_changed_run_is_refused_with_a_list_of_its_changed_files(run):
    (run / "images.csv").write_text("split,image,sha256\n")
    (run / "eval.json").unlink()
    with pytest.raises(RunError) as caught:
        archiving.archive(run)
    text = plain(caught.value)
    assert text.startswith(f"Files of {run} have changed since the run ended.")
    assert "images.csv sha256 " in text and "eval.json not there" in text
    assert "expected the files that its manifest.json lists" in text
    assert not list(Path().glob("*.zip"))


def test_an_unfinished_run_and_an_existing_target_are_refused(run):
    Path("mine.zip").write_text("mine")
    with pytest.raises(RunError, match=r"mine\.zip exists already\."):
        archiving.archive(run, "mine.zip")
    manifest = json.loads((run / "manifest.json").read_text())
    (run / "manifest.json").write_text(json.dumps(manifest | {"status": "interrupted"}))
    with pytest.raises(RunError, match="is not finished: 1 of 1 epochs, its status is interrupted") as caught:
        archiving.archive(run)
    assert f"fix mslab train --resume {run}" in plain(caught.value)


def test_missing_and_changed_images_are_refused(run):
    shutil.copy("two/val/left/001.png", "two/train/left/003.png")
    with pytest.raises(Exception, match=r"two/train/left/003\.png does not have the recorded content") as caught:
        archiving.archive(run, "x.zip", data=True)
    assert "restore it; nothing was written" in str(caught.value) and not list(Path().glob("*x.zip*"))
    Path("two/train/left/003.png").unlink()
    with pytest.raises(RunError, match=r"1 of 46 images of .* are missing\.") as caught:
        archiving.archive(run, "x.zip", data=True)
    assert "missing two/train/left/003.png" in plain(caught.value)
    (run / "images.csv").unlink()
    manifest = json.loads((run / "manifest.json").read_text())
    del manifest["artifacts"]["images.csv"]
    (run / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(RunError, match=r"is an older run without images\.csv"):
        archiving.archive(run, "x.zip", data=True)
    archiving.archive(run, "x.zip")


def test_a_missing_parent_is_refused(run):
    shutil.move("parent.ckpt", "moved.ckpt")
    with pytest.raises(RunError, match=r"started from parent\.ckpt, which its archive needs") as caught:
        archiving.archive(run)
    assert f"put it back there, or into {run}/parent/" in str(caught.value)
    (run / "parent").mkdir()
    shutil.move("moved.ckpt", run / "parent")
    assert "parent/moved.ckpt" in members(archiving.archive(run).file)


def test_packed_images_are_refused(run):
    packing.pack_dataset(check_dataset("two"), Path("shards"))
    config = load_settings(run / "config.yaml", ["train_data=shards/train", "val_data=shards/val"])
    (run / "config.yaml").write_text(dump_config(config))
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["artifacts"]["config.yaml"] = files.sha256(run / "config.yaml")
    (run / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(RunError, match="shards/train is a packed data set") as caught:
        archiving.archive(run, data=True)
    assert "pass the pack on separately" in str(caught.value)


# --- unpacking and repeating -----------------------------------------------------------------------------------------


def test_an_archive_is_enough_to_repeat_a_run_in_an_empty_folder(run, packed, elsewhere, tmp_path):
    name = run.name
    elsewhere()
    (tmp_path / "here").rename(tmp_path / "gone")
    done = cli("reproduce", "--from", tmp_path / "gone" / "packed.zip", "--no-report")
    assert done.returncode == 0, done.stderr + done.stdout
    folder = Path("runs") / f"{name}-from-archive"
    assert f"unpacked to {folder}" in done.stderr and "identical: every epoch's figures" in done.stdout
    assert (folder / "data/train/left/000.png").is_file() and (folder / "parent/parent.ckpt").is_file()
    again = next(path for path in Path("runs").iterdir() if "-again-" in path.name)
    manifest = RunFolder.read(again).manifest
    assert manifest["kind"] == "transfer" and manifest["parent"]["file"] == f"{folder}/parent/parent.ckpt"
    assert manifest["reproduces"]["run"] == str(folder)
    assert load_settings(again / "config.yaml").train_data == f"{folder}/data/train"
    # an unpacked run can be archived like any other
    assert (
        members(archiving.archive(folder, "2.zip", data=True).file).keys()
        == members(tmp_path / "gone/packed.zip").keys()
    )


def test_an_archive_without_images_needs_the_path_of_the_images(run, elsewhere, tmp_path):
    file = archiving.archive(run).file.resolve()
    elsewhere()
    folder = opening.unpack(file)
    result = reproduce(folder, ReproduceOptions(dry_run=True), str)
    assert "There is no folder two/train" in str(result.error)
    root = tmp_path / "here" / "two"
    overrides = [f"train_data={root / 'train'}", f"val_data={root / 'val'}"]
    assert reproduce(folder, ReproduceOptions(overrides, dry_run=True), str).ok
    done = cli("reproduce", "--from", file, *overrides, "--dry-run")
    assert done.returncode == 0, done.stderr
    assert (Path("runs") / f"{folder.name}-2").is_dir()
    assert cli("reproduce", folder, "--from", file).returncode == 2


# --- refused archives ------------------------------------------------------------------------------------------------


def test_a_tampered_member_is_reported(packed, elsewhere):
    elsewhere()
    rewrite(packed, lambda content: content.update({"eval.json": b"{}"}), listed=False)
    text = refusal(packed)
    assert f"{packed}: eval.json does not have the sha256 that archive.json lists." in text
    assert "eval.json sha256 44136fa355b3…, but " in text


def test_a_member_that_is_larger_than_listed_is_not_unpacked(packed, elsewhere):
    elsewhere()
    rewrite(packed, lambda content: content.update({"train.log": b"x" * 10_000_000}), listed=False)
    assert f"{packed}: train.log is larger than the " in refusal(packed)


def test_a_zip_bomb_is_stopped_by_its_unpacked_size(packed, elsewhere):
    elsewhere()
    rewrite(packed, lambda content: content.update({"train.log": bytes(archives.FREE_BYTES + 2**24)}))
    assert "unpacks to more than" in refusal(packed)


def test_missing_and_unlisted_members_are_all_reported_at_once(packed, elsewhere):
    elsewhere()

    def change(content):
        del content["history.csv"]
        del content["checkpoints/best.ckpt"]
        content["data/train/left/more.png"] = b""

    rewrite(packed, change, listed=False)
    text = refusal(packed)
    assert f"{packed} does not match its archive.json." in text
    assert "history.csv is listed, but missing" in text and "checkpoints/best.ckpt is listed, but missing" in text
    assert "data/train/left/more.png is not listed" in text


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("../outside.txt", "contains the path '../outside.txt', which leads out of its folder"),
        ("/etc/outside", "contains the path '/etc/outside', which leads out of its folder"),
        ("data\\..\\..\\outside", "which leads out of its folder"),
        ("data/train/left/", "a folder that mslab archive does not write"),
        ("CONFIG.yaml", "'config.yaml' and 'CONFIG.yaml', which are one file on some machines"),
        ("notes.txt", "notes.txt is not a file of a run"),
        ("data/train/left/run.sh", "data/train/left/run.sh is not a file of a run"),
        ("parent/a/b", "parent/a/b is not a file of a run"),
    ],
)
def test_unexpected_member_names_are_refused(packed, elsewhere, tmp_path, name, message):
    elsewhere()
    rewrite(packed, lambda content: content.update({name: b"x"}))
    assert message in refusal(packed)
    assert not list(tmp_path.rglob("*outside*"))


def test_a_link_is_refused(packed, elsewhere):
    elsewhere()
    with zipfile.ZipFile(packed, "a") as archive:
        info = zipfile.ZipInfo("report.html")
        info.external_attr = 0o120777 << 16
        archive.writestr(info, "/etc/passwd")
    assert "contains 'report.html', a link that mslab archive does not write" in refusal(packed)


@pytest.mark.parametrize(
    ("listing", "message"),
    [
        (b"[]", "archive.json that mslab archive did not write"),
        (b"[" * 100_000, "archive.json that mslab archive did not write"),
        (b"\xff", "archive.json that mslab archive did not write"),
        (b"[" + b"[]," * 2_600_000 + b"[]]", "it contains more than 5,000,000 values"),  # 0.5 GiB of lists
        ({"run": "../up"}, "did not write: run: String should match pattern"),
        ({"run": "a/b"}, "did not write: run: String should match pattern"),
        ({"members": {"config.yaml": "no digest"}}, "did not write: members.config.yaml"),
        ({"sizes": {}}, "config.yaml has no size"),
        ({"sizes": {"config.yaml": -1}}, "did not write: sizes.config.yaml"),
        (None, "has no archive.json"),
    ],
)
def test_an_invalid_listing_is_refused(packed, elsewhere, listing, message):
    elsewhere()

    def change(content):
        if listing is None:
            del content["archive.json"]
        elif isinstance(listing, bytes):
            content["archive.json"] = listing
        else:
            content["archive.json"] = json.dumps(json.loads(content["archive.json"]) | listing).encode()

    rewrite(packed, change, listed=False)
    assert message in refusal(packed)


def test_newer_archives_missing_files_and_other_files_are_refused(packed, elsewhere):
    elsewhere()
    with pytest.raises(RunError, match=r"There is no archive nothing\.zip\."):
        opening.unpack("nothing.zip")
    Path("text.zip").write_text("no zip")
    assert "text.zip is not a zip file." in refusal("text.zip")

    def newer(content):
        content["archive.json"] = json.dumps(json.loads(content["archive.json"]) | {"schema": 2}).encode()

    rewrite(packed, newer, listed=False)
    with pytest.raises(RunError, match="has schema 2: a newer mslab wrote it"):
        opening.unpack(packed)


def test_an_invalid_manifest_is_refused(packed, elsewhere):
    elsewhere()
    rewrite(packed, lambda content: content.update({"manifest.json": b'{"schema": 2, "kind": "sabotage"}'}))
    text = refusal(packed)
    assert f"{packed}: manifest.json is not the manifest of a run." in text and ".partial" not in text


def test_a_damaged_archive_is_refused(packed, elsewhere):
    elsewhere()
    content = bytearray(packed.read_bytes())
    at = content.index(b"config.yaml") + 200
    content[at : at + 50] = bytes(50)
    packed.write_bytes(bytes(content))
    assert "is damaged" in refusal(packed) or "does not have the sha256" in refusal(packed)


def test_verify_of_an_unpacked_archive_reports_what_was_left_out(packed, elsewhere):
    elsewhere()
    done = cli("verify", opening.unpack(packed))
    assert done.returncode == 0, done.stdout
    assert "left out  checkpoints/last.ckpt" in done.stdout and "the checkpoint it started from; sha256" in done.stdout


# --- what someone else may have put into a run's folder ---------------------------------------------------------------


@pytest.fixture
def secret(tmp_path):
    file = tmp_path / "id_rsa"
    file.write_text("a private key")
    return file


@pytest.mark.parametrize("name", [*archiving.FILES, *archiving.WEIGHTS])
def test_a_link_in_a_run_is_named_and_not_packed(run, secret, name):
    (run / name).unlink(missing_ok=True)
    (run / name).symlink_to(secret)
    for command in (("archive", run, "--out", "x.zip"), ("pack", run, "--out", "x.zip")):
        done = cli(*command)
        if command[0] == "archive" or name in handin.RUN_FILES:
            assert done.returncode == 1 and name.rpartition("/")[2] in done.stderr and "Traceback" not in done.stderr
        assert "private" not in done.stdout + done.stderr
        assert not any(
            b"private" in zipfile.ZipFile(file).read(n) for file in Path().glob("x.zip") for n in members(file)
        )
        Path("x.zip").unlink(missing_ok=True)


@pytest.mark.parametrize("kind", ["link", "FIFO", "socket", "folder", "link to a folder", "linked folder"])
def test_what_a_run_does_not_write_is_named(run, secret, kind):
    file = run / "report.html"
    name, text = "report.html", f"is a {kind}"
    if kind == "link":
        file.symlink_to("train.log")  # even to a file of the run itself
    elif kind == "FIFO":
        os.mkfifo(file)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as own:
            own.bind(str(file))
    elif kind == "folder":
        file.mkdir()
    elif kind == "link to a folder":
        file.symlink_to(run)
        text = "is a link"
    else:
        shutil.move(run / "checkpoints", secret.with_name("elsewhere"))
        (run / "checkpoints").symlink_to(secret.with_name("elsewhere"))
        name, text = "checkpoints/best.ckpt", "is in a link"
    with pytest.raises(RunError, match=rf"{name} +{text}\n"):
        archiving.archive(run, "x.zip")
    assert not list(Path().glob("*x.zip*"))


def test_a_file_that_is_exchanged_for_a_link_after_it_was_checked_is_not_packed(run, secret, monkeypatch):
    checked = RunFolder.own_files

    def exchange(self, names):
        found = checked(self, names)
        (run / "train.log").unlink()
        (run / "train.log").symlink_to(secret)
        return found

    monkeypatch.setattr(RunFolder, "own_files", exchange)
    with pytest.raises(MslabError, match=r"train\.log cannot be packed: it is a link"):
        archiving.archive(run, "x.zip")
    assert not list(Path().glob("*x.zip*"))


def test_a_run_whose_author_names_any_file_as_its_image_has_no_archive_with_data(run, secret):
    """Its config names the folder, its images.csv the file, without a sha256 that would have to be known."""
    text = (run / "config.yaml").read_text().replace("train_data: two/train", f"train_data: {secret.parent.parent}")
    (run / "config.yaml").write_text(text)
    rows = ["split,image,sha256", f"train,{secret.parent.name}/{secret.name},"]
    (run / "images.csv").write_text("\n".join(rows) + "\n")
    content = json.loads((run / "manifest.json").read_text())
    for name in ("config.yaml", "images.csv"):
        content["artifacts"][name] = files.sha256(run / name)
    (run / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(RunError, match=r"images\.csv has no sha256 of .*id_rsa"):
        archiving.archive(run, "x.zip", data=True)


def test_hard_links_and_links_inside_a_data_set_are_packed(run):
    os.link(run / "train.log", "second-name")
    image = Path("two/train/left/003.png")
    image.rename(Path("two/shared.png"))
    image.symlink_to("../../shared.png")
    shutil.move("runs", "elsewhere")
    Path("runs").symlink_to("elsewhere")  # the way to the run is the user's own
    done = archiving.archive(run, "x.zip", data=True)
    with zipfile.ZipFile(done.file) as file:
        assert file.read("data/train/left/003.png") == Path("two/shared.png").read_bytes()
        assert file.read("train.log") == Path("second-name").read_bytes()


def test_pack_takes_the_file_that_a_named_link_leads_to_and_waits_for_no_fifo(run, secret):
    Path("report.md").symlink_to(secret)  # the user's own choice
    os.mkfifo("notes.md")
    assert cli("pack", run, "--add", "report.md", "--out", "x.zip").returncode == 0
    assert members("x.zip")["report.md"] == b"a private key"
    done = cli("pack", run, "--add", "notes.md", "--out", "y.zip")
    assert done.returncode == 1 and "notes.md is a FIFO, and not a file." in done.stderr
