"""config.resolve: the one place where settings are completed, and what it refuses."""

import pytest
from helpers import STAGES, settings

import mslab
from mslab import model
from mslab.check import check_dataset
from mslab.config import dump_config, load_settings
from mslab.config.resolve import Machine, resolve
from mslab.errors import CheckpointError, ConfigError
from mslab.runs.folder import RunFolder
from mslab.training import finetuning, start

CPU, GPU = Machine("cpu", 2), Machine("gpu", 16)


def given(**more):
    return load_settings({"train_data": "a", "val_data": "b", "class_num": 3} | more)


def test_what_is_left_open_is_filled_in_and_stays_when_it_is_resolved_again():
    asked = given(data_workers=8, amp_level="auto", rescale_train_batch_size_factor=10)
    made, notes = resolve(asked, 100, None, CPU)
    assert made.stages == [list(row) for row in model.STAGES] and made.network_profile() == model.PROFILE
    assert (made.stem, made.data_workers, made.amp_level, made.batch_size) == ("imagenet", 2, "O0", 10)
    assert notes == [
        "data_workers: 8 becomes 2, as many as this machine has cores",
        "batch_size: 32 becomes 10: rescale_train_batch_size_factor: 10 allows 10 of 100 images a step",
    ]
    assert resolve(made, 100, None, CPU) == (made, [])
    assert asked.stages is None and asked.batch_size == 32  # what was given stays as it was


@pytest.mark.parametrize("level,machine,taken", [("auto", GPU, "O2"), ("auto", CPU, "O0"), ("O3", GPU, "O3")])
def test_the_precision_is_the_devices(level, machine, taken):
    assert resolve(given(amp_level=level), 100, None, machine)[0].amp_level == taken


@pytest.mark.parametrize("workers,began,each", [(1, 1, 8), (2, 2, 8), (1, 2, 16), (4, 2, 4)])
def test_workers_share_the_images_of_a_step_as_the_run_began_with_them(workers, began, each):
    made, _ = resolve(given(batch_size=8), 1000, None, Machine("cpu", 8, workers, began))
    assert made.batch_size == each


@pytest.mark.parametrize(
    "more,machine,said",
    [
        ({"batch_size": 4}, Machine("cpu", 8, 3, 1), "takes 4 images a step; 3 workers cannot share them evenly"),
        ({"batch_size": 4}, Machine("cpu", 8, 4, 1), "--workers 1, 2"),
        ({"on_nan": "rollback"}, Machine("cpu", 8, 2, 2), "on_nan: rollback with 2 workers"),
    ],
)
def test_what_workers_cannot_do_is_refused(more, machine, said):
    with pytest.raises(ConfigError) as caught:
        resolve(given(**more), 1000, None, machine)
    assert said in str(caught.value) and caught.value.expected and caught.value.fix


def test_a_backbone_brings_its_own_network_and_normalisation(parent):
    saved = finetuning.read_backbone(parent)
    saved.info["mean"] = [0.5, 0.5, 0.5]
    made, notes = resolve(given(image_size=48), 1000, saved, CPU)
    assert made.stages == STAGES and made.mean == [0.5, 0.5, 0.5] and made.network_profile() == saved.profile
    assert [note.split(":")[1].strip() for note in notes if "mean" in note] == ["mean"]
    assert "note: the backbone was trained on 32 pixels, this run on 48" in notes
    with pytest.raises(CheckpointError, match="the config has"):
        resolve(given(stages=[[1, 16, 1]]), 1000, saved, CPU)


def test_config_yaml_is_what_resolve_gave(squares, inside):
    asked = load_settings(settings(squares / "three", 3, amp_level="auto", stages=None, stem="small"))
    report = check_dataset(asked.train_data, asked.val_data)
    run = start.prepare(start.Job(asked, report, "resolved"))
    made, _ = resolve(asked, 48, None, Machine("cpu", 64))
    assert run.settings == made == RunFolder.read(run.path).settings
    assert (run.path / "config.yaml").read_text(encoding="utf-8") == dump_config(made)


def test_settings_are_frozen_and_a_changed_copy_is_validated():
    one = given()
    with pytest.raises(ValueError, match="frozen"):
        one.lr_max = 1.0
    assert one.replace(lr_max=0.5).lr_max == 0.5 and one.lr_max != 0.5
    for wrong in ({"lr_max": -1.0}, {"learning_rat": 0.1}):
        with pytest.raises(ValueError):
            one.replace(**wrong)
    assert type(mslab.load_config({"train_data": "a", "val_data": "b", "class_num": 3})).__name__ == "EasyDict"
