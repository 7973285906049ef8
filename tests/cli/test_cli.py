"""The command line: exit codes, one JSON document on standard output, README's commands."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from helpers import PROJECT, STAGES, cli, draw

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
    assert "stray-folder" in bad.stdout and "\n1 error (stray-folder)\n" in bad.stdout


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


@pytest.mark.parametrize("command", ["train", "transfer", "eval", "suspects"])
def test_wrong_data_stops_before_mindspore_starts(command, tmp_path, three):
    shutil.copytree(three["train_data"], tmp_path / "set")
    (tmp_path / "set" / ".checkpoint").mkdir()
    (tmp_path / "x.yaml").write_text(json.dumps(three | {"train_data": "set"}))
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['mindspore'] = None  # importing it fails\n")
    rest = {"train": [], "transfer": ["--backbone", "none.ckpt"]}.get(command, ["--data", "set"])
    done = cli(command, "x.yaml", *rest, cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)})
    assert done.returncode == 1 and "DatasetError: set" in done.stderr and "stray-folder" in done.stderr
    assert not (tmp_path / "runs").exists()


def test_skip_check_skips_comparisons_and_is_written_down(tmp_path, three):
    shutil.copytree(three["train_data"], tmp_path / "train")
    shutil.copyfile(tmp_path / "train" / "a" / "000.png", tmp_path / "train" / "b" / "copy.png")
    words = ["train", "x.yaml", "epochs=1", "warmup_epochs=0"]
    (tmp_path / "x.yaml").write_text(json.dumps(three | {"train_data": "train"}))
    done = cli(*words, cwd=tmp_path)
    assert done.returncode == 1 and "label-conflict" in done.stderr
    done = cli(*words, "--skip-check", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    run = next((tmp_path / "runs").iterdir())
    assert json.loads((run / "manifest.json").read_text())["data"]["skip_check"] is True
    resumed = cli("train", "--resume", run, cwd=tmp_path)  # begins with the check that the run had
    assert resumed.returncode == 0 and "label-conflict" not in resumed.stderr, resumed.stderr
    (tmp_path / "train" / ".checkpoint").mkdir()
    assert "stray-folder" in cli(*words, "--skip-check", cwd=tmp_path).stderr  # folders are checked always


def test_bench_check_prints_ratios_side_by_side(tmp_path):
    done = cli("bench", "check", "--images", 20, "--images", 40, "--repeats", 1, "--json", tmp_path / "rows.json")
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert done.returncode == 0 and [row["images"] for row in rows] == [20] * 4 + [40] * 4
    for row in rows:
        assert row["seconds"] > 0 and row["images_per_s"] == pytest.approx(row["images"] / row["seconds"])
        assert row["own_mib"] > 5
    assert max(row["worker_mib"] for row in rows) > 5  # a worker that is gone before anybody looks has none
    assert [row["contender"] for row in rows[:4]] == ["decode", "images", "first", "again"]
    assert "bare Pillow decode" in done.stdout and "1.00x" in done.stdout
    failed = cli("bench", "check", "--images", 8, "--repeats", 1, "--peers", sys.executable)
    assert failed.returncode == 1 and "CleanVision did not finish: ModuleNotFoundError" in failed.stderr


README = (PROJECT / "README.md").read_text()


def test_readmes_case_of_the_lost_class(lab):
    """The folder, plain MindSpore's labels, the message and the cure are as README shows them."""
    section = README[README.index("## A class lost") : README.index("## Your own images")]
    make, cure = re.findall(r"```sh\n(.+?)\n```", section)
    (python,) = re.findall(r"```python\n(.+?)```", section, re.DOTALL)
    message = textwrap.dedent("".join(re.findall(r"^    .*\n", section, re.MULTILINE)))
    (said,) = re.findall(r"print\(.+\)  # (.+)", python)
    train = re.findall(r"`\./run\.sh (train .+?)`", section)[0].split()
    subprocess.run(shlex.split(make), cwd=lab, check=True)
    plain = subprocess.run([sys.executable, "-c", python], cwd=lab, capture_output=True, text=True, timeout=120)
    assert plain.returncode == 0 and plain.stdout.strip() == said == str(list(range(1, 10))), plain.stderr
    (lab / "configs").symlink_to(PROJECT / "configs")
    stopped = cli(*train, cwd=lab)
    assert stopped.returncode == 1 and message in stopped.stderr
    cured = cli(*shlex.split(cure)[1:], cwd=lab)
    assert cured.returncode == 0 and "nothing found" in cured.stdout
    assert not (lab / "datasets" / "mushrooms9" / "train" / ".checkpoint").exists()
    shutil.rmtree(lab / "datasets" / "mushrooms9.quarantine")


# are run by tests of their own
OWN = ("demo", "test", "bench", "lr-find", "tune-batch", "serve", "pack", "grade", "sweep", "repeat", "reproduce-all")


def readme_commands():
    """Every ./run.sh command in README's code blocks, as arguments of mslab."""
    lines = re.findall(r"^ +\./run\.sh (.+)$", README, re.MULTILINE)
    return [shlex.split(line) for line in lines]


@pytest.mark.parametrize("kind", ["drawn", pytest.param("real", marks=pytest.mark.slow)])
def test_readmes_commands_run_shrunk(kind, lab, tmp_path):
    """README's commands in their order, on tiny data and with a small table; those on real images, too."""
    if kind == "real" and not os.environ.get("MSLAB_TEST_DATA"):
        pytest.skip("MSLAB_TEST_DATA does not name the folder of real images")
    lab = Path(shutil.copytree(lab, tmp_path / "lab", symlinks=True))
    shutil.make_archive(str(lab / "mushrooms"), "zip", lab / "datasets" / "mushrooms9" / "train")
    done = set()
    newest = None
    real = kind == "real"  # what `data animals` builds
    for name in ("animals9", "animals2") if real else ():
        (lab / "datasets" / name).symlink_to(Path(os.environ["MSLAB_TEST_DATA"]) / "animals" / name)
    for words in readme_commands():
        name = words[0]
        if name in OWN or words[:2] in (["data", "make"], ["data", "animals"]):
            done.add(name)
            continue
        if any("animals" in word for word in words) and not real:
            continue
        words = [str(newest / word.partition("…/")[2]) if word.startswith("runs/…") else word for word in words]
        words = [str(PROJECT / word) if word.startswith("configs/") else word for word in words]
        if "--compare" in words:  # one of each is run by a test of its own
            words = [{"0.1,0.3,1.0": "1.0", "scratch,frozen,finetune": "frozen", "3": "1"}.get(w, w) for w in words]
        if name in ("train", "transfer") and "--resume" not in words:
            words += [*SMALL, *["--no-report"] * (newest is not None)]  # the first one writes its report
        result = cli(*words, cwd=lab)
        assert result.returncode == 0, (words, result.stderr[-2000:])
        if name in ("train", "transfer") and "--compare" not in words:
            newest = max((lab / "runs").iterdir(), key=lambda path: path.stat().st_mtime)
        done.add(name)
    assert done >= {"demo", "test", "check", "show", "train", "transfer", "eval", "data", "lr-find", "tune-batch"}


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
