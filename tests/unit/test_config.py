"""Settings: every problem is reported at once, names are suggested and never applied, YAML is 1.2."""

import logging
import shlex

import numpy as np
import pytest
from easydict import EasyDict as ed
from helpers import PROJECT
from pydantic import ValidationError

import mslab
from mslab.config import FIELDS, FOREIGN_NAMES, SHARED_NAMES, dump_config, load_settings
from mslab.config.page import page as render_page
from mslab.errors import ConfigError
from mslab.experiments.sweep.space import read_space

GOOD = {"train_data": "a", "val_data": "b", "class_num": 9}


def problems(config, overrides=()):
    with pytest.raises(ConfigError) as caught:
        load_settings(config, overrides)
    return dict(caught.value.details), str(caught.value)


def test_a_dict_an_easydict_and_a_file_give_the_same(tmp_path):
    (tmp_path / "x.yaml").write_text("train_data: a\nval_data: b\nclass_num: 9\n")
    expected = load_settings(GOOD)
    assert (
        load_settings(ed(GOOD))
        == expected
        == load_settings(tmp_path / "x.yaml")
        == load_settings(str(tmp_path / "x.yaml"))
    )
    assert expected.batch_size == 32 and vars(expected).keys() == FIELDS.keys()
    loaded = mslab.load_config(GOOD)
    assert isinstance(loaded, ed) and loaded == expected.model_dump() and load_settings(loaded) == expected
    with pytest.raises(ValidationError, match="frozen"):
        expected.batch_size = 8


def test_yaml_1_2_numbers_and_text(tmp_path):
    (tmp_path / "x.yaml").write_text("train_data: no\nval_data: b\nclass_num: 9\nweight_decay: 1e-4\n")
    config = load_settings(tmp_path / "x.yaml")
    assert config.weight_decay == 1e-4 and config.train_data == "no"


def test_every_problem_at_once():
    rows, text = problems(
        GOOD | {"class_num": "9", "learning_rat": 1, "lr_max": -1, "epochs": 2, "warmup_epochs": 5}, ["x"]
    )
    assert set(rows) == {"x", "learning_rat", "class_num", "lr_max", "warmup_epochs"}
    assert "5 problems" in text and "expected" in text and "fix" in text
    assert "'9' must be a valid integer" in rows["class_num"]
    assert "warmup_epochs: 5 is above epochs: 2" in rows["warmup_epochs"]


def test_a_close_name_is_suggested_and_not_applied():
    rows, _ = problems(GOOD | {"learning_rat": 0.5})
    assert rows["learning_rat"] == "'learning_rat' is not a setting; did you mean 'lr_max'?"
    rows, _ = problems(GOOD | {"batchsize": 8})
    assert rows["batchsize"] == "'batchsize' is not a setting; did you mean 'batch_size'?"
    rows, _ = problems(GOOD | {"zzz": 1})
    assert rows["zzz"] == "'zzz' is not a setting"


def test_other_projects_names_are_recognised():
    rows, _ = problems(GOOD | {"mini_batch_size": 8})
    assert rows["mini_batch_size"] == "'mini_batch_size' is SageMaker's name; here it is 'batch_size'"
    for _, ours in FOREIGN_NAMES.values():
        assert ours in FIELDS or " " in ours


def test_missing_settings_are_described():
    rows, _ = problems({})
    assert set(rows) == {"train_data", "val_data", "class_num"} and "number of classes" in rows["class_num"]


def test_overrides_set_and_remove():
    config = load_settings(GOOD | {"epochs": 5}, ["epochs=null", "lr_max=5e-2", "stages=[[1,8,1]]", "train_data=x=y"])
    assert config.epochs == FIELDS["epochs"].default and config.lr_max == 0.05
    assert config.stages == [[1, 8, 1]] and config.train_data == "x=y"
    rows, _ = problems(GOOD, ["class_num=null"])
    assert "is missing" in rows["class_num"]
    assert load_settings(GOOD, "epochs=7").epochs == 7  # one text is a list of one
    assert list(problems(GOOD, "seven epochs")[0]) == ["seven epochs"]


def test_an_override_that_is_not_key_value_is_reported():
    rows, _ = problems(GOOD, ["epochs", "learning_rate=1", "nothing=null"])
    assert "is not key=value" in rows["epochs"] and "lr_max" in rows["learning_rate"] and "nothing" in rows


@pytest.mark.parametrize(
    ("words", "text", "answer"),
    [
        (["epochs="], "epochs=", "has no value; epochs=null takes the setting away"),
        (["epochs= "], "epochs= ", "has no value"),
        (["epochs", "=", "3"], "epochs = 3", "type epochs=3, without spaces"),
        (["epochs=", "3"], "epochs= 3", "type epochs=3, without spaces"),
        (["epochs", "=3", "lr_max=0.1"], "epochs =3", "type epochs=3, without spaces"),
        (["epochs:3"], "epochs:3", "type epochs=3"),
        (["epochs＝3"], "epochs＝3", "type epochs=3"),
        (["—epochs", "3"], "—epochs 3", "type epochs=3"),
        (["epochs", "lr_max=0.1"], "epochs", "is not key=value; write for example epochs=VALUE"),
        (["=3"], "=3", "write for example lr_max=VALUE"),
        (["two.yaml"], "two.yaml", "one config is read"),
        (["EPOCHS=3"], "EPOCHS", "did you mean 'epochs'"),
        (["—epochs=3"], "—epochs", "did you mean 'epochs'"),
        (["LR=3"], "LR", "here it is 'lr_max'"),
        (["bs=3"], "bs", "here it is 'batch_size'"),
        (["optimizer=Adam"], "optimizer", "; write adam ("),
        (["epochs=２"], "epochs", "(\\uff12) are wide digits; write 2"),
        (["epochs='2'"], "epochs", "; write 2, without quotes"),
        (["flip=Yes"], "flip", "; write true ("),
    ],
)
def test_a_wrong_key_value_is_answered_with_what_to_type_and_not_blamed_on_the_file(words, text, answer):
    rows, message = problems(GOOD, words)
    assert list(rows) == [text] and answer in rows[text]
    assert message.startswith("The key=value settings have 1 problem.\n")


def test_a_setting_that_does_nothing_is_logged_and_refused_on_the_command_line(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("mslab"), "propagate", True)
    with caplog.at_level(logging.INFO, "mslab"):
        load_settings(load_settings(GOOD | {"warmup_epochs": 0}))  # every default, none of them chosen by a user
        assert caplog.text == ""
        load_settings(GOOD | {"lr_init": 0.02, "warmup_epochs": 0})
    assert "lr_init" in caplog.text and "does nothing here" in caplog.text
    rows, _ = problems(GOOD | {"warmup_epochs": 0}, ["lr_init=0.01"])
    assert "does nothing here" in rows["lr_init"]


@pytest.mark.parametrize(
    "change,name,text",
    [
        ({"val_data": "a"}, "train_data", "are both a"),
        ({"lr_init": 0.5}, "lr_init", "is above lr_max"),
        ({"lr_end": 0.5}, "lr_end", "is above lr_max"),
        ({"std": [0.2, 0.0, 0.2]}, "std", "must be greater than 0"),
        ({"stages": [[1, 2]]}, "stages", "row 1: [1, 2] has 2 numbers"),
        ({"lr_max": float("nan")}, "lr_max", "finite"),
        ({"freeze": "half"}, "freeze", "must be 'none' or 'all'"),
        ({"flip": 1}, "flip", "boolean"),
    ],
)
def test_contradictions_and_ranges(change, name, text):
    rows, _ = problems(GOOD | change)
    assert set(rows) == {name} and text in rows[name]


@pytest.mark.parametrize(("train", "val"), [("train", "val"), ("a b/Training", "a b/valid")])
def test_one_folder_of_splits_as_both_data_sets_names_the_splits(tmp_path, train, val):
    change = {"train_data": str(tmp_path), "val_data": str(tmp_path)}
    (tmp_path / train).mkdir(parents=True), (tmp_path / val).mkdir()
    rows, error = problems(GOOD | change)
    assert f"the folder above the splits; name them: {tmp_path / train} and {tmp_path / val}" in rows["train_data"]
    assert "proves nothing" not in rows["train_data"]
    words = shlex.split(str(error).partition("fix ")[2].partition(" helps")[0])
    assert load_settings(GOOD | change, words).val_data == str(tmp_path / val)


def test_numpy_numbers_from_a_notebook_are_numbers():
    assert load_settings(GOOD | {"epochs": np.int64(3), "warmup_epochs": 1, "lr_max": np.float32(0.5)}).epochs == 3


def test_the_dump_contains_every_setting_and_reads_back(tmp_path):
    config = load_settings(GOOD | {"lr_max": 1e-5, "lr_init": 1e-6, "stages": [[1, 8, 1], [2, 16, 2]]})
    (tmp_path / "config.yaml").write_text(dump_config(config))
    assert load_settings(tmp_path / "config.yaml") == config
    dumped = dump_config(config)
    assert all(field.description in dumped for field in FIELDS.values())


@pytest.mark.parametrize(
    "text,message",
    [
        ("", "contains no settings"),
        ("- 1\n", "contains no settings"),
        ("a: [1\n", "line 2: it is not valid YAML"),
        ("a: 1\na: 2\n", "line 2"),
        ("a:\t2\n", "is a tab; type a space"),
        ('train_data: "D:\\data"\n', "write / instead of .*, or single quotes"),
    ],
)
def test_a_file_that_is_not_a_config(tmp_path, text, message):
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_settings(tmp_path / "x.yaml")


def test_what_is_no_config_file_is_named_as_what_it_is(tmp_path):
    (tmp_path / "nine.yaml").write_text("train_data: a\n")
    with pytest.raises(ConfigError, match=rf"{tmp_path} is a folder, and not a config file.*\n.*\n.*nine.yaml"):
        load_settings(tmp_path)
    with pytest.raises(ConfigError, match=r"no config file epochs=3.*\n.*\n.*type the config first"):
        load_settings("epochs=3")
    (tmp_path / "space.yaml").touch()
    with pytest.raises(ConfigError, match=r"expected  lines like 'lr_max: \{low:"):
        read_space(tmp_path / "space.yaml", load_settings(GOOD))


def test_the_message_about_a_missing_file_lists_its_neighbours(tmp_path):
    (tmp_path / "there.yaml").write_text("")
    with pytest.raises(ConfigError, match=r"no config file .*nine.yaml") as caught:
        load_settings(tmp_path / "nine.yaml")
    assert "there.yaml" in str(caught.value)


@pytest.mark.parametrize("path", sorted((PROJECT / "configs").glob("*.yaml")), ids=lambda path: path.name)
def test_every_shipped_config_parses_and_starts_with_its_command(path):
    if path.name == "space.yaml":
        assert read_space(path, load_settings(path.with_name("knobs.yaml")))
    elif path.name != "rubric.yaml":  # tests/training/test_config.py, since it needs MindSpore
        load_settings(path)
    first, second = path.read_text().splitlines()[:2]
    assert first.startswith("# ./run.sh ") and path.name in first and second.startswith("# ")


def test_the_page_of_settings_matches_the_schema():
    page = (PROJECT / "docs" / "settings.md").read_text(encoding="utf-8")
    assert page == render_page(), "python -m mslab.config.page > docs/settings.md"
    for name in FIELDS:
        assert page.count(f"\n| `{name}` | ") == 1 + sum(foreign == name for foreign in FOREIGN_NAMES), name


def test_shared_names_are_settings_and_foreign_names_are_not():
    for project, names in SHARED_NAMES.items():
        assert set(names.split()) <= set(FIELDS), project
    assert not set(FOREIGN_NAMES) & set(FIELDS)


def test_a_null_character_which_no_file_name_has_is_a_problem():
    with pytest.raises(ConfigError, match=r"train_data  'a\\x00' contains a null character"):
        load_settings({"train_data": "a\0", "val_data": "b", "class_num": 3})


# --- files from other editors ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "gbk"])
def test_a_config_is_read_as_windows_editors_save_it(tmp_path, encoding):
    text = "# 我的实验\r\ntrain_data: 蘑菇\r\nval_data: b\r\nclass_num: 3\r\n"
    (tmp_path / "x.yaml").write_bytes(text.encode(encoding))
    assert load_settings(tmp_path / "x.yaml").train_data == "蘑菇"


def test_characters_of_word_processors_are_all_named_with_their_lines(tmp_path):
    lines = [
        "train_data: a",
        "val_data：b",
        "epochs:\u00a012",
        "lr_max: “0.1”",
        "stages: [[1，8，1]]",
        "seed:1",
        "\u3000a: 1",
    ]
    (tmp_path / "x.yaml").write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_settings(tmp_path / "x.yaml")
    message = str(caught.value)
    assert "has characters that YAML takes for text" in message and "  fix       type them again" in message
    for row in (
        r"line 2    '：' (\uff1a) is a wide colon; type ':' and a space",
        r"line 3    '\xa0' (\xa0) looks like a space and is none; type a space",
        r"line 4    '“' (\u201c) is no quotation mark of YAML",
        r"line 5    '，' (\uff0c) is a wide comma",
        "line 6    ':' needs a space after it",
        r"line 7    '\u3000' (\u3000) looks like a space",
    ):
        assert row in message, message
    assert "line 1 " not in message


def test_a_home_folder_is_found_in_files_and_on_the_command_line(tmp_path, monkeypatch):
    from mslab.cli.options import with_home

    monkeypatch.setenv("HOME", "/home/me")
    (tmp_path / "x.yaml").write_text("train_data: ~/data\nval_data: $HOME/x\nclass_num: 3\n")
    settings = load_settings(tmp_path / "x.yaml")
    assert (settings.train_data, settings.val_data) == ("/home/me/data", "$HOME/x")
    words = ["--out=~/x", "train_data=~/x", "~/x", "cache=~", "./~/x", "train_data='~/x'", "a=b=~/x"]
    expected = [
        "--out=/home/me/x",
        "train_data=/home/me/x",
        "/home/me/x",
        "cache=~",
        "./~/x",
        "train_data='~/x'",
        "a=b=~/x",
    ]
    assert [with_home(word) for word in words] == expected
