"""Equal settings give equal bytes; each purpose has a stream of its own; what a device needs for it is asked for."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from easydict import EasyDict
from helpers import STAGES, cli, settings

import mslab
from mslab import check, checkpoint, data, evaluation, manifest, runtime, splitting, streams, training
from mslab.config import dump_config, load_config
from mslab.errors import ConfigError

RANDOM = {
    "mixup_alpha": 0.2,
    "random_erasing": 0.3,
    "color_jitter": 0.3,
    "crop_scale": 0.5,
    "auto_augment": "randaugment",
}


def best(run):
    return checkpoint.sha256(Path(run) / "checkpoints" / "best.ckpt")


@pytest.mark.parametrize("threads", [1, 2])
def test_two_runs_are_equal_to_the_bit_also_after_another_one(threads, squares, inside, all_cores):
    config = settings(squares / "three", 3, epochs=2, data_workers=threads, **RANDOM)
    first = mslab.train(config).run
    mslab.train(settings(squares / "two", 2, epochs=1, seed=9, optimizer="adam", dropout=0.5))
    again, other = mslab.train(config).run, mslab.train(config | {"seed": 2}).run
    assert best(first) == best(again) != best(other)
    for name in ("config.yaml", "steps.csv", "images.csv"):
        assert (Path(first) / name).read_bytes() == (Path(again) / name).read_bytes()
    assert (Path(first) / "steps.csv").read_bytes() != (Path(other) / "steps.csv").read_bytes()


def test_another_process_gives_the_same_bits(squares, inside):
    Path("x.yaml").write_text(dump_config(load_config(settings(squares / "three", 3, epochs=1, **RANDOM))))
    for _ in range(2):
        done = cli("train", "x.yaml", "--no-report")
        assert done.returncode == 0, done.stderr
    here, there = Path("runs").glob("x-*")
    assert best(here) == best(there)


def test_the_number_of_threads_is_kept_as_it_really_was(squares, inside, caplog):
    """MindSpore draws other augmentation with another number; what a machine cannot give must not look like it did."""
    own = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(own)})
        run = mslab.train(settings(squares / "three", 3, epochs=1, data_workers=2)).run
    finally:
        os.sched_setaffinity(0, own)
    assert "data_workers: 2 becomes 1, as many as this machine has cores" in caplog.text
    assert load_config(Path(run) / "config.yaml").data_workers == 1
    assert manifest.load(Path(run))["environment"]["cpu"]["cores"] == 1


def test_a_resume_on_fewer_cores_says_that_it_augments_otherwise(squares, inside, all_cores, caplog):
    run = mslab.train(settings(squares / "three", 3, epochs=2, data_workers=2, max_training_time=1e-9)).run
    assert "images are augmented otherwise" not in caplog.text
    own = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(own)})
        training.resume(run)
    finally:
        os.sched_setaffinity(0, own)
    assert (
        "note: data_workers: 2, but 1 cores here: images are augmented otherwise than without the stop" in caplog.text
    )
    assert manifest.load(Path(run))["resumed"][0]["environment"]["cpu"]["cores"] == 1


def test_plain_mindspore_draws_otherwise_with_another_number_of_threads(squares, all_cores):
    images = evaluation.images_of(check.check_dataset(squares / "three" / "train"), "")
    config = load_config(settings(squares / "three", 3, crop_scale=0.3, color_jitter=0.5))
    one, again, two = (
        np.concatenate([x for x, _ in data.train_batches(images, EasyDict(config | {"data_workers": n}), 0)])
        for n in (1, 1, 2)
    )
    assert np.array_equal(one, again) and not np.array_equal(one, two)


# --- streams ---------------------------------------------------------------------------------------------------------


def test_streams_of_all_purposes_and_epochs_differ():
    draws = [
        streams.stream(purpose, seed, epoch, rank).integers(2**62)
        for purpose in streams.PURPOSES
        for seed in (0, 1)
        for epoch in range(20)
        for rank in (0, 1)
    ]
    assert len(set(draws)) == len(draws)
    seeds = {
        streams.augmentation_seed(seed, epoch, rank) for seed in (1, 2) for epoch in range(300) for rank in range(8)
    }
    assert len(seeds) == 2 * 300 * 8


@pytest.mark.parametrize("more", [{"random_erasing": 0.5}, {"mixup_alpha": 0.5}, {"cutmix_alpha": 1.0}])
def test_adding_one_purpose_leaves_the_others_as_they_were(more, squares):
    images = evaluation.images_of(check.check_dataset(squares / "three" / "train"), "")
    config = load_config(settings(squares / "three", 3, crop_scale=0.4, color_jitter=0.4))
    order = data.order_of(images, config, 3)
    assert np.array_equal(order, data.order_of(images, EasyDict(config | more), 3))
    plain = dict(zip(range(99), data.augmented(images, config, 3, order), strict=False))
    touched = dict(zip(range(99), data.train_batches(images, EasyDict(config | more), 3), strict=False))
    for number, (x, y) in touched.items():
        before, labels = plain[number]
        if "random_erasing" in more:  # what was not erased is what it was
            assert ((x == before) | (x == 0)).all() and (x != before).any() and np.array_equal(y, labels)
    mixed = load_config(settings(squares / "three", 3, crop_scale=0.4, color_jitter=0.4, **more))
    again = list(data.augmented(images, mixed, 3, order))
    if "random_erasing" not in more:  # mixing comes after: the images it mixes are the same
        assert all(np.array_equal(x, plain[number][0]) for number, (x, _) in enumerate(again))


def test_weights_begin_alike_whatever_else_is_set(squares, inside):
    values = []
    for more in ({}, RANDOM, {"batch_size": 4, "optimizer": "adam", "lr_max": 0.01, "data_workers": 1}):
        config = load_config(settings(squares / "three", 3, **more))
        training.settle(config)
        runtime.start("cpu", "graph", seed=config.seed)
        network = training.new_network(config)
        values.append({p.name: p.asnumpy().tobytes() for p in network.get_parameters()})
    assert values[0] == values[1] == values[2]


def test_a_split_has_a_stream_of_its_own(squares, inside):
    report = check.check_dataset(squares / "three" / "train")
    one, again, other = (splitting.assign(report, {"val": 0.25}, seed) for seed in (1, 1, 2))
    names = [[p.name for p in parts["val"]] for parts in (one, again, other)]
    assert names[0] == names[1] != names[2]


# --- seed: null, deterministic ---------------------------------------------------------------------------------------


def test_no_seed_draws_one_says_it_and_keeps_it(squares, inside, caplog):
    run = mslab.train(settings(squares / "three", 3, epochs=1, seed=None)).run
    seed = load_config(Path(run) / "config.yaml").seed
    said = caplog.text
    assert isinstance(seed, int) and f"seed: null drew {seed}; seed={seed} repeats this" in said
    assert manifest.load(Path(run))["seed"] == seed
    assert best(mslab.train(settings(squares / "three", 3, epochs=1, seed=seed)).run) == best(run)
    drawn = {load_config(settings(squares / "three", 3), ["seed=null"]).seed for _ in range(4)}
    assert len(drawn) == 4


@pytest.mark.parametrize("device,calls", [("cpu", 0), ("gpu", 1), ("ascend", 1)])
def test_deterministic_asks_a_device_for_what_mindspore_has(device, calls):
    plan = runtime.plan(device, "graph", 1, deterministic=True, workers=2)
    names = [name for name, _ in plan]
    assert (
        names.count("set_deterministic") == calls and ("set_deterministic", {"deterministic": True}) in plan
    ) or not calls
    if calls:
        assert ("set_deterministic", {"deterministic": True}) in plan
    if calls:  # MindSpore: before the workers find each other
        assert names.index("set_device") < names.index("set_deterministic") < names.index("communication.init")
    assert "set_deterministic" not in [name for name, _ in runtime.plan(device, "graph", 1)]


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


def test_deterministic_does_nothing_on_a_cpu_and_that_is_said(squares):
    with pytest.raises(
        ConfigError, match=r"deterministic +does nothing here: with device: cpu a run repeats bit for bit"
    ):
        load_config(settings(squares / "three", 3, device="cpu"), ["deterministic=true"])


@pytest.mark.parametrize(
    "device,on,said", [("cpu", False, "nothing"), ("gpu", True, "is on"), ("ascend", False, "true")]
)
def test_the_manifest_says_what_remains(device, on, said):
    told = manifest.determinism(device, on)
    assert told["bit_identical"] is (device == "cpu") and said in told["remains"]


@pytest.mark.slow
def test_two_workers_that_train_together_repeat_too(squares, inside, all_cores):
    Path("x.yaml").write_text(dump_config(load_config(settings(squares / "three", 3, epochs=2, **RANDOM))))
    for _ in range(2):
        done = cli("train", "x.yaml", "--workers", 2, "--no-report")
        assert done.returncode == 0, done.stderr
    first, again = sorted(Path("runs").glob("x-*"))
    assert best(first) == best(again)


@pytest.mark.slow
def test_the_kits_own_network_repeats(squares, inside, all_cores):
    """ResNet-50 itself: the small table of the other tests might hide what only large sums show."""
    config = settings(squares / "three", 3, epochs=1, image_size=32, **RANDOM) | {"stages": None}
    assert config["stages"] != STAGES
    assert best(mslab.train(config).run) == best(mslab.train(config).run)
