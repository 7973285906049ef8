"""ModelArts' arguments: the resulting command line, a continued run, and wrong arguments."""

import json
import subprocess
from pathlib import Path

import pytest
from helpers import PROJECT
from ruamel.yaml import YAML

from mslab import modelarts
from mslab.errors import ConfigError, DatasetError


def test_arguments_become_a_config_and_a_command_line(inside, squares):
    out, text, command = modelarts.translate(
        ["--data_url", str(squares / "two"), "--train_url=o", "--checkpoint_url=b.ckpt", "--epochs", "3"], {}
    )
    assert out == inside / "o" and command == ["transfer", "modelarts.yaml", "--backbone", str(inside / "b.ckpt")]
    assert YAML(typ="safe").load(text) == {
        "train_data": str(squares / "two" / "train"),
        "val_data": str(squares / "two" / "val"),
        "class_num": 2,
        "epochs": 3,
    }


def test_the_environment_describes_several_machines(inside, squares):
    environ = {"VC_WORKER_HOSTS": "w0.job,w1.job", "VC_TASK_INDEX": "1", "MA_NUM_GPUS": "8"}
    _, _, command = modelarts.translate(["--data_url", str(squares / "two"), "--train_url=o"], environ)
    assert command[1] == "modelarts-1.yaml" and command[2:] == [
        "--workers",
        "16",
        "--nodes",
        "2",
        "--node-rank",
        "1",
        "--master",
        "w0.job",
    ]
    _, _, command = modelarts.translate(["--data_url", str(squares / "two"), "--train_url=o"], {"MA_NUM_GPUS": "4"})
    assert command[2:] == ["--workers", "4"]


def test_the_same_job_again_continues_an_unfinished_run(inside, squares):
    job = ["--data_url", str(squares / "two"), "--train_url=o", "--epochs=3"]
    out, text, command = modelarts.translate(job, {})
    assert command == ["train", "modelarts.yaml"]
    for name, status in (("20240101-000000", "interrupted"), ("20240102-000000", "running")):
        (out / "runs" / f"modelarts-{name}").mkdir(parents=True)
        (out / "runs" / f"modelarts-{name}" / "manifest.json").write_text(json.dumps({"status": status}))
    (out / "modelarts.yaml").write_text(text)
    assert modelarts.translate(job, {})[2] == ["train", "--resume", "runs/modelarts-20240102-000000"]
    assert modelarts.translate([*job, "--seed=2"], {})[2] == command, "other settings start a new run"
    assert modelarts.translate(job, {"VC_TASK_INDEX": "1"})[2][:2] == ["train", "modelarts-1.yaml"]
    (out / "runs" / "modelarts-20240102-000000" / "manifest.json").write_text(json.dumps({"status": "done"}))
    assert modelarts.translate(job, {})[2] == command, "the newest run is done"


def test_a_job_runs_the_command_line_in_the_output_folder(inside, squares, capfd):
    with pytest.raises(SystemExit) as caught:
        modelarts.main(["--data_url", str(squares / "three"), "--train_url=out", "--use_sync_bn=True"])
    assert caught.value.code == 1
    assert "'use_sync_bn' is ModelArts's name; here it is 'sync_bn'" in capfd.readouterr().err
    assert Path.cwd() == inside / "out" and "use_sync_bn: True" in Path("modelarts.yaml").read_text()
    with pytest.raises(SystemExit) as caught:
        modelarts.main(["--data_url=nowhere"])
    assert caught.value.code == 1 and capfd.readouterr().err.startswith("ConfigError: ")


def test_all_wrong_arguments_are_reported_at_once(inside, squares):
    with pytest.raises(ConfigError) as caught:
        modelarts.translate(["--data_url=obs://bucket/d", "epochs=3", "--seed"], {})
    text = str(caught.value)
    assert "--train_url" in text and "is missing" in text and "obs://bucket/d is not a local folder" in text
    assert "epochs=3" in text and "is not --NAME=VALUE" in text and "--seed" in text
    with pytest.raises(DatasetError, match="has no train/ and val/"):
        modelarts.translate([f"--data_url={squares / 'two' / 'train'}", "--train_url=o"], {})


def test_the_cluster_recipes_are_valid():
    volcano = YAML(typ="safe").load(PROJECT / "cluster" / "volcano.yaml")
    pod = volcano["spec"]["tasks"][0]["template"]["spec"]["containers"][0]
    assert {"env", "svc"} == set(volcano["spec"]["plugins"]) and volcano["spec"]["tasks"][0]["name"] == "worker"
    assert '--node-rank "$VC_TASK_INDEX"' in pod["args"][0]
    devices = pod["resources"]["limits"]["huawei.com/Ascend910"] * volcano["spec"]["tasks"][0]["replicas"]
    assert f"--workers {devices} " in pod["args"][0]
    assert subprocess.run(["sh", "-n", PROJECT / "cluster" / "slurm.sh"]).returncode == 0
