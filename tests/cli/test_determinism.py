"""Equal bytes in another process, and what MindSpore allows once in a process."""

import subprocess
import sys
from pathlib import Path

from helpers import cli, settings

from mslab import checkpoint
from mslab.config import dump_config, load_config

RANDOM = {
    "mixup_alpha": 0.2,
    "random_erasing": 0.3,
    "color_jitter": 0.3,
    "crop_scale": 0.5,
    "auto_augment": "randaugment",
}


def best(run):
    return checkpoint.sha256(Path(run) / "checkpoints" / "best.ckpt")


def test_another_process_gives_the_same_bits(squares, inside):
    Path("x.yaml").write_text(dump_config(load_config(settings(squares / "three", 3, epochs=1, **RANDOM))))
    for _ in range(2):
        done = cli("train", "x.yaml", "--no-report")
        assert done.returncode == 0, done.stderr
    here, there = Path("runs").glob("x-*")
    assert best(here) == best(there)


def test_deterministic_is_set_once_though_runs_follow_each_other():
    code = (
        "import mslab; from mslab import runtime\n"
        "for _ in range(2): runtime.set_up([('set_deterministic', {'deterministic': True})])\n"
        "import mindspore as ms\n"
        "try: ms.set_deterministic(True)\n"
        "except RuntimeError as error: print('refused:', 'repeatedly' in str(error))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "refused: True\n", done.stderr
