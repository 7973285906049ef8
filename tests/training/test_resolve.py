"""config.resolve completes settings, and refuses contradictions between config, backbone and machine."""

import pytest
from helpers import STAGES, settings

import mslab
from mslab import model
from mslab.check import check_dataset
from mslab.config import dump_config, load_settings
from mslab.config.resolve import Machine, resolve
from mslab.data import decoded
from mslab.errors import CheckpointError, ConfigError
from mslab.runs.folder import RunFolder
from mslab.training import finetuning, start

GIB = 1 << 30
CPU, GPU = Machine("cpu", 2), Machine("gpu", 16)


def load(**more):
    return load_settings({"train_data": "a", "val_data": "b", "class_num": 3} | more)


def test_open_settings_are_filled_in_and_resolving_again_changes_nothing():
    loaded = load(data_workers=8, amp_level="auto", rescale_train_batch_size_factor=10)
    result, notes = resolve(loaded, 100, None, CPU)
    assert result.stages == [list(row) for row in model.STAGES] and result.network_profile() == model.PROFILE
    assert (result.stem, result.data_workers, result.amp_level, result.batch_size) == ("imagenet", 2, "O0", 10)
    assert notes == [
        "data_workers: 8 becomes 2, the number of cores of this machine",
        "batch_size: 32 becomes 10: rescale_train_batch_size_factor: 10 allows 10 of 100 images a step",
    ]
    assert resolve(result, 100, None, CPU) == (result, [])
    assert loaded.stages is None and loaded.batch_size == 32  # the argument is unchanged


@pytest.mark.parametrize("level,machine,expected", [("auto", GPU, "O2"), ("auto", CPU, "O0"), ("O3", GPU, "O3")])
def test_the_precision_depends_on_the_device(level, machine, expected):
    assert resolve(load(amp_level=level), 100, None, machine)[0].amp_level == expected


@pytest.mark.parametrize("workers,initial_workers,batch_size", [(1, 1, 8), (2, 2, 8), (1, 2, 16), (4, 2, 4)])
def test_workers_divide_as_many_images_a_step_as_at_the_start_of_the_run(workers, initial_workers, batch_size):
    result, _ = resolve(load(batch_size=8), 1000, None, Machine("cpu", 8, workers, initial_workers))
    assert result.batch_size == batch_size


@pytest.mark.parametrize(
    "more,machine,message",
    [
        ({"batch_size": 4}, Machine("cpu", 8, 3, 1), "takes 4 images a step; 3 workers cannot divide them evenly"),
        ({"batch_size": 4}, Machine("cpu", 8, 4, 1), "--workers 1, 2"),
        ({"on_nan": "rollback"}, Machine("cpu", 8, 2, 2), "on_nan: rollback does not work with 2 workers"),
    ],
)
def test_settings_that_do_not_work_with_these_workers_are_refused(more, machine, message):
    with pytest.raises(ConfigError) as caught:
        resolve(load(**more), 1000, None, machine)
    assert message in str(caught.value) and caught.value.expected and caught.value.fix


def test_a_backbone_brings_its_own_network_and_normalisation(parent):
    saved = finetuning.read_backbone(parent)
    saved.info["mean"] = [0.5, 0.5, 0.5]
    result, notes = resolve(load(image_size=48), 1000, saved, CPU)
    assert result.stages == STAGES and result.mean == [0.5, 0.5, 0.5] and result.network_profile() == saved.profile
    assert [note.split(":")[1].strip() for note in notes if "mean" in note] == ["mean"]
    assert "note: the backbone was trained on 32 pixels, this run on 48" in notes
    with pytest.raises(CheckpointError, match="the config sets"):
        resolve(load(stages=[[1, 16, 1]]), 1000, saved, CPU)


def test_config_yaml_is_the_result_of_resolve(squares, inside):
    loaded = load_settings(settings(squares / "three", 3, amp_level="auto", stages=None, stem="small"))
    report = check_dataset(loaded.train_data, loaded.val_data)
    run = start.prepare(start.Job(loaded, report, "resolved"))
    result, _ = resolve(loaded, 48, None, Machine("cpu", 64, memory=GIB), decoded.size_of(report))
    assert result.cache == "memory"
    assert run.settings == result == RunFolder.read(run.path).settings
    assert (run.path / "config.yaml").read_text(encoding="utf-8") == dump_config(result)


def test_settings_are_frozen_and_a_changed_copy_is_validated():
    original = load()
    with pytest.raises(ValueError, match="frozen"):
        original.lr_max = 1.0
    assert original.replace(lr_max=0.5).lr_max == 0.5 and original.lr_max != 0.5
    for wrong in ({"lr_max": -1.0}, {"learning_rat": 0.1}):
        with pytest.raises(ValueError):
            original.replace(**wrong)
    assert type(mslab.load_config({"train_data": "a", "val_data": "b", "class_num": 3})).__name__ == "EasyDict"


@pytest.mark.parametrize(
    ("cache", "size", "memory", "workers", "expected"),
    [
        ("auto", GIB, 4 * GIB, 1, "memory"),
        ("auto", GIB + 1, 64 * GIB, 1, "none"),  # more than 1 GiB
        ("auto", GIB // 2, 2 * GIB, 1, "memory"),
        ("auto", GIB // 2 + 1, 2 * GIB, 1, "none"),  # more than a quarter of what is free
        ("auto", GIB // 2, 4 * GIB, 2, "memory"),
        ("auto", GIB // 2 + 1, 4 * GIB, 2, "none"),  # every worker has its own
        ("auto", 0, 64 * GIB, 1, "none"),  # unknown
        ("auto", 100, 0, 1, "none"),
        ("none", 100, 64 * GIB, 1, "none"),
        ("memory", 9 * GIB, GIB, 1, "memory"),
        ("disk", 9 * GIB, GIB, 1, "disk"),
    ],
)
def test_images_are_cached_where_they_take_little(cache, size, memory, workers, expected):
    machine = Machine("cpu", 2, workers, workers, memory)
    assert resolve(load(cache=cache), 1000, None, machine, size)[0].cache == expected
    assert load().cache == "auto"
