"""Equal bytes of two workers, and of the full ResNet-50."""

import json
from pathlib import Path

from helpers import STAGES, cli, settings, weights
from trainings import RANDOM, compiled

import mslab


def test_two_workers_that_train_together_repeat_too(squares, inside, all_cores):
    Path("x.yaml").write_text(json.dumps(compiled(squares)))
    for _ in range(2):
        done = cli("train", "x.yaml", "--workers", 2, "--no-report")
        assert done.returncode == 0, done.stderr
    first, again = sorted(Path("runs").glob("x-*"))
    assert weights(first) == weights(again)


def test_the_kits_own_network_repeats(squares, inside, all_cores):
    """ResNet-50 itself: the small table of the other tests might hide what only large sums show."""
    config = settings(squares / "three", 3, epochs=1, mode="graph", **RANDOM) | {"stages": None}
    assert config["stages"] != STAGES
    assert weights(mslab.train(config).run) == weights(mslab.train(config).run)
