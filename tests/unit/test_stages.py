"""The table of stages is checked wherever it is used, and each wrong row is named with what to write instead."""

import json
import re

import pytest
from helpers import cli

from mslab.checkpoint.reading import info_of
from mslab.config import load_settings
from mslab.errors import MODEL, ConfigError, MslabError, explain
from mslab.stages import check_model_file, read_table, stage_table

WRONG = {  # row as a student writes it -> what is said
    "(4, 128)": "(4, 128) has 2 numbers, not blocks, width, stride",
    "(4, 128, 2, 1)": "(4, 128, 2, 1) has 4 numbers",
    '(4, "64", 2)': "width is '64', not a whole number: write 64",
    "(4, 128.0, 2)": "width is 128.0, not a whole number: write 128",
    "(0, 128, 2)": "blocks is 0, not 1 to 256",
    "(4, 512.5, 2)": "width is 512.5, not a whole number",
    "(4, None, 2)": "width is None, not a whole number",
    "(4, 128, True)": "stride is True, not a whole number",
    "(4, -128, 2)": "width is -128, not 1 to 4096",
    "(4, 1000000000, 2)": "width is 1000000000, not 1 to 4096",
    "(4, 128, 33)": "stride is 33, not 1 to 32",
    "{4: 128}": "{4: 128} is not a row of blocks, width, stride",
    "None": "None is not a row of blocks, width, stride",
}
TABLES = {"[]": "it has 0 rows", "None": "not a list of rows", "(4, 128, 2)": "is one row: write [[4, 128, 2]]"}
TABLES |= {"{4: 128}": "not a list of rows", f"[{'(1, 8, 1), ' * 17}]": "it has 17 rows"}
UNREADABLE = {  # the same in model.py -> what is said
    "[(3, 64, 1) (4, 128, 2)]": "row 1, line 16  a comma is missing after (3, 64, 1)",
    "[[3, 64, 1], [4, 128, 2] [6, 256, 2]]": "row 2, line 16  a comma is missing after [4, 128, 2]",
}
SYNTAX = {  # edit of model.py -> what is said
    ("(4, 128, 2),", "(4 128, 2),"): "line 17: SyntaxError: invalid syntax. Perhaps you forgot a comma?",
    ("(4, 128, 2),", "(4，128, 2),"): "line 17: SyntaxError: invalid character '，' (U+FF0C)",
    ("]\nSTEM", "\nSTEM"): "line 15: SyntaxError: '[' was never closed",
    ("        return self.relu(x + short)", "\treturn self.relu(x + short)"): "TabError",
    ("        return self.relu(x + short)", "       return self.relu(x + short)"): "IndentationError",
    ("STEM = 64", "STEM = 64\0"): "null bytes",
}


@pytest.fixture
def edited(tmp_path):
    """Return a copy of model.py with one text replaced."""

    def edited(old, new):
        text = MODEL.read_text()
        assert old in text
        (tmp_path / "model.py").write_text(text.replace(old, new, 1))
        return tmp_path / "model.py"

    return edited


def table_of(text):
    """model.py's table, to be replaced by another: its first line is 15 or 16 with the import."""
    return re.search(r"(?s)STAGES = \[.*?\n\]", MODEL.read_text())[0], f"STAGES = {text}"


def test_each_wrong_row_is_named_with_what_to_write():
    for row, said in (WRONG | TABLES).items():
        table = row if row in TABLES else f"[(3, 64, 1), {row}]"
        with pytest.raises(ConfigError) as caught:
            stage_table(eval(table))
        text = str(caught.value)
        assert said in text and "1 to 16 rows such as [3, 64, 1]" in text, text
        assert ("row 2" in text) == (table != row) and "row 1" not in text, text
    assert len(read_table([(0, 0, 1), (3, 64, 1), (1,)])[1]) == 2  # every wrong row at once


def test_lists_tuples_and_numpy_numbers_are_rows_and_any_stride_is_possible():
    import numpy as np

    assert stage_table([[3, 64, 1], (4, 128, 3)]) == [[3, 64, 1], [4, 128, 3]]
    table = stage_table(np.array([[3, 64, 1]]))
    assert table == [[3, 64, 1]] and type(table[0][0]) is int


def test_a_wrong_table_in_model_py_is_found_without_importing_it_with_its_line(edited):
    for row, said in (WRONG | TABLES | UNREADABLE).items():
        table = f"[(3, 64, 1),\n    {row},\n]" if row in WRONG else row
        with pytest.raises(ConfigError) as caught:
            check_model_file(edited(*table_of(table)))
        text = str(caught.value)
        assert said.partition("line 16")[2] in text and "STAGES in" in text and "model.py" in text, text
        if row in WRONG:
            assert re.search(r"row 2, line \d+  ", text), text
    check_model_file(edited(*table_of("[(3, 64)]")), with_table=False)  # weights bring their own table
    check_model_file(edited(*table_of("[(n, 64, 1) for n in (3, 4)]")))  # it is checked when it is built
    check_model_file(MODEL)


def test_a_syntax_error_in_model_py_is_one_message_with_its_line(edited):
    for edit, said in SYNTAX.items():
        with pytest.raises(MslabError) as caught:
            check_model_file(edited(*edit))
        text = str(caught.value)
        said = re.sub(r"line \d+", "", said)
        assert said in text and "fix" in text and "mslab show" in text and "expected" in text, text


def test_a_raise_that_graph_mode_ignores_and_a_missing_return_are_refused(edited):
    """MindSpore 2.8.0 computes as if it were not there; tests/training/test_model.py shows it."""
    body = "        return self.relu(x + short)"
    with pytest.raises(MslabError, match=r"line \d+: raise NotImplementedError\('yours'\) would be ignored"):
        check_model_file(edited(body, f"        raise NotImplementedError('yours')\n{body}"))
    with pytest.raises(MslabError, match=r"line \d+: this construct returns nothing.*\n.*\n.*write return"):
        check_model_file(edited(body, body.replace("return ", "")))
    check_model_file(edited(body, f"        if x.shape[0] == 0:\n            raise ValueError('empty')\n{body}"))


def test_a_wrong_table_in_model_py_ends_train_before_the_data_is_looked_at(edited, tmp_path, monkeypatch):
    check = check_model_file.__defaults__
    monkeypatch.setattr(check_model_file, "__defaults__", (edited(*table_of("[(3, 64)]")), *check[1:]))
    (tmp_path / "x.yaml").write_text("{train_data: nowhere, val_data: there, class_num: 3}")
    done = cli("train", tmp_path / "x.yaml")
    assert done.returncode == 1 and "(3, 64) has 2 numbers" in done.stderr and "nowhere" not in done.stderr
    done = cli("train", tmp_path / "x.yaml", "stages=[[1, 8, 1]]")  # the config's table is used
    assert done.returncode == 1 and "nowhere" in done.stderr


def test_a_config_with_a_wrong_table_names_its_rows():
    for row, said in WRONG.items():
        with pytest.raises(ConfigError) as caught:
            load_settings({"train_data": "a", "val_data": "b", "class_num": 3, "stages": [[3, 64, 1], eval(row)]})
        assert "row 2: " in str(caught.value) and said.rpartition(") ")[2] in str(caught.value)
    with pytest.raises(ConfigError, match="it has 0 rows"):
        load_settings({"train_data": "a", "val_data": "b", "class_num": 3}, ["stages=[]"])
    assert load_settings({"train_data": "a", "val_data": "b", "class_num": 3}, ["stages=null"]).stages is None


def test_a_checkpoints_entry_with_a_wrong_table_is_refused():
    for table, said in (([[1, 8]], "row 1: [1, 8] has 2 numbers"), ([], "it has 0 rows"), ([[1, 8, 0]], "stride is 0")):
        with pytest.raises(ValueError, match=re.escape(said)):
            info_of(json.dumps({"stages": table}))


def test_an_error_in_the_code_of_model_py_is_one_message_with_its_line():
    code = compile("\n" * 9 + "def construct(x):\n    return x.conv4", str(MODEL), "exec")
    names: dict = {}
    exec(code, names)
    with pytest.raises(AttributeError) as caught:
        names["construct"](1)
    text = str(explain(caught.value, "x.log"))
    assert f"{MODEL}, line 11: AttributeError: 'int' object has no attribute 'conv4'." in text and "x.log" in text
    compiled = RuntimeError(
        f"For 'Add', no\n# 0 In file {MODEL}:75, 4~9\n# 1 In file /x/nn.py:2\n# 2 In file {MODEL}:62~63"
    )
    assert f"{MODEL}, line 62: RuntimeError: For 'Add', no." in str(explain(compiled))
    with pytest.raises(SyntaxError) as broken:
        compile("x = (1", str(MODEL), "exec")
    assert f"{MODEL}, line 1: SyntaxError: '(' was never closed." in str(explain(broken.value))
    assert explain(RuntimeError("For 'Add', no\n# 0 In file /x/model.py:75")) is None  # another project's
