"""ModelArts' arguments: the resulting command line, a continued run, and wrong arguments."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from helpers import PROJECT
from ruamel.yaml import YAML

from mslab import modelarts
from mslab.check import check_dataset
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


def test_help_is_printed(capsys):
    modelarts.main(["--help"])
    assert "--data_url D --train_url OUT" in capsys.readouterr().out


def test_all_wrong_arguments_are_reported_at_once(inside, squares):
    with pytest.raises(ConfigError) as caught:
        modelarts.translate(["--data_url=obs://bucket/d", "epochs=3", "--seed"], {})
    text = str(caught.value)
    assert "--train_url" in text and "is missing" in text and "obs://bucket/d is not a local folder" in text
    assert "epochs=3" in text and "is not --NAME=VALUE" in text and "--seed" in text
    with pytest.raises(DatasetError, match="has no train/ and val/"):
        modelarts.translate([f"--data_url={squares / 'two' / 'train'}", "--train_url=o"], {})


def job(*arguments, environ=None):
    """(settings, command line) of a job with an output folder."""
    _, text, command = modelarts.translate([*map(str, arguments), "--train_url=o"], environ or {})
    return YAML(typ="safe", pure=True).load(text), command


def test_what_tools_leave_in_a_data_set_is_left_out(inside, squares, caplog, tmp_path):
    caplog.set_level("INFO", "mslab")
    root = shutil.copytree(squares / "two", inside / "two")
    for name in ("train/.ipynb_checkpoints", "val/__MACOSX", "train/left/.git", "val/rank_0"):
        (root / name).mkdir()
    settings, _ = job(f"--data_url={root}")
    assert settings["class_num"] == 2 and settings["ignore"] == [".git", ".ipynb_checkpoints", "__MACOSX", "rank_0"]
    assert "note: left out with the setting ignore" in caplog.text and ".ipynb_checkpoints" in caplog.text
    report = check_dataset(root / "train", root / "val", class_num=2, ignore=settings["ignore"])
    assert not {"stray-folder", "nested-folder", "class-count"} & {finding.code for finding in report.findings}
    assert job(f"--data_url={root}", '--ignore=[".x"]')[0]["ignore"] == [".x"]


@pytest.mark.parametrize(
    ("folders", "text", "fix"),
    [
        (
            "a/train a/val b/train b/val",
            "contains the classes a, b, with the splits train, val in each",
            "copies them into that order",
        ),
        ("test/a test/b", "has no train/ and val/.", "mslab data split {root}/test    and pass"),
        ("wrap/a wrap/.git", "has no train/ and val/.", "mslab data split {root}/wrap --ignore .git    and pass"),
        ("fold1/a fold1/b fold2/a", "contains fold1, fold2, with the folders a, b in them", "name one of them"),
        ("val/a test/a", "has no train/ and val/.", "add the folder of the training images, train/, before the upload"),
        ("train", "contains the splits train, not classes", "do that before the upload"),
    ],
)
def test_a_data_set_without_splits_is_refused_with_what_the_check_finds(tmp_path, squares, folders, text, fix):
    root = tmp_path / "set"
    for folder in folders.split():
        shutil.copytree(squares / "two" / "val" / "left", root / folder)
    with pytest.raises(DatasetError) as caught:
        modelarts.translate([f"--data_url={root}", "--train_url=o"], {})
    assert text in str(caught.value) and fix.format(root=root) in caught.value.fix


def test_values_reach_the_settings_as_they_were_passed(inside, squares):
    root = shutil.copytree(squares / "two", inside / "my data #1: a")
    values = {"--optimizer": "'adam'", "--sync_bn": "True", "--stages": "[[1, 8, 1]]", "--lr_max": "1e-2", "--seed": ""}
    values |= {"--freeze_layer_pattern": "conv1 # x", "--cache": "None"}
    settings, _ = job(f"--data_url='{root}'", *(f"{name}={value}" for name, value in values.items()))
    assert settings == {
        "train_data": str(root / "train"),
        "val_data": str(root / "val"),
        "class_num": 2,
        "optimizer": "adam",
        "sync_bn": True,
        "stages": [[1, 8, 1]],
        "lr_max": 0.01,
        "freeze_layer_pattern": "conv1 # x",
        "cache": "None",
    }


def test_the_platforms_own_arguments_are_translated_or_left_alone(inside, squares, caplog):
    caplog.set_level("INFO", "mslab")
    weights = inside / "weights"
    weights.mkdir()
    (weights / "b.ckpt").touch()
    left = "grampus_code_url=obs://b/c grampus_code_file_name=x code_url=s3://c result_url=obs://r model_url=obs://m "
    left += "s3_url=s3://x boot_file=a.py use_zhisuan=True enable_modelarts=True device_id=0 code_name=y new_url=z"
    settings, command = job(
        f"--data-url={squares / 'two'}",
        f"--ckpt_url={weights}",
        "---device_target=Ascend",
        "--num_gpus=2",
        "--pretrain_url=[]",
        *(f"--{text}" for text in left.split()),
    )
    assert settings["device"] == "ascend" and settings.keys() == {"train_data", "val_data", "class_num", "device"}
    assert command == ["transfer", "modelarts.yaml", "--backbone", str(weights / "b.ckpt"), "--workers", "2"]
    assert "note: left alone" in caplog.text and all(f"--{text.split('=')[0]}" in caplog.text for text in left.split())


def test_openis_lists_of_data_sets_and_weights_are_read(inside, squares):
    shutil.make_archive(str(inside / "d" / "mine"), "zip", squares, "two")
    (inside / "d" / "b.ckpt").touch()
    rows = [{"dataset_url": "obs://x/mine.zip", "dataset_name": "mine.zip", "containerPath": f"{inside}/d/mine.zip"}]
    weights = [{"model_url": "obs://x/b.ckpt", "model_name": "b.ckpt", "containerPath": f"{inside}/d/b.ckpt"}]
    options = ["--data_url=obs://x/mine.zip", f"--multi_data_url={json.dumps(rows)}"]
    settings, command = job(*options, f"--pretrain_url={json.dumps(weights)}")
    assert settings["class_num"] == 2 and command[2:] == ["--backbone", str(inside / "d" / "b.ckpt")]
    assert Path(settings["train_data"], "left").is_dir() and "unpacked" in settings["train_data"]
    assert job(f"--data_url={inside / 'd'}")[0] == settings, "the folder that contains the archive; unpacked once"
    for split in ("train", "val"):
        shutil.make_archive(str(inside / "e" / split), "gztar", squares / "two" / split)
    rows = [{"dataset_name": f"{n}.tar.gz", "containerPath": f"{inside}/e/{n}.tar.gz"} for n in ("train", "val")]
    settings, _ = job(f"--multi_data_url={json.dumps(rows)}")
    assert settings["class_num"] == 2 and Path(settings["val_data"], "right").is_dir()
    with pytest.raises(ConfigError, match="is not a local folder; let ModelArts copy it here"):
        job('--multi_data_url=[{"dataset_url": "obs://x/none.zip", "dataset_name": "none.zip"}]')


def test_splits_are_found_as_the_check_finds_them(inside, squares, caplog):
    caplog.set_level("INFO", "mslab")
    for old, new in (("train", "Training"), ("val", "Testing")):
        shutil.copytree(squares / "two" / old, inside / "set" / "inner" / new)
    settings, _ = job(f"--data_url={inside / 'set'}")
    assert settings["train_data"] == f"{inside}/set/inner/Training"
    assert settings["val_data"] == f"{inside}/set/inner/Testing" and "it chooses the best checkpoint" in caplog.text
    shutil.copytree(squares / "two" / "train", inside / "set" / "inner" / "train")
    with pytest.raises(DatasetError, match="two folders for one split: train and Training"):
        job(f"--data_url={inside / 'set'}")
    with pytest.raises(DatasetError, match="There is no folder"):
        job("--data_url=nowhere")


def test_machines_are_described_by_arguments_too(inside, squares):
    data = f"--data_url={squares / 'two'}"
    _, command = job(data, "--init_method=tcp://10.0.0.1:6666", "--rank=1", "--world_size=2", "--num_gpus=8")
    nodes = ["--workers", "16", "--nodes", "2", "--node-rank", "1", "--master", "10.0.0.1:6666"]
    assert command == ["train", "modelarts-1.yaml", *nodes]
    assert job(data, "--rank=0", "--world_size=1")[1] == ["train", "modelarts.yaml"]
    assert job(data, environ={"RANK_ID": "0", "RANK_SIZE": "4", "DEVICE_ID": "0"})[1][2:] == ["--workers", "4"]
    _, command = job(data, environ={"VC_WORKER_HOSTS": "a,b", "VC_TASK_INDEX": "1", "RANK_SIZE": "16"})
    assert command[2:6] == ["--workers", "16", "--nodes", "2"]
    with pytest.raises(ConfigError, match=r"MA_NUM_GPUS +many is not a number"):
        job(data, environ={"MA_NUM_GPUS": "many"})


def test_of_the_processes_that_a_platform_starts_on_a_machine_one_trains(monkeypatch, capfd):
    monkeypatch.setenv("RANK_ID", "3")
    monkeypatch.setenv("RANK_SIZE", "8")
    with pytest.raises(SystemExit) as caught:
        modelarts.main(["--data_url=nowhere"])
    assert caught.value.code == 0 and "the first one starts all workers" in capfd.readouterr().err
    monkeypatch.setenv("RANK_ID", "16")
    monkeypatch.setenv("MA_NUM_GPUS", "8")
    with pytest.raises(SystemExit) as caught:
        modelarts.main(["--data_url=nowhere"])
    assert caught.value.code == 1, "the first process of the third machine"


def test_the_cluster_recipes_are_valid():
    volcano = YAML(typ="safe").load(PROJECT / "cluster" / "volcano.yaml")
    pod = volcano["spec"]["tasks"][0]["template"]["spec"]["containers"][0]
    assert {"env", "svc"} == set(volcano["spec"]["plugins"]) and volcano["spec"]["tasks"][0]["name"] == "worker"
    assert '--node-rank "$VC_TASK_INDEX"' in pod["args"][0]
    devices = pod["resources"]["limits"]["huawei.com/Ascend910"] * volcano["spec"]["tasks"][0]["replicas"]
    assert f"--workers {devices} " in pod["args"][0]
    assert subprocess.run(["sh", "-n", PROJECT / "cluster" / "slurm.sh"]).returncode == 0


def test_the_number_of_classes_is_that_of_classes_or_merge(inside, squares):
    data = f"--data_url={squares / 'three'}"
    assert job(data)[0]["class_num"] == 3
    assert job(data, "--classes=[a, c]")[0]["class_num"] == 2
    settings, _ = job(data, "--merge={x: [a, b], y: [c]}")
    assert settings["class_num"] == 2 and settings["merge"] == {"x": ["a", "b"], "y": ["c"]}
