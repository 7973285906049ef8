"""Every command and function that takes a run takes `latest`, the beginning of a name, and from Python a Run."""

import json
import shutil
from pathlib import Path

import pytest
from helpers import cli, manifest, overrides, settings

import mslab
from mslab.errors import CheckpointError, ConfigError, RunError
from mslab.runs import folder
from mslab.training import start

NAME = "nine-20260101-120000"
COMMANDS = (  # RUN is replaced
    "train --resume RUN",
    "train x.yaml --from RUN",
    "transfer x.yaml --backbone RUN",
    "repeat x.yaml --backbone RUN",
    "lr-find x.yaml --backbone RUN",
    "sweep x.yaml --space space.yaml --backbone RUN",
    "eval RUN --data data",
    "predict RUN photo.png",
    "serve RUN --port 0",
    "report RUN",
    "export RUN --format onnx",
    "watch RUN --once",
    "verify RUN",
    "reproduce RUN --dry-run",
    "reproduce nine --with RUN",
    "archive RUN --out x.zip",
    "suspects RUN --data data",
    "pack nine=RUN --out anna.zip",
    "show RUN",
    "convert RUN --to x.safetensors",
)


@pytest.fixture
def run(parent, inside):
    """A run under runs/ of the current folder."""
    return Path(shutil.copytree(parent, Path("runs") / NAME))


def test_every_command_says_which_names_there_are(run, inside, squares):
    (inside / "x.yaml").write_text("\n".join(overrides(settings(squares / "three", 3))).replace("=", ": "))
    (inside / "space.yaml").write_text("lr_max: [0.1, 0.2]\n")
    for words in COMMANDS:
        done = cli(*words.replace("RUN", "latest:nime").split())
        assert done.returncode == 1 and f"No run in {inside}/runs has the name 'nime'." in done.stderr, words
        assert "  fix       one of latest:nine\n" in done.stderr, words
    assert [path.name for path in (inside / "runs").iterdir()] == [NAME]


def test_commands_take_latest_and_say_which_run_that_is(run):
    for words in ("train --resume latest", "watch runs/latest --once", "show latest", "verify nine --json -"):
        done = cli(*words.split())
        assert done.returncode == 0, (words, done.stderr)
        assert f" is runs/{NAME}" in done.stderr and " is runs/" not in done.stdout, (words, done.stdout)
    assert json.loads(done.stdout)["run"] == f"runs/{NAME}"
    for words in ("convert latest:nine --to x.safetensors", "archive runs/nine* --out x.zip", "pack a=n --out a.zip"):
        assert cli(*words.split()).returncode == 0, words


def test_a_run_a_result_and_a_path_are_the_same_from_python(run, two):
    done = start.transfer(two | {"epochs": 1}, mslab.Run("latest"), name="my-run")
    assert Path(done.run).name.startswith("my-run-2") and manifest(done.run)["parent"]["file"].startswith(str(run))
    loaded = mslab.load_network(done)
    assert loaded.path == Path(done.run) / "checkpoints/best.ckpt"
    assert mslab.load_network(mslab.Run(mslab.Run("my-run"))).path == loaded.path
    assert [folder.RunFolder.read(given).path for given in (mslab.Run(run), done)] == [run, Path(done.run)]
    for value in (None, 3, ["x"], {"run": "x"}, loaded.network, loaded):
        for call in (
            mslab.load_network,
            lambda value: mslab.evaluate(value, "nowhere"),
            lambda value: mslab.transfer(two, backbone=value),
            mslab.Run,
        ):
            with pytest.raises((CheckpointError, RunError), match=r"^.{1,40} is no path\.\n  expected .*\n  fix  "):
                call(value)
    with pytest.raises(ConfigError, match="cannot name a run"):
        mslab.train(two, name="a/b")


def test_a_resume_from_elsewhere_is_answered_with_the_command_that_works(run, inside, squares, monkeypatch):
    """Also what is in a run stands for it, except a checkpoint that is not the last: that begins a new run."""
    config = (run / "config.yaml").read_text().replace(str(squares / "three"), "images")
    (run / "config.yaml").write_text(config)
    (run / "manifest.json").write_text(json.dumps(manifest(run) | {"status": "interrupted"}))
    (inside / "images").symlink_to(squares / "three")
    (inside / "other").mkdir()
    monkeypatch.chdir(inside / "other")
    done = cli("train", "--resume", f"../runs/{NAME}/checkpoints/last.ckpt")
    assert done.returncode == 1 and f"../runs/{NAME} was trained on images in images/train" in done.stderr
    assert f"fix       cd {inside} && mslab train --resume runs/{NAME}    where it began\n" in done.stderr
    done = cli("train", "--resume", f"../runs/{NAME}/checkpoints/best.ckpt")
    assert "best.ckpt is a checkpoint, not a run." in done.stderr
    assert f"mslab train --resume ../runs/{NAME}\n" in done.stderr
    monkeypatch.chdir(inside)
    done = cli("train", "--resume", f"runs/{NAME}", "--no-report")
    assert done.returncode == 0, done.stderr


def test_images_that_are_named_before_the_run_are_swapped_and_a_missing_one_is_said_at_once(run, squares):
    image = squares / "three/val/a/000.png"
    done = cli("predict", image, "latest")
    assert done.returncode == 1 and f"  fix       mslab predict latest {image}\n" in done.stderr
    done = cli("predict", "latest", image.parent / "0000.png")
    assert done.returncode == 1 and f"There is no image {image.parent}/0000.png." in done.stderr
    assert f"{image} or " in done.stderr and "No such file" not in done.stderr
    assert cli("predict", "latest").returncode == 2 and cli("eval", "latest").returncode == 2
    assert cli("train", "--resume", "latest", "--name", "x").returncode == 2
