"""The command line: exit codes, one JSON document on standard output, README's commands."""

import json
import os
import re
import shlex

import pytest
from conftest import PROJECT, STAGES, cli, draw

from mslab import demo, mushrooms


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """A folder with drawn data of both kinds, tiny, as `mslab data make` would leave it."""
    folder = tmp_path_factory.mktemp("lab")
    counts = {name: {"train": 4, "val": 2, "test": 2} for name in mushrooms.COUNTS}
    mushrooms.draw_datasets(folder / "datasets", size=48, counts=counts)
    return folder


SMALL = [f"stages={STAGES}", "image_size=32", "epochs=1", "batch_size=4", "device=cpu"]


def test_exit_codes(tmp_path):
    assert cli("--version").stdout.startswith("mslab ")
    assert cli("trian").returncode == 2 and cli("check").returncode == 2 and cli("train", "--wrong").returncode == 2
    assert cli("train").returncode == 1
    missing = cli("check", tmp_path / "nowhere")
    assert missing.returncode == 1 and missing.stderr.startswith("DatasetError: There is no folder")
    assert cli("train", tmp_path / "nowhere.yaml").stderr.startswith("ConfigError: There is no config file")


def test_check_prints_and_writes_json(tmp_path):
    draw(tmp_path / "set", ["a", "b"], 2)
    good = cli("check", tmp_path / "set", "--json", "-", "--classes", 2)
    content = json.loads(good.stdout)  # exactly one document, nothing else
    assert good.returncode == 0 and content["ok"] and content["schema"] == 1 and content["class_num"] == 2
    assert content["classes"] == ["a", "b"] and content["counts"] == {"": {"a": 2, "b": 2}} and content["images"] == 4
    (tmp_path / "set" / ".checkpoint").mkdir()
    bad = cli("check", tmp_path / "set", "--json", tmp_path / "out.json")
    finding = json.loads((tmp_path / "out.json").read_text())["findings"][0]
    assert bad.returncode == 1 and set(finding) == {"code", "severity", "path", "message", "fix"}
    assert "stray-folder" in bad.stdout and "1 errors, 0 warnings" in bad.stdout


def test_every_problem_of_a_config_is_listed_and_nothing_is_written(tmp_path):
    (tmp_path / "x.yaml").write_text("train_data: a\nlearning_rate: 1\n")
    done = cli("train", "x.yaml", "epochs=zero", cwd=tmp_path)
    assert done.returncode == 1 and "x.yaml has 4 problems" in done.stderr and "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["x.yaml"]


def test_an_unknown_error_keeps_its_traceback(tmp_path, squares):
    broken = tmp_path / "sitecustomize.py"
    broken.write_text(
        "import mslab.config\ndef boom(*a):\n    raise RuntimeError('unheard of')\nmslab.config.load_config = boom\n"
    )
    done = cli("train", "x.yaml", env={"PYTHONPATH": str(tmp_path)})
    assert done.returncode == 1 and "Traceback" in done.stderr and "RuntimeError: unheard of" in done.stderr


def readme_commands():
    """Every ./run.sh command in README's code blocks, as arguments of mslab."""
    lines = re.findall(r"^ +\./run\.sh (.+)$", (PROJECT / "README.md").read_text(), re.MULTILINE)
    return [shlex.split(line) for line in lines]


def test_readmes_commands_run_shrunk(lab):
    """The lab's steps as README has them, on tiny data and with a small table."""
    done = set()
    newest = None
    real = os.environ.get("MSLAB_TEST_DATA")  # README's FOLDER
    for words in readme_commands():
        name = words[0]
        if name in ("demo", "test") or words[:2] == ["data", "make"]:
            done.add(name)  # run by tests of their own
            continue
        if any("FOLDER" in word for word in words):
            if not real:
                continue
            words = [word.replace("FOLDER", f"{real}/animals") for word in words]
        words = [str(newest / word.partition("…/")[2]) if word.startswith("runs/…") else word for word in words]
        words = [str(PROJECT / word) if word.startswith("configs/") else word for word in words]
        if name in ("train", "transfer") and "--resume" not in words:
            words += SMALL
        result = cli(*words, cwd=lab)
        assert result.returncode == 0, (words, result.stderr[-2000:])
        if name in ("train", "transfer"):
            newest = max((lab / "runs").iterdir(), key=lambda path: path.stat().st_mtime)
        done.add(name)
    assert done >= {"demo", "test", "check", "show", "train", "transfer", "eval", "data"}


def test_the_demo_end_to_end_small(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    counts = {name: {"train": 6, "val": 2, "test": 2} for name in mushrooms.COUNTS}
    result = demo.run_demo(overrides=SMALL, counts=counts, size=48)
    assert set(result) == {"nine", "transfer", "scratch", "seconds"}
    for key in ("nine", "transfer", "scratch"):
        assert {"test_acc", "val_acc", "linear_acc", "seconds", "run"} <= set(result[key])
        assert 0 <= result[key]["test_acc"] <= 1 and (tmp_path / result[key]["run"] / "eval.json").is_file()
    text = demo.table(result)
    assert "two classes, by transfer" in text and f"{result['nine']['test_acc']:.3f}" in text
    manifest = json.loads((tmp_path / result["transfer"]["run"] / "manifest.json").read_text())
    assert manifest["parent"]["file"].startswith(result["nine"]["run"])


def test_the_demos_transfer_and_scratch_differ_in_the_backbone_only():
    from mslab.config import load_config

    config = load_config(PROJECT / "configs" / "mushrooms2.yaml")
    assert config.freeze == "none"  # one config for both: the same images, steps and rates


@pytest.mark.slow
def test_animals_beat_chance_and_transfer_beats_scratch(test_data, tmp_path):
    """README's commands on real images, cut to one epoch of nine classes; the full figures are in README."""
    animals = test_data / "animals"

    def places(name):
        return [f"train_data={animals / name / 'train'}", f"val_data={animals / name / 'val'}"]

    done = cli("train", PROJECT / "configs/animals9.yaml", *places("animals9"), "epochs=1", cwd=tmp_path, timeout=900)
    assert done.returncode == 0, done.stderr
    run = next((tmp_path / "runs").iterdir())
    assert json.loads((run / "eval.json").read_text())["accuracy"] > 2 / 9
    done = cli(
        "transfer", PROJECT / "configs/animals2.yaml", "--backbone", run, *places("animals2"), "epochs=2", cwd=tmp_path
    )
    assert done.returncode == 0 and "backbone: 265 of 265 tensors" in done.stderr, done.stderr
