"""The command line: exit codes, one JSON document on standard output, README's commands."""

import contextlib
import filecmp
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from unittest import mock

import mindspore as ms
import numpy as np
import pytest
import readme
from helpers import PROJECT, bench, cli, draw, manifest
from typer.main import get_command

from benchmarks import __main__ as benchmarks
from benchmarks import check
from mslab.check import check_dataset
from mslab.cli import app
from mslab.config import FIELDS
from mslab.data.mushrooms import drawing
from mslab.evaluation import measuring, metrics
from mslab.experiments import demo
from mslab.runtime import devices


def test_exit_codes(tmp_path):
    assert cli("--version").stdout.startswith("mslab ")
    assert cli("trian").returncode == 2 and cli("check").returncode == 2 and cli("train", "--wrong").returncode == 2
    assert cli("train").returncode == 1 and cli("bench", "train").returncode == 2  # ./run.sh bench is the project's own
    missing = cli("check", tmp_path / "nowhere")
    assert missing.returncode == 1 and missing.stderr.startswith("DatasetError: There is no folder")
    assert cli("train", tmp_path / "nowhere.yaml").stderr.startswith("ConfigError: There is no config file")


def test_check_prints_and_writes_json(tmp_path):
    draw(tmp_path / "set", ["a", "b"], 2)
    done = cli("check", tmp_path / "set", "--json", "-", "--classes", 2)
    content = json.loads(done.stdout)  # exactly one document, nothing else
    assert done.returncode == 0 and content["ok"] and content["schema"] == 1 and content["class_num"] == 2
    assert content["classes"] == ["a", "b"] and content["counts"] == {"": {"a": 2, "b": 2}} and content["images"] == 4
    (tmp_path / "set" / ".checkpoint").mkdir()
    failed = cli("check", tmp_path / "set", "--json", tmp_path / "out.json")
    finding = json.loads((tmp_path / "out.json").read_text())["findings"][0]
    assert failed.returncode == 1 and set(finding) == {"code", "severity", "path", "message", "fix"}
    assert "stray-folder" in failed.stdout and "\n1 error (stray-folder)\n" in failed.stdout


def test_every_problem_of_a_config_is_listed_and_nothing_is_written(tmp_path):
    (tmp_path / "x.yaml").write_text("train_data: a\nlearning_rate: 1\n")
    done = cli("train", "x.yaml", "epochs=zero", cwd=tmp_path)
    assert done.returncode == 1 and "x.yaml has 4 problems" in done.stderr and "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["x.yaml"]


def test_an_unknown_error_is_printed_with_its_traceback(monkeypatch):
    def fail(*arguments):
        raise RuntimeError("an unknown error")

    monkeypatch.setattr("mslab.config.load_settings", fail)
    done = cli("train", "x.yaml")
    assert done.returncode == 1 and "Traceback" in done.stderr and "RuntimeError: an unknown error" in done.stderr


def test_the_list_of_commands_cuts_no_sentence():
    commands = cli("--help").stdout.partition("Commands:")[2]
    assert "whether training works on this machine, and how fast" in commands and "..." not in commands


def test_wrong_data_stops_before_mindspore_starts(tmp_path, three):
    """One process runs all commands that train or measure; in it, importing MindSpore fails."""
    shutil.copytree(three["train_data"], tmp_path / "set")
    (tmp_path / "set" / ".checkpoint").mkdir()
    (tmp_path / "x.yaml").write_text(json.dumps(three | {"train_data": "set"}))
    weights = str(PROJECT / "tests" / "data" / "torch.pth")
    commands = [
        ["train", "x.yaml"],
        ["transfer", "x.yaml", "--backbone", weights],
        ["eval", weights, "--data", "set"],
        ["suspects", weights, "--data", "set"],
    ]
    script = (
        "import sys\nsys.modules['mindspore'] = None\nfrom mslab.cli import app\n"
        f"for arguments in {commands}:\n"
        "    try:\n        app(arguments)\n    except SystemExit as stop:\n        print(arguments[0], stop.code)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.splitlines() == [f"{command[0]} 1" for command in commands], done.stderr
    assert done.stderr.count("DatasetError: set") == done.stderr.count("stray-folder") == len(commands), done.stderr
    assert not (tmp_path / "runs").exists()


def test_skip_check_skips_comparisons_and_is_recorded(tmp_path, three):
    shutil.copytree(three["train_data"], tmp_path / "train")
    shutil.copyfile(tmp_path / "train" / "a" / "000.png", tmp_path / "train" / "b" / "copy.png")
    command = ["train", "x.yaml", "epochs=1", "warmup_epochs=0", "--no-report"]
    (tmp_path / "x.yaml").write_text(json.dumps(three | {"train_data": "train"}))
    done = cli(*command, cwd=tmp_path)
    assert done.returncode == 1 and "label-conflict" in done.stderr
    done = cli(*command, "--skip-check", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    run = next((tmp_path / "runs").iterdir())
    assert manifest(run)["data"]["skip_check"] is True
    resumed = cli("train", "--resume", run, "--no-report", cwd=tmp_path)  # with the same check as the run
    assert resumed.returncode == 0 and "label-conflict" not in resumed.stderr, resumed.stderr
    (tmp_path / "train" / ".checkpoint").mkdir()
    assert "stray-folder" in cli(*command, "--skip-check", cwd=tmp_path).stderr  # folders are always checked


def test_bench_check_prints_ratios_side_by_side(tmp_path, monkeypatch):
    done = bench("check", "--images", 20, "--repeats", 1, "--json", tmp_path / "rows.json")
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert [row["images"] for row in rows] == [20] * 4
    for row in rows:
        assert row["seconds"] > 0 and row["images_per_s"] == pytest.approx(20 / row["seconds"])
        assert row["ratio"] == pytest.approx(rows[0]["seconds"] / row["seconds"])
        assert row["own_mib"] > 5
    assert max(row["worker_mib"] for row in rows) > 5  # a worker that ends before it is measured has none
    assert [row["contender"] for row in rows] == ["decode", "images", "first", "again"]
    assert "bare Pillow decode" in done.stdout and "1.00x" in done.stdout
    monkeypatch.setattr(check, "CONTENDERS", {"cleanvision": "CleanVision"})  # the other contenders are tested above
    failed = bench("check", "--images", 8, "--repeats", 1, "--peers", sys.executable)
    assert failed.returncode == 1 and "CleanVision did not finish: ModuleNotFoundError" in failed.stderr


# --- README ----------------------------------------------------------------------------------------------------------


def test_readmes_case_of_the_lost_class(inside):
    """The folder, plain MindSpore's labels, the message and the fix are as README shows them."""
    section = readme.TEXT.partition("## A class lost")[2].partition("\n## ")[0]
    make, fix = re.findall(r"```sh\n(.+?)\n```", section)
    (python,) = re.findall(r"```python\n(.+?)```", section, re.DOTALL)
    message = textwrap.dedent("".join(re.findall(r"^    .*\n", section, re.MULTILINE)))
    (printed,) = re.findall(r"print\(.+\)  # (.+)", python)
    train = re.findall(r"`\./run\.sh (train .+?)`", section)[0].split()
    drawing.draw_datasets(inside / "datasets", size=48, counts=readme.COUNTS)
    subprocess.run(shlex.split(make), check=True)
    with contextlib.redirect_stdout(io.StringIO()) as output:
        exec(python, {})
    assert output.getvalue().strip() == printed == str(list(range(1, 10)))
    (inside / "configs").symlink_to(PROJECT / "configs")
    stopped = cli(*train)
    assert stopped.returncode == 1 and message in stopped.stderr
    fixed = cli(*shlex.split(fix)[1:])
    assert fixed.returncode == 0 and "nothing found" in fixed.stdout
    assert not (inside / "datasets" / "mushrooms9" / "train" / ".checkpoint").exists()


def parse(arguments):
    """The parameters that the command receives. Raises for an unknown argument."""
    name, command, rest = "mslab", get_command(app), list(arguments)
    if rest[0] == "bench":
        name, command, rest = "bench", get_command(benchmarks.app), rest[1:]
    with mock.patch.dict(os.environ):  # --lang sets a variable
        context = command.make_context(name, rest)
        while words := [*context._protected_args, *context.args] if hasattr(command, "resolve_command") else []:
            name, command, rest = command.resolve_command(context, words)
            context = command.make_context(name, list(rest), parent=context)
    return context.params


@pytest.mark.parametrize("arguments", readme.all_commands(), ids=" ".join)
def test_every_command_of_every_page_is_valid_with_its_options_configs_and_settings(arguments):
    """Also those that take long or have a separate test."""
    values = parse(arguments)
    assert all((PROJECT / text).is_file() for text in arguments if text.startswith("configs/"))
    assert {text.partition("=")[0] for text in values.get("overrides") or ()} <= set(FIELDS)


@pytest.fixture(scope="module")
def demo_run(once):
    """The demo on tiny images: (its folder, the result of run_demo). Do not change the folder."""

    def make(folder):
        result = demo.run_demo(overrides=[*readme.SMALL, "epochs=2", "lr_max=0.01"], counts=readme.COUNTS, size=48)
        (folder / "result.json").write_text(json.dumps(result))

    folder = once("demo", make)
    return folder, json.loads((folder / "result.json").read_text())


def test_readmes_commands_run_shrunk(demo_run, tmp_path):
    """README's commands in order, each form once, on tiny images and with a small network. The guides': tests/slow."""
    folder, result = demo_run
    shutil.copytree(folder / "datasets", tmp_path / "datasets")
    commands, forms = [], set()
    for arguments in readme.commands_in(readme.TEXT):
        real = "animals" in " ".join(arguments)  # real images: in a slow test
        if readme.name_of(arguments) not in readme.SEPARATE and readme.form(arguments) not in forms and not real:
            commands.append(arguments)
            forms.add(readme.form(arguments))
    names = {name for name, *_ in forms}
    assert names >= {"check", "show", "train", "transfer", "eval", "report", "data import", "data split"}
    readme.run(commands, tmp_path, folder / result["nine"]["run"])


def test_the_demo_end_to_end_small(demo_run, monkeypatch):
    folder, result = demo_run
    monkeypatch.chdir(folder)
    devices.start("cpu", "pynative", 1)
    assert set(result) == {"nine", "transfer", "scratch", "seconds"}
    for key, name in (("nine", "mushrooms9"), ("transfer", "mushrooms2"), ("scratch", "mushrooms2")):
        figures = result[key]
        assert set(figures) == {"test_acc", "val_acc", "linear_acc", "seconds", "run"}
        loaded = measuring.load_network(figures["run"])
        samples = {
            split: check_dataset(Path("datasets", name, split)).samples("") for split in ("train", "val", "test")
        }
        for split in ("val", "test"):
            files, labels = samples[split]
            predicted = loaded.network(ms.Tensor(loaded.preprocess(files))).asnumpy().argmax(axis=1)
            assert figures[f"{split}_acc"] == pytest.approx(np.mean(predicted == np.array(labels)), abs=1e-6)
        assert figures["linear_acc"] == metrics.linear_baseline(samples["train"], samples["test"])[0]
        assert (folder / figures["run"] / "report.html").is_file()
    text = demo.table(result)
    assert "two classes, by transfer" in text and f"{result['nine']['test_acc']:.3f}" in text
    gain = result["transfer"]["test_acc"] - result["scratch"]["test_acc"]
    assert f"transfer buys {gain:+.3f} over training from scratch" in text
    assert manifest(result["transfer"]["run"])["parent"]["file"].startswith(result["nine"]["run"])
    assert (folder / result["nine"]["run"] / "examples.png").is_file()


def test_the_demos_transfer_and_scratch_differ_in_the_backbone_only(demo_run):
    folder, result = demo_run
    transfer, scratch = (folder / result[key]["run"] for key in ("transfer", "scratch"))
    for name in ("config.yaml", "images.csv"):
        assert filecmp.cmp(transfer / name, scratch / name, shallow=False), name
    first, second = manifest(transfer), manifest(scratch)
    assert first["parent"] and not second["parent"] and (first["kind"], second["kind"]) == ("transfer", "train")
