"""mslab watch while its training process is killed."""

import signal
import subprocess

from helpers import PROGRAM, cli, overrides


def test_a_killed_training_process_releases_the_lock(inside, three):
    """With the worker processes that it started."""
    (inside / "x.yaml").write_text("\n".join(overrides(three | {"epochs": 400})).replace("=", ": "))
    with subprocess.Popen([*PROGRAM, "train", "x.yaml"], stderr=subprocess.PIPE, text=True) as training:
        for line in training.stderr:
            if line.startswith("epoch "):
                break
        (folder,) = (inside / "runs").iterdir()
        assert "running" in cli("watch", folder).stdout
        training.send_signal(signal.SIGKILL)
        training.communicate()
    assert "killed: its process is gone" in cli("watch", folder).stdout
