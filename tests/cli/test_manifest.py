"""mslab verify finds files that were changed after a run ended."""

import json
import shutil
from pathlib import Path

import pytest
from helpers import cli, manifest, settings

import mslab


@pytest.fixture
def copy(parent, inside):
    """A finished run that the test may change."""
    return Path(shutil.copytree(parent, "copy"))


def test_verify_finds_every_file_unchanged(parent):
    done = cli("verify", parent)
    assert done.returncode == 0 and "all 8 files are as the run left them" in done.stdout, done.stdout + done.stderr
    result = json.loads(cli("verify", parent, "--json", "-").stdout)
    assert result["ok"] and {row["status"] for row in result["files"]} == {"same"}


def test_verify_lists_changed_and_missing_files(copy):
    best = copy / "checkpoints" / "best.ckpt"
    best.write_bytes(best.read_bytes()[:-1] + b"x")
    (copy / "history.csv").unlink()
    (copy / "config.yaml").write_text((copy / "config.yaml").read_text().replace("seed: 1", "seed: 2"))
    done = cli("verify", copy)
    assert done.returncode == 1 and "not all files are as the run left them" in done.stdout
    for status, name in (("changed", "checkpoints/best.ckpt"), ("missing", "history.csv"), ("changed", "config.yaml")):
        assert any(line.startswith(f"{status:<8}  {name} ") for line in done.stdout.splitlines()), done.stdout
    assert "the manifest has" in done.stdout


def test_verify_checks_the_parent_too(copy, squares):
    run = mslab.transfer(settings(squares / "two", 2, epochs=1), copy).run
    assert cli("verify", run).returncode == 0
    shutil.move(copy, "elsewhere")
    done = cli("verify", run)
    assert done.returncode == 1 and "the checkpoint it started from; not there" in done.stdout


def test_verify_does_not_read_a_file_without_an_end(copy, inside):
    with (inside / "kcore").open("wb") as file:
        file.truncate(2 << 40)
    recorded = json.loads((copy / "manifest.json").read_text())
    recorded["parent"] = {"file": str(inside / "kcore"), "sha256": "0" * 64, "only": None, "run": None}
    (copy / "manifest.json").write_text(json.dumps(recorded))
    done = cli("verify", copy)
    assert done.returncode == 1 and "it cannot be read: it claims more than a TiB" in done.stdout, done.stderr


def test_verify_of_a_run_that_has_not_ended(copy):
    (copy / "manifest.json").write_text(json.dumps(manifest(copy) | {"artifacts": {}, "status": "running"}))
    done = cli("verify", copy)
    assert done.returncode == 1 and "lists no files yet: its status is running." in done.stderr and "fix" in done.stderr
    done = cli("verify", "nowhere")
    assert done.returncode == 1 and "There is no folder nowhere." in done.stderr
