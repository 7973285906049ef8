"""Settings that end, pause or change a run: contradictions, settings without effect, other projects' names."""

import pytest
from helpers import overrides

import mslab
from mslab.errors import ConfigError


def test_mixed_precision_follows_the_device(three):
    from mslab.config import resolve
    from mslab.runtime import devices

    assert resolve.precision("auto", "cpu") == "O0" and resolve.precision("auto", "ascend") == "O2"
    assert ("set_context", {"mode": 0}) in devices.setup_calls("cpu", "graph", 1, amp_level="auto")
    with pytest.raises(mslab.errors.DeviceError, match="O2 on a CPU: it has no float16"):
        devices.setup_calls("cpu", "graph", 1, amp_level="O2")


@pytest.mark.parametrize(
    "change,text",
    [
        ({"learning_rate_strategy": "2:0.1->x"}, "column 8"),
        ({"learning_rate_strategy": "2:0.1,5:0.01", "epochs": 4}, "ends with epoch 5, but the run has epochs: 4"),
        ({"learning_rate_strategy": "0.1", "lr_scheduler": "step"}, "are two schedules; set only one"),
        ({"lr_scheduler": "strategy"}, "needs learning_rate_strategy"),
        ({"lr_scheduler_step": "1", "lr_scheduler": "constant"}, "needs lr_scheduler: step, not constant"),
        ({"lr_scheduler_step": "2,1", "epochs": 4}, "must list epochs in increasing order"),
        ({"lr_scheduler_step": "9"}, "nothing is trained after epochs: 2"),
        ({"do_eval_along_train": False, "early_stopping": True}, "gives early_stopping no evaluations to act on"),
        ({"do_eval_along_train": False, "learning_rate_strategy": 0.01}, "gives lr_scheduler: plateau no evaluations"),
        ({"valid_crop_size": 64}, "valid_crop_size: 64 is above valid_resize_size: 32; the border would be black"),
        ({"weighted_loss": 1, "label_balance": True}, "both give rare classes more weight; set only one"),
        ({"stem": "small", "profile": {"stem": "imagenet"}}, "describe different networks"),
    ],
)
def test_contradictions_are_named(three, change, text):
    with pytest.raises(ConfigError) as caught:
        mslab.load_config(three | change)
    assert text in str(caught.value)


@pytest.mark.parametrize(
    "option,more",
    [
        ("momentum=0.5", {"optimizer": "adam"}),
        ("nesterov=true", {"optimizer": "sgd"}),
        ("beta1=0.5", {}),
        ("amsgrad=true", {"optimizer": "radam"}),
        ("early_stopping_patience=3", {}),
        ("plateau_patience=2", {}),
        ("step_lr_gamma=0.1", {"lr_scheduler_step": "1"}),
        ("lr_scheduler_factor=0.3", {}),
        ("lr_max=0.3", {"learning_rate_strategy": "0.01"}),
        ("lr_end=0.001", {"lr_scheduler": "constant"}),
        ("cosine_cycles=1.5", {"lr_scheduler": "step"}),
        ("std=[0.5,0.5,0.5]", {"transform_normalize": False}),
        ("evaluation_frequency=2", {"do_eval_along_train": False}),
        ("image_size=32", {"train_crop_size": 32, "valid_resize_size": 32, "valid_crop_size": 32}),
    ],
)
def test_what_does_nothing_is_refused_on_the_command_line(three, option, more):
    with pytest.raises(ConfigError, match="does nothing here: with"):
        mslab.load_config(three | more, [option])


def test_a_resolved_config_reads_back_without_a_message(three, tmp_path, capfd):
    from mslab.config import dump_config, load_settings

    for more in (
        {"learning_rate_strategy": 0.01},
        {"lr_scheduler_step": "1"},
        {"learning_rate_strategy": "7:0.1=>0.01"},
    ):
        config = load_settings({k: v for k, v in three.items() if k not in ("epochs", "lr_init", "lr_max")} | more)
        (tmp_path / "config.yaml").write_text(dump_config(config))
        capfd.readouterr()
        assert load_settings(tmp_path / "config.yaml") == config and capfd.readouterr().err == ""
    assert config.epochs == 7  # set by the strategy


def test_overrides_with_other_projects_names_are_recognised(three):
    with pytest.raises(ConfigError) as caught:
        mslab.load_config(three, [*overrides({"use_mixup": True, "eval_freq": 2, "warmup_cosine_lr_cycles": 0.45})])
    text = str(caught.value)
    assert "'use_mixup' is ModelArts's name" in text or "'use_mixup' is ModelArts" in text
    assert "here it is 'evaluation_frequency'" in text and "here it is 'cosine_cycles'" in text
