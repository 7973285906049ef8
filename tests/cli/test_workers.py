"""Several workers on the command line: two that train what one does, and errors before any starts."""

import re
from pathlib import Path

import pytest
from helpers import cli
from several import config_file

# --- errors before anything starts -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments,text",
    [
        ("--workers 3 --nodes 2 --master host", "3 is not a multiple of --nodes 2"),
        ("--workers 4 --nodes 2", "missing: the host name of the machine with --node-rank 0"),
        ("--workers 4 --nodes 2 --node-rank 2 --master host", "2: must be 0 to 1 with --nodes 2"),
        ("--workers 4 --nodes 2 --master host:80", "80 is no port"),
    ],
)
def test_workers_that_cannot_be_distributed(inside, squares, arguments, text):
    done = cli("train", config_file(inside, squares / "three", 3), *arguments.split())
    assert done.returncode == 1 and text in done.stderr and "expected" in done.stderr and "fix" in done.stderr
    assert not Path("runs").exists()


def test_options_of_workers_alone_are_a_wrong_command_line(inside, squares):
    done = cli("train", config_file(inside, squares / "three", 3), "--nodes", "2")
    assert done.returncode == 2 and "need --workers" in done.stderr


def test_a_dry_run_prints_the_calls_for_a_device_that_is_not_here(inside, squares):
    options = (
        "device=ascend amp_level=O2 jit_level=O1 max_device_memory=28GB --workers 16 --nodes 2 --master node0:9000"
    )
    done = cli("train", config_file(inside, squares / "three", 3), *options.split(), "--dry-run")
    assert done.returncode == 0, done.stderr
    calls = re.findall(r"^calls +mindspore\.(.*)$", done.stdout, re.M)
    assert calls == [
        "set_context(mode=0)",
        "set_device(device_target='Ascend')",
        "runtime.set_memory(max_size='28GB')",
        "set_context(jit_config={'jit_level': 'O1'})",
        "communication.init()",
        "set_seed(seed=1)",
        "dataset.config.set_seed(seed=1)",
        "amp.auto_mixed_precision(network, 'O2')",
        "amp.DynamicLossScaler(65536.0, 2, 1000)",
    ]
    assert "16 workers x 8 = 128 images" in done.stdout
    for part in (
        "--worker_num=16",
        "--local_worker_num=8",
        "--node_rank=0",
        "--master_addr=node0",
        "--master_port=9000",
    ):
        assert part in done.stdout
    assert "MSLAB_LOCAL=8" in done.stdout and "MS_NODE_TIMEOUT=600" in done.stdout and not Path("runs").exists()


@pytest.mark.parametrize("setting", ["sync_bn=true", "lr_scaling=sqrt"])
def test_settings_of_several_workers_are_refused_with_one(inside, squares, setting):
    done = cli("train", config_file(inside, squares / "three", 3), setting)
    assert done.returncode == 1 and "does nothing here: one worker trains" in done.stderr
    assert "--workers 2, or leave" in done.stderr and not Path("runs").exists()


def test_what_the_device_cannot_do_is_reported_before_a_run_folder_is_made(inside, squares):
    done = cli("train", config_file(inside, squares / "three", 3), "amp_level=O2", "--workers", "2")
    assert done.returncode == 1 and "amp_level: O2 on a CPU" in done.stderr and not Path("runs").exists()
