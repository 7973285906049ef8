"""What a message about settings says: where it was written, which line is wrong, and what to write instead."""

import json
import logging
import re
import sys
import zipfile
from pathlib import Path

import pytest

from mslab import modelarts
from mslab.cli import app
from mslab.config import FIELDS, FOREIGN_NAMES, load_settings, page
from mslab.config.correcting import instead
from mslab.config.naming import meant
from mslab.config.reading import read_yaml
from mslab.errors import ConfigError
from mslab.experiments.sweep.space import read_space
from mslab.runtime import console

GOOD = {"train_data": "a", "val_data": "b", "class_num": 9}
BASE = "train_data: a\nval_data: b\n"


def refusal(source, overrides=(), **options):
    with pytest.raises(ConfigError) as caught:
        load_settings(source, overrides, **options)
    return caught.value


@pytest.fixture
def config(inside):
    """Write a config as x.yaml in the current folder. Returns its name."""

    def write(text: str) -> str:
        Path("x.yaml").write_text(text, encoding="utf-8")
        return "x.yaml"

    return write


# --- where a setting was written -------------------------------------------------------------------------------------


def test_a_problem_names_the_file_and_line_or_the_command_line_and_not_the_other(config):
    file = config(f"# mine\n{BASE}class_num: 9\n\nflip: maybe\n")
    error = refusal(file)
    assert error.what == "x.yaml has 1 problem." and "correct the file" in error.fix
    assert dict(error.details)["flip"].startswith("x.yaml, line 6: 'maybe' must be a valid boolean")
    error = refusal(file, ["flip=true", "epochs=0"])
    assert error.what == "The key=value settings have 1 problem." and "x.yaml" not in str(error)
    error = refusal(file, ["epochs=0"])
    assert error.what == "x.yaml has 2 problems together with the command line."
    assert dict(error.details)["epochs"].startswith("on the command line: 0 must be")
    assert dict(error.details)["flip"].startswith("x.yaml, line 6: ")
    error = refusal(file, ["epoks=3", "flip=true"])
    assert error.what == "The key=value settings have 1 problem."


def test_a_dict_and_a_trial_are_named_as_such():
    assert refusal(GOOD | {"epochs": 0}).what == "The dict of settings has 1 problem."
    assert refusal(GOOD | {"epochs": 0}).fix == "correct it"
    assert refusal(GOOD | {"epochs": 0}, place="this trial").what == "this trial has 1 problem."


def test_settings_keep_their_origin_through_changes(config):
    settings = load_settings(config(f"{BASE}class_num: 9\nstages: [[1, 8, 1]]\n"), ["epochs=3"])
    changed = settings.replace(seed=2)
    for which in (settings, changed):
        assert which.origin("stages") == "x.yaml, line 4" and which.origin("epochs") == "the command line"
        assert which.origin("seed") == which.origin("lr_max") == ""
    assert settings == load_settings(GOOD | {"stages": [[1, 8, 1]], "epochs": 3}), "equal, wherever they were written"
    assert load_settings(settings, ["epochs=4"]).said_by("stages") == "x.yaml, line 4"


def test_a_problem_of_a_platforms_job_names_its_argument(inside, squares, capfd):
    words = ["--train_url=out", f"--data_url={squares / 'two'}", "--epochs=1", "--lr_maks=3", "--batch_size=many"]
    with pytest.raises(SystemExit) as caught:
        modelarts.main(words)
    said = capfd.readouterr().err
    assert caught.value.code == 1 and "ConfigError: The job's arguments have 3 problems." in said
    assert re.search(r"batch_size +--batch_size: 'many' must be", said)
    assert re.search(r"lr_maks +--lr_maks: 'lr_maks' is not a setting; did you mean 'lr_max'\?", said)
    assert "warmup_epochs is 2 by default, which is above epochs: 1" in said and "modelarts.yaml" not in said
    assert "fix" in said and "correct the arguments in the training job" in said


def test_a_problem_of_a_space_names_its_line(config):
    file = config("# mine\nlr_max: {low: 0.001, high: 0.1}\noptimiser: [adam]\nepochs: ['3 epochs']\n")
    with pytest.raises(ConfigError) as caught:
        read_space(file, load_settings(GOOD))
    rows = dict(caught.value.details)
    assert rows["optimiser"] == "line 3: 'optimiser' is not a setting; did you mean 'optimizer'?"
    assert "line 4: '3 epochs' must be a valid integer; write 3 (" in rows["epochs"]


# --- defaults and contradictions -------------------------------------------------------------------------------------


def test_a_default_that_clashes_is_called_a_default_and_the_words_that_are_offered_help(config):
    file = config(f"{BASE}class_num: 9\n")
    error = refusal(file, ["epochs=1"])
    assert error.what == "The key=value settings have 1 problem."
    assert dict(error.details) == {
        "warmup_epochs": "warmup_epochs is 2 by default, which is above epochs: 1; the rate would never reach lr_max"
    }
    assert error.fix.startswith("add warmup_epochs=0.5,")
    assert load_settings(file, ["epochs=1", "warmup_epochs=0.5"]).warmup_epochs == 0.5
    error = refusal(config(f"{BASE}class_num: 9\nepochs: 1\nwarmup_epochs: 3\n"))
    text = dict(error.details)["warmup_epochs"]
    assert text.startswith("warmup_epochs: 3 is above epochs: 1") and "default" not in text
    assert text.endswith("(warmup_epochs: x.yaml, line 5, epochs: x.yaml, line 4)")
    error = refusal(config(f"{BASE}class_num: 9\nepochs: 1\n"), ["warmup_epochs=3"])
    assert "(warmup_epochs: the command line, epochs: x.yaml, line 4)" in dict(error.details)["warmup_epochs"]
    for text in ("", "warmup_epochs: 3\n"):
        error = refusal(config(f"{BASE}class_num: 9\n{text}"), ["warmup_epochs=null", "epochs=1"])
        assert dict(error.details)["warmup_epochs"].startswith(
            "warmup_epochs is 2 by default, which is above epochs: 1"
        )
    error = refusal(GOOD, ["lr_init=0.5"])
    assert "(lr_max is 0.1 by default)" in dict(error.details)["lr_init"]


@pytest.mark.parametrize(
    "change",
    [
        {"epochs": 1},
        {"lr_init": 0.5},
        {"lr_max": 0.001},
        {"lr_end": 0.5},
        {"lr_scheduler": "strategy"},
        {"lr_scheduler": "step", "learning_rate_strategy": "0.1"},
        {"epochs": 4, "learning_rate_strategy": "2:0.1,5:0.01"},
        {"lr_scheduler": "constant", "lr_scheduler_step": "3"},
        {"lr_scheduler_step": "6,3"},
        {"lr_scheduler_step": "3,40"},
        {"lr_scheduler_step": "40"},
        {"early_stopping": True, "do_eval_along_train": False},
        {"valid_crop_size": 80},
        {"valid_resize_size": 32},
        {"weighted_loss": 1, "label_balance": True},
        {"freeze": "all", "layers_to_freeze": 1},
        {"freeze_layer_pattern": "^conv1", "layers_to_freeze": 1},
        {"stem": "small", "profile": {"stem": "imagenet"}},
    ],
    ids=json.dumps,
)
def test_the_words_that_are_offered_end_a_contradiction(change):
    error = refusal(GOOD | change)
    words = [word for word in error.fix.partition(" helps")[0].split() if "=" in word]
    load_settings(GOOD | change, words)


# --- lines that are no YAML ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "number", "reason", "written"),
    [
        ("class_num:9", 3, "':' needs a space after it", "class_num: 9"),
        ("class_num = 9", 3, "': ' between a name and its value, not =", "class_num: 9"),
        ("class_num=9", 3, "not =", "class_num: 9"),
        ("class_num -> 9", 3, "not ->", "class_num: 9"),
        ("class_num 9", 3, "lacks the colon", "class_num: 9"),
        ("class_num：9", 3, "wide colon", "class_num: 9"),
        ("class_num\u00a0: 9", 3, "looks like a space", "class_num: 9"),
        ("class_num: 9\u200b", 3, "looks like a space", "class_num: 9"),
        ("class_num: “9”", 3, "no quotation mark", "class_num: 9"),
        ("class_num:\t9", 3, "is a tab", "class_num: 9"),
        ("\tclass_num: 9", 3, "begins with a tab", "class_num: 9"),
        ("  class_num: 9", 3, "it is indented", "class_num: 9"),
        ("class_num: 9\x0c", 3, "control character", "class_num: 9"),
        ("class_num: 9\nmean: [0.1，0.2，0.3]", 4, "wide comma", "mean: [0.1,0.2,0.3]"),
        ("class_num: 9\nmean: [0.1, 0.2, 0.3\nflip: true", 4, "a bracket is open", "mean: [0.1, 0.2, 0.3]"),
        ("class_num: 9\nfreeze_layer_pattern: @x", 4, "begins with @", "freeze_layer_pattern: '@x'"),
        ("class_num: 9\nlearning_rate_strategy: a: b", 4, "needs quotation marks", "learning_rate_strategy: 'a: b'"),
        ('class_num: 9\ndevice: "cpu\nflip: true', 4, '" has no second one', "device: cpu"),
        ("--class_num 9", 3, "does not belong in front of a name", "class_num: 9"),
        ("// mine\nclass_num: 9", 3, "a comment begins with #", "# mine"),
        ("$ mslab train x.yaml\nclass_num: 9", 3, "$ mslab train x.yaml is a command; leave this line out", ""),
        ("class_num: 9\nstages: !!python/tuple [1]", 4, "begins with ! is a type", "stages: [1]"),
        ("---\nclass_num: 9", 3, "separates documents; a config is one; leave this line out", ""),
        ("[train]\nclass_num: 9", 3, "is a heading of TOML or INI; a config is flat; leave this line out", ""),
        ("```\nclass_num: 9", 3, "is a fence of Markdown", ""),
        ("=======\nclass_num: 9", 3, "is a mark of git", ""),
        ('class_num: 9\nmax_device_memory: "C:\\data"', 4, "write / instead of \\", "max_device_memory: 'C:\\data'"),
    ],
)
def test_a_line_that_is_no_yaml_is_quoted_with_its_number_and_how_to_write_it(config, text, number, reason, written):
    error = refusal(config(f"{BASE}{text}\n"))
    rows = dict(error.details)
    assert list(rows) == [f"line {number}"] and reason in rows[f"line {number}"], str(error)
    line = f"{BASE}{text}\n".split("\n")[number - 1].strip()
    assert line in rows[f"line {number}"]
    if not written:
        return
    assert rows[f"line {number}"].endswith(written)
    assert isinstance(read_yaml(Path(config(written + "\n" if not written.startswith("#") else "a: b"))), dict)


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("train_data = a\nval_data = b\nclass_num = 9\n", "train_data: a/val_data: b/class_num: 9"),
        ('[data]\ntrain_data = "a"\nval_data = "b"\nclass_num = 9  # nine\n', "train_data: a/val_data: b/class_num: 9"),
        ("- train_data: a\n- val_data: b\n- class_num: 9\n", "train_data: a/val_data: b/class_num: 9"),
        (
            "config = {\n 'train_data': 'a', 'val_data': 'b',\n 'class_num': 9, 'flip': True}\n",
            "val_data: b/flip: true",
        ),
        ("dict(train_data='a', val_data=None, class_num=9)\n", "train_data: a/val_data: null/class_num: 9,"),
        ("train_data=ds/train val_data=ds/val class_num=2\n", "train_data: ds/train, val_data: ds/val, class_num: 2,"),
        ("lr_max=0.1 \\\nepochs: 3; seed: 2 flip:true\n", "write lr_max: 0.1\n/epochs: 3, seed: 2, flip: true, each"),
        (
            "STAGES = [  # rows\n    (1, 8, 1),  # a\n    (1, 8, 2),\n]\n",
            "up to line 4, write stages: [[1, 8, 1], [1, 8, 2]]",
        ),
        ("EasyDict(dict(train_data='a',\n class_num=9))\n", "class_num: 9"),
    ],
)
def test_settings_of_other_formats_are_shown_as_lines_of_a_config(config, text, lines):
    message = str(refusal(config(text)))
    assert all(line in message for line in lines.split("/")), message
    assert "not valid YAML" in message


def test_a_comma_or_a_quotation_mark_that_json_lacks_is_found_in_its_own_line(config):
    lines = ['"train_data": "a",', '"val_data": "b",', '"class_num": 9,', '"epochs": 3']
    for indent in ("", "  "):
        for number in (2, 3, 4):
            short = [line.rstrip(",") if n == number else line for n, line in enumerate(lines, 2)]
            rows = dict(refusal(config("{\n" + "".join(f"{indent}{line}\n" for line in short) + "}\n")).details)
            assert list(rows) == [f"line {number}"] and rows[f"line {number}"].endswith(f"write {lines[number - 2]}")
    rows = dict(refusal(config('{\n"train_data": "a",\n"val_data": "b,\n"class_num": 9\n}\n')).details)
    assert list(rows) == ["line 3"] and '" has no second one' in rows["line 3"]
    assert load_settings(config('{"train_data": "a", "val_data": "b",\n "class_num": 9,}')).class_num == 9


def test_all_lines_that_are_wrong_are_listed_at_once(config):
    text = f"{BASE}class_num:9\nlr_max=0.1  # (epochs=3, seed=2)\nflip:\ttrue\nepochs 3\nignore:\n  - x\n"
    error = refusal(config(text))
    assert list(dict(error.details)) == ["line 3", "line 4", "line 5", "line 6"]
    assert "not valid YAML" in error.what and "word processor" not in str(error), "a colon without a space is no such"


def test_a_setting_that_is_there_twice_is_shown_with_both_lines(config):
    error = refusal(config(f"{BASE}class_num: 9\nepochs: 3\nclass_num: 10\n"))
    assert error.what == "x.yaml, line 5: 'class_num' is set twice."
    assert error.details == [("line 3", "class_num: 9"), ("line 5", "class_num: 10")]


def test_settings_under_headings_are_one_problem_a_heading(config):
    rows = dict(refusal(config("data:\n  train_data: a\n  val_data: b\nmodel:\n  class_num: 9\n")).details)
    assert rows.keys() == {"data", "model"}
    assert rows["data"].endswith("leave this line out, and begin train_data, val_data at the start of their lines")


def test_a_windows_path_in_double_quotes_is_refused_and_not_read_with_a_line_break(config):
    text = dict(refusal(config('train_data: "C:\\new\\train"\nval_data: b\nclass_num: 9\n')).details)["line 1"]
    assert text.endswith("write train_data: 'C:\\new\\train'")
    assert load_settings(config("train_data: 'C:\\new\\train'\nval_data: b\nclass_num: 9\n")).train_data[2:5] == "\\ne"
    assert load_settings(config('train_data: "C:\\\\new"\nval_data: b\nclass_num: 9\n')).train_data == "C:\\new"


def test_a_file_that_is_no_text_is_named_as_what_it_is(inside):
    with zipfile.ZipFile("word.yaml", "w") as archive:
        archive.writestr("[Content_Types].xml", "x")
    contents = {
        "rich.yaml": (b"{\\rtf1\\ansi\ntrain_data: a}", "rich text"),
        "page.yaml": (b"\n<!DOCTYPE html>\n<html>", "a web page"),
        "notebook.yaml": (b'{\n "cells": [', "a Jupyter notebook"),
        "paper.yaml": (b"%PDF-1.7\n", "a PDF"),
    }
    for name, (content, _) in contents.items():
        Path(name).write_bytes(content)
    for name, kind in [("word.yaml", "a document of Word"), *((name, kind) for name, (_, kind) in contents.items())]:
        error = refusal(name)
        assert error.what.startswith(f"{name} is ") and kind in error.what and "text of settings" in error.what


# --- values ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "given", "offered"),
    [
        ("epochs", '"9"', "9"),
        ("epochs", "3 epochs", "3"),
        ("epochs", "9#nine", "9"),
        ("epochs", "9,", "9"),
        ("epochs", "=3", "3"),
        ("epochs", "3.0", "3"),
        ("epochs", "1,000", "1000"),
        ("epochs", "3 // few", "3"),
        ("epochs", "[3]", "3"),
        ("image_size", "64x64", "64"),
        ("image_size", "[64, 64]", "64"),
        ("image_size", "64px", "64"),
        ("lr_max", "0,1", "0.1"),
        ("lr_max", "10^-2", "0.01"),
        ("lr_max", "1/4", "0.25"),
        ("lr_max", "1e−2", "0.01"),
        ("lr_max", "5 * 10**-3", "0.005"),
        ("dropout", "50%", "0.5"),
        ("flip", "yes", "true"),
        ("flip", "OFF", "false"),
        ("flip", "1", "true"),
        ("flip", "是", "true"),
        ("freeze", "None", "none"),
        ("freeze", "false", "none"),
        ("lr_scheduler", "None", "null"),
        ("lr_floor", "none", "null"),
        ("optimizer", "Adam", "adam"),
        ("amp_level", "o2", "O2"),
        ("max_device_memory", "28", "28GB"),
        ("max_device_memory", "28 GB", "28GB"),
        ("max_training_time", "30 min", "0.5"),
        ("train_data", "2024", "'2024'"),
        ("train_data", "2024-01-01", "'2024-01-01'"),
        ("mean", "(0.1, 0.2, 0.3)", "[0.1, 0.2, 0.3]"),
        ("mean", "0.1, 0.2, 0.3", "[0.1, 0.2, 0.3]"),
        ("mean", "0.5", "[0.5, 0.5, 0.5]"),
        ("mean", "0.5 0.5 0.5", "[0.5, 0.5, 0.5]"),
        ("mean", "[0.5 0.5 0.5]", "[0.5, 0.5, 0.5]"),
        ("mean", "[127.5,127.5,127.5]", "[0.5, 0.5, 0.5]"),
        ("std", "[58.395, 57.12, 57.375]", "[0.229, 0.224, 0.225]"),
        ("std", "127.5", "[0.5, 0.5, 0.5]"),
        ("stages", "[(1, 8, 1), (1, 8, 2)]", "[[1, 8, 1], [1, 8, 2]]"),
        ("stages", "((1, 8, 1), (1, 8, 2))", "[[1, 8, 1], [1, 8, 2]]"),
        ("stages", "[[1 8 1], [1 8 2]]", "[[1, 8, 1], [1, 8, 2]]"),
        ("stages", "'[[1, 8, 1]]'", "[[1, 8, 1]]"),
        ("stages", "None", "null"),
        ("stages", "[1 8 1, 1 8 2]", "[[1, 8, 1], [1, 8, 2]]"),
        ("lr_scheduler", "cosine", "warmup_cosine"),
        ("device", "cuda:0", "gpu"),
        ("device", "npu", "ascend"),
        ("freeze", "no", "none"),
        ("freeze", "true", "all"),
        ("ignore", ".snapshot", "[.snapshot]"),
    ],
)
def test_a_value_is_answered_with_one_that_the_setting_takes(config, name, given, offered):
    lines = "".join(f"{key}: {value}\n" for key, value in GOOD.items() if key != name)
    text = dict(refusal(config(f"{lines}{name}: {given}\n")).details)[name]
    assert text.startswith("x.yaml, line ") and f"; write {offered}" in text
    load_settings(config(f"{lines}{name}: {offered}\nwarmup_epochs: 0\n"))


def test_values_that_mean_nothing_certain_are_offered_nothing():
    for name, given in [
        ("epochs", True),
        ("epochs", "many"),
        ("epochs", -3),
        ("optimizer", 5),
        ("lr_max", "fast"),
        ("mean", [-1, 0, 0]),
        ("std", [0, 1, 1]),
        ("stages", [[1, 8], [2, 16, 1, 1]]),
        ("stages", ["(1", 8, "-1)"]),
        ("lr_floor", "2020-01-01"),
    ]:
        assert instead(name, given) == ""


def test_numbers_in_yaml_are_read_as_everybody_means_them(config):
    text = f"{BASE}class_num: 9 # nine\r\nlr_max: .5\r\nlr_init: 1e-04\r\nweight_decay: 1e-4\r\nepochs: 1_000\r\n"
    settings = load_settings(config(text))
    assert (settings.lr_max, settings.lr_init, settings.weight_decay, settings.epochs) == (0.5, 1e-4, 1e-4, 1000)


def test_no_regular_expression_is_shown():
    for name, value in [("unfreeze", {3: "layr4"}), ("unfreeze", {1: "layer4"}), ("max_device_memory", "lots")]:
        text = dict(refusal(GOOD | {name: value}).details)[name]
        assert " is not written as it has to be (" in text and "pattern" not in text and "^" not in text


def test_a_name_without_a_value_is_told_so(config):
    text = dict(refusal(config(f"{BASE}class_num:\n")).details)["class_num"]
    assert text.startswith("x.yaml, line 3: has no value; write for example class_num: 9 (")


# --- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("Epochs", "epochs"),
        ("STAGES", "stages"),
        ("batch-size", "batch_size"),
        ("batchsize", "batch_size"),
        ("batchSize", "batch_size"),
        ("num_epochs", "epochs"),
        ("n_classes", "class_num"),
        ("number_of_classes", "class_num"),
        ("classNum", "class_num"),
        ("lr", "lr_max"),
        ("per_device_train_batch_size", "batch_size"),
        ("smoothing", "label_smoothing"),
        ("lr0", "lr_max"),
        ("val_crop_size", "valid_crop_size"),
        ("num_parallel_workers", "data_workers"),
        ("n_epoch", "epochs"),
        ("ｅｐｏｃｈｓ", "epochs"),
    ],
)
def test_a_name_means_one_setting_wherever_it_is_written(name, ours, config):
    assert meant(name) == ours
    for error in (refusal(GOOD, [f"{name}=3"]), refusal(GOOD | {name: 3}), refusal(config(f"{BASE}{name}: 3\n"))):
        assert f"'{ours}'" in dict(error.details)[name]
    assert ours in page.entries([name])


def test_a_misspelt_name_is_one_problem_and_not_also_a_missing_setting():
    assert dict(refusal({"Train_Data": "a", "val_data": "b", "num_classes": 3}).details).keys() == {
        "Train_Data",
        "num_classes",
    }


def test_keys_of_small_tables_are_found_when_misspelt():
    rows = dict(refusal(GOOD | {"profile": {"epss": 0.1}, "lr_scale": {"bakbone": 0.1}}).details)
    assert rows["profile"].startswith("'epss' is not one of block, padding, pool, stem, eps, outer_eps; did you mean")
    assert (
        "'bakbone' is not one of backbone, stem" in rows["lr_scale"] and "did you mean 'backbone'" in rows["lr_scale"]
    )


def test_no_foreign_name_hides_a_setting():
    for name, (project, ours) in FOREIGN_NAMES.items():
        assert name not in FIELDS and project and (ours in FIELDS or " " in ours), name


# --- the command line ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        ("train x.yaml epochs 3", "type epochs=3"),
        ("train x.yaml epochs: 3 lr 0.1", "type epochs=3, without spaces around =; lr 0.1: type lr_max=0.1"),
        ("train x.yaml epochs:3", "type epochs=3"),
        ("train x.yaml epochs= 3", "type epochs=3"),
        ("train x.yaml train_data=", "has no value; train_data=FOLDER sets it"),
        ("train x.yaml --out X", "No such option: --out. Type --name NAME"),
        ("predict runs/x a.png --out X", "Type --csv FILE or --json FILE"),
        ("sweep x.yaml --space y -o X", "Type --json FILE"),
        ("report runs/x --output X", "Type --out FILE.html"),
        ("train x.yaml --backbone F", "Type mslab transfer CONFIG --backbone FILE"),
        ("train x.yaml --pretrained F", "Type mslab transfer CONFIG --backbone FILE"),
        ("transfer x.yaml --pretrained F", "here it is --backbone FILE"),
        ("train x.yaml --no-flip", "type flip=false"),
        ("train x.yaml --flip", "type flip=true"),
        ("sweep x.yaml y.yaml", "Type --space y.yaml: "),
        ("train x.yaml epochs=", "epochs=null takes the setting away, epochs=3 sets it"),
        ("train x.yaml lr=", "lr_max=0.1 sets it"),
        ("train x.yaml STAGES=", "stages=null takes the setting away"),
        ("train --resume runs/x epochs 3", "type epochs=3"),
        ("sweep x.yaml --space y epochs 3", "type epochs=3"),
        ("show x.yaml batch-size 3", "type batch_size=3"),
        ("train x.yaml -e 3", "type epochs=3"),
        ("train x.yaml -b 16", "type batch_size=16"),
        ("train x.yaml --batch-size 16", "type batch_size=16"),
        ("train x.yaml --lr 0.1", "type lr_max=0.1"),
        ("train x.yaml --data DIR", "type train_data=DIR/train val_data=DIR/val"),
        ("help train", "Type mslab train --help"),
        ("help", "Type mslab --help"),
        ("-h", "Type mslab --help"),
        ("-V", "Type mslab --version"),
        ("version", "Type mslab --version"),
        ("x.yaml", "Type the command first: mslab train x.yaml"),
        ("resume", "Type mslab train --resume RUN"),
        ("Train x.yaml", "Did you mean 'train'"),
        ("--epochs 3 train x.yaml", "Options follow the command"),
        ("nothing", "mslab --help lists the commands"),
    ],
)
def test_a_command_line_that_does_not_parse_says_what_to_type_and_exits_with_2(words, answer, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "250")
    with pytest.raises(SystemExit) as caught:
        app(words.split(), prog_name="mslab")
    said = " ".join(capsys.readouterr().err.split())
    assert caught.value.code == 2 and answer in said and "Possible options" not in said, said


def test_several_settings_in_one_word_are_taken_apart():
    for text in ("epochs=3,batch_size=8", "epochs=3 batch_size=8"):
        assert "type epochs=3 batch_size=8, " in dict(refusal(GOOD, [text]).details)[text]
    assert load_settings(GOOD, ["profile={stem: small, block: basic}"]).profile.block == "basic"


def test_what_is_said_after_a_command_is_no_setting(config):
    rows = dict(refusal(config(f"{BASE}class_num: 9\nbackbone: x.ckpt\nresume: runs/x\nname: mine\n")).details)
    assert rows["backbone"].endswith("not a setting: mslab transfer CONFIG --backbone FILE")
    assert rows["resume"].endswith("mslab train --resume RUN") and rows["name"].endswith("CONFIG --name NAME")


def test_the_page_of_settings_is_printed_by_a_command(capsys):
    with pytest.raises(SystemExit) as caught:
        app(["settings", "epochs", "bs"])
    said = capsys.readouterr().out
    assert caught.value.code == 0 and "passes over train_data" in said and "'bs' is fastai's name" in said
    with pytest.raises(ConfigError, match="did you mean 'epochs'"):
        page.entries(["epoks"])
    with pytest.raises(ConfigError, match=r"'adam' is a value of optimizer\.\n.*\n.*mslab settings optimizer"):
        page.entries(["optimizer", "adam"])
    with pytest.raises(ConfigError, match=r"'base\.yaml' is a file"):
        page.entries(["base.yaml"])
    error = refusal(GOOD | {"epochs": 0, "learning_rat": 1})
    words = re.search(r"mslab (settings lr_max epochs) prints them", error.expected)
    with pytest.raises(SystemExit) as caught:
        app(words[1].split())
    assert caught.value.code == 0 and "> 0, ≤ 100" in capsys.readouterr().out
    assert not re.search(r"\.py|mslab\.config\.page|docs/", str(error)), "a wheel has no docs/"


# --- notes -----------------------------------------------------------------------------------------------------------


def test_a_setting_that_does_nothing_is_noted_with_its_line_and_once(config, caplog):
    caplog.set_level(logging.INFO, "mslab")
    settings = load_settings(config(f"{BASE}class_num: 9\noptimizer: adam\nmomentum: 0.8\n"))
    load_settings(settings)
    load_settings(settings, ["epochs=3"])
    load_settings("x.yaml", notes=False)
    assert caplog.text.count("note: momentum in x.yaml, line 5 does nothing here") == caplog.text.count("note:") == 1
    assert load_settings("x.yaml", ["momentum=null"], notes=False).momentum == 0.9, "null takes it away"
    text = dict(refusal("x.yaml", ["momentum=0.7"]).details)["momentum"]
    assert text.startswith("does nothing here: ") and text.endswith("(optimizer: x.yaml, line 4); leave it out")


def test_what_every_run_of_one_command_notes_is_shown_once(capsys):
    before = console.terminal.setStream(sys.stderr)
    try:
        for _ in range(2):
            with console.each_note_once():
                for _run in range(2):
                    logging.getLogger("mslab").info("data_workers becomes 2", extra=console.ONCE)
                    logging.getLogger("mslab").info("epoch")
    finally:
        console.terminal.setStream(before)
    assert capsys.readouterr().err.splitlines() == ["data_workers becomes 2", "epoch", "epoch"] * 2
