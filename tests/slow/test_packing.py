"""Complete training runs on packed data sets, and a packing process that is interrupted."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import cli, overrides, settings, stopped_after
from packs import draw_mixed, pack

import mslab
from mslab import check
from mslab.data import packing


@pytest.fixture(scope="module")
def mixed(once):
    return once("mixed", draw_mixed)


@pytest.fixture(scope="module")
def packs(mixed, once):
    return once("packs", lambda folder: pack(mixed, folder)) / "mixed"


def test_a_run_on_a_pack_equals_that_on_the_folders_also_resumed(mixed, packs, inside):
    folders = mslab.train(settings(mixed, 3), name="folders")
    pack_run = mslab.train(settings(packs, 3), name="pack")
    files = [Path(run.run) / "checkpoints" / "best.ckpt" for run in (folders, pack_run)]
    assert files[0].read_bytes() == files[1].read_bytes() and folders.linear_acc == pack_run.linear_acc
    (inside / "x.yaml").write_text("\n".join(overrides(settings(packs, 3))).replace("=", ": "))
    with stopped_after(1):
        mslab.train("x.yaml")
    run = next((inside / "runs").glob("x-*"))
    done = cli("train", "--resume", run, cwd=inside)
    assert done.returncode == 0 and "after epoch 1 of 2" in done.stderr, done.stderr
    assert (run / "checkpoints" / "best.ckpt").read_bytes() == files[1].read_bytes()
    done = cli("eval", run, "--data", packs / "val", "--json", "-", cwd=inside)
    assert done.returncode == 0 and json.loads(done.stdout)["images"] == 15


def test_features_and_fractions_of_a_pack(packs, parent, inside):
    config = settings(packs, 3, epochs=2)
    result = mslab.transfer(config | {"freeze": "all"}, backbone=parent)
    assert "features computed" in (Path(result.run) / "train.log").read_text()
    (inside / "x.yaml").write_text("\n".join(overrides(config)).replace("=", ": "))
    options = ["--backbone", parent, "--compare", "frozen", "--fractions", "0.5", "--seeds", "1"]
    done = cli("transfer", "x.yaml", *options, cwd=inside)
    assert done.returncode == 0 and "1/1  frozen backbone, new head, 12 images" in done.stderr, done.stderr


@pytest.mark.parametrize("number,left", [(signal.SIGINT, 0), (signal.SIGKILL, 1)])
def test_an_interruption_leaves_nothing_under_the_final_name(mixed, tmp_path, number, left):
    script = (
        "import signal, sys\nfrom mslab.data import packing\nwrite, begun = packing.write_shard, []\n"
        "def slow(*rest):\n    write(*rest)\n    print('wrote', flush=True)\n    signal.pause()\n"
        "packing.write_shard = slow\nfrom mslab.cli import app\n"
        "sys.argv = ['mslab', *sys.argv[1:]]\napp()\n"
    )
    command = [sys.executable, "-c", script, "data", "pack", str(mixed), "--out", str(tmp_path / "out")]

    def listen():  # a background job starts with Ctrl-C ignored
        signal.signal(signal.SIGINT, signal.default_int_handler)

    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, preexec_fn=listen)
    assert child.stdout is not None and child.stdout.readline() == "wrote\n"
    child.send_signal(number)
    assert child.wait(60) == (130 if number == signal.SIGINT else -9)
    child.stdout.close()
    partial = [path.name for path in tmp_path.iterdir()]
    assert len(partial) == left and all(name.startswith(".partial-") for name in partial)
    packing.pack_dataset(check.check_dataset(mixed), tmp_path / "out")
    assert {path.name for path in tmp_path.iterdir()} == {"out", *partial}
