"""Equal bytes of two workers, and of the whole ResNet-50."""

from pathlib import Path

from helpers import STAGES, cli, settings

import mslab
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


def test_two_workers_that_train_together_repeat_too(squares, inside, all_cores):
    Path("x.yaml").write_text(dump_config(load_config(settings(squares / "three", 3, epochs=2, **RANDOM))))
    for _ in range(2):
        done = cli("train", "x.yaml", "--workers", 2, "--no-report")
        assert done.returncode == 0, done.stderr
    first, again = sorted(Path("runs").glob("x-*"))
    assert best(first) == best(again)


def test_the_kits_own_network_repeats(squares, inside, all_cores):
    """ResNet-50 itself: the small table of the other tests might hide what only large sums show."""
    config = settings(squares / "three", 3, epochs=1, image_size=32, **RANDOM) | {"stages": None}
    assert config["stages"] != STAGES
    assert best(mslab.train(config).run) == best(mslab.train(config).run)
