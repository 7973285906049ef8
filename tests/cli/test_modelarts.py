"""ModelArts' arguments: what they become, a run that is taken up again, and wrong ones."""

import subprocess
import sys
from pathlib import Path

import pytest
from helpers import PROJECT, STAGES
from ruamel.yaml import YAML

from mslab import modelarts
from mslab.errors import ConfigError, DatasetError


def job(*arguments, env=None) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "mslab.modelarts", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


@pytest.mark.slow
def test_a_job_trains_and_the_same_one_again_goes_on_where_it_stopped(inside, squares):
    quick = f"--image_size=32 --batch_size=8 --epochs=1 --warmup_epochs=0 --device=cpu --stages={STAGES}".replace(
        ", ", ","
    )
    first = job("--data_url", squares / "three", "--train_url=out", *quick.split())
    assert first.returncode == 0, first.stderr
    run = next(Path("out/runs").iterdir())
    assert run.name.startswith("modelarts-") and (run / "checkpoints" / "best.ckpt").is_file()
    manifest = run / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"status": "done"', '"status": "interrupted"'))
    again = job("--data_url", squares / "three", "--train_url=out", *quick.split())
    assert again.returncode == 0, again.stderr
    assert f"runs/{run.name} has not ended and had the same settings: it goes on" in again.stderr
    assert len(list(Path("out/runs").iterdir())) == 1
    wrong = job("--data_url", squares / "three", "--train_url=out", "--use_sync_bn=True")
    assert wrong.returncode == 1 and "'use_sync_bn' is ModelArts's name; here it is 'sync_bn'" in wrong.stderr


def test_what_the_arguments_become(inside, squares):
    out, text, words = modelarts.translate(
        ["--data_url", str(squares / "two"), "--train_url=o", "--checkpoint_url=b.ckpt", "--epochs", "3"], {}
    )
    assert out == inside / "o" and words == ["transfer", "modelarts.yaml", "--backbone", str(inside / "b.ckpt")]
    assert YAML(typ="safe").load(text) == {
        "train_data": str(squares / "two" / "train"),
        "val_data": str(squares / "two" / "val"),
        "class_num": 2,
        "epochs": 3,
    }


def test_several_machines_are_told_by_the_environment(inside, squares):
    environ = {"VC_WORKER_HOSTS": "w0.job,w1.job", "VC_TASK_INDEX": "1", "MA_NUM_GPUS": "8"}
    _, _, words = modelarts.translate(["--data_url", str(squares / "two"), "--train_url=o"], environ)
    assert words[1] == "modelarts-1.yaml" and words[2:] == [
        "--workers",
        "16",
        "--nodes",
        "2",
        "--node-rank",
        "1",
        "--master",
        "w0.job",
    ]
    _, _, words = modelarts.translate(["--data_url", str(squares / "two"), "--train_url=o"], {"MA_NUM_GPUS": "4"})
    assert words[2:] == ["--workers", "4"]


def test_wrong_arguments_are_named_all_at_once(inside, squares):
    with pytest.raises(ConfigError) as caught:
        modelarts.translate(["--data_url=obs://bucket/d", "epochs=3", "--seed"], {})
    text = str(caught.value)
    assert "--train_url" in text and "is missing" in text and "obs://bucket/d is no folder" in text
    assert "epochs=3" in text and "is no --NAME=VALUE" in text and "--seed" in text
    with pytest.raises(DatasetError, match="has no train/ and val/"):
        modelarts.translate([f"--data_url={squares / 'two' / 'train'}", "--train_url=o"], {})


def test_the_recipes_of_clusters_are_what_their_programs_read():
    volcano = YAML(typ="safe").load(PROJECT / "cluster" / "volcano.yaml")
    pod = volcano["spec"]["tasks"][0]["template"]["spec"]["containers"][0]
    assert {"env", "svc"} == set(volcano["spec"]["plugins"]) and volcano["spec"]["tasks"][0]["name"] == "worker"
    assert '--node-rank "$VC_TASK_INDEX"' in pod["args"][0]
    devices = pod["resources"]["limits"]["huawei.com/Ascend910"] * volcano["spec"]["tasks"][0]["replicas"]
    assert f"--workers {devices} " in pod["args"][0]
    assert subprocess.run(["sh", "-n", PROJECT / "cluster" / "slurm.sh"]).returncode == 0
