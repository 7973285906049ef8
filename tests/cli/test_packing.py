"""mslab data pack: its files and output, and the state after an interruption."""

import os
import signal

import pytest
from helpers import cli, overrides, settings
from packs import draw_mixed

from mslab import check
from mslab.data import packing


@pytest.fixture(scope="module")
def mixed(once):
    return once("mixed", draw_mixed)


def test_packing_from_the_command_line_and_a_shard_cut_off_afterwards(mixed, inside):
    done = cli("data", "pack", mixed, "--out", "p", "--shards", "2", cwd=inside)
    assert done.returncode == 0 and "p/train: 27 images, 3 classes, 2 shards" in done.stderr, done.stderr
    assert sorted(path.name for path in (inside / "p" / "val").iterdir()) == [
        "pack.json",
        *(f"shard-000{n}.mindrecord{db}" for n in (0, 1) for db in ("", ".db")),
    ]
    done = cli("data", "pack", mixed, "--out", "p", cwd=inside)
    assert done.returncode == 1 and "p already exists" in done.stderr
    os.truncate(inside / "p" / "val" / "shard-0000.mindrecord", 1000)
    config = settings(inside / "p", 3)
    (inside / "x.yaml").write_text("\n".join(overrides(config)).replace("=", ": "))
    done = cli("train", "x.yaml", cwd=inside)
    assert done.returncode == 1 and "shard-0000.mindrecord  has 1000 bytes, not" in done.stderr
    assert "Traceback" not in done.stderr and not (inside / "runs").exists()


def test_ctrl_c_while_packing_leaves_nothing_and_one_after_a_kill_works(mixed, inside, monkeypatch):
    """The remains of a killed process are created here; tests/slow kills one."""
    write_shard = packing.write_shard

    def stopped(*rest):
        write_shard(*rest)
        partial = [path.name for path in inside.iterdir()]  # nothing has the final name while it is written
        assert len(partial) == 1 and partial[0].startswith(".partial-")
        os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(packing, "write_shard", stopped)
        assert cli("data", "pack", mixed, "--out", "out").returncode == 130
    assert not list(inside.iterdir())
    (inside / ".partial-killed" / "out" / "train").mkdir(parents=True)
    packing.pack_dataset(check.check_dataset(mixed), inside / "out")
    assert sorted(path.name for path in inside.iterdir()) == [".partial-killed", "out"]
    assert check.check_dataset(inside / "out", verify_packs=True).ok
