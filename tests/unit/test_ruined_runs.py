"""Files of a run that something has ruined since: each is named as what it is, and no figure is silently another."""

import json
import shutil
import zipfile
from pathlib import Path

import pytest
from helpers import PROJECT, cli

from mslab.errors import ConfigError, RunError
from mslab.runs.folder import COLUMNS, RunFolder
from mslab.runs.history import read_history
from mslab.runs.results import changed, read_evaluation

HEAD = ",".join(COLUMNS)
ROWS = ["1,6,0.05,1.1,0.4,1.2,0.5,120.5,10.2", "2,12,0.01,0.9,0.6,,,119.5,10.1", "3,18,0.001,0.7,0.8,0.6,0.75,121.5,10"]
GOOD = "\n".join([HEAD, *ROWS, ""])
EXPECTED = [0.5, None, 0.75]  # val_acc


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A finished run of four epochs, as an earlier mslab has left it. Do not change it."""
    folder = tmp_path_factory.mktemp("old")
    with zipfile.ZipFile(PROJECT / "tests" / "data" / "old_runs.zip") as archive:
        archive.extractall(folder)
    return folder / "runs" / "trees-20261129-011850"


@pytest.fixture
def run(kept, tmp_path):
    return Path(shutil.copytree(kept, tmp_path / "run"))


def lines(change):
    """The good file with each line's values changed by a function of (number of the line, values)."""
    return "".join(",".join(change(n, line.split(","))) + "\n" for n, line in enumerate([HEAD, *ROWS]))


@pytest.mark.parametrize(
    "content",
    [
        GOOD.encode(),
        b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode(),
        GOOD.replace(",", ";").encode(),
        GOOD.replace(",", "\t").encode("utf-16"),
        lines(lambda n, values: [f'"{value}"' for value in values]).encode(),
        lines(lambda n, values: [*values, "x" if n else "note"]).encode(),
        lines(lambda n, values: [value or "nan" for value in values]).encode(),
        lines(lambda n, values: values[::-1]).encode(),
        (GOOD + "\n\n").encode(),
    ],
    ids=["own", "BOM-CRLF", "semicolons", "tabs-UTF-16", "quoted", "more-columns", "nan", "other-order", "blank-lines"],
)
def test_a_history_that_a_spreadsheet_has_saved_has_the_same_figures(content, tmp_path):
    (tmp_path / "history.csv").write_bytes(content)
    rows = read_history(tmp_path / "history.csv")
    assert [None if row["val_acc"] != row["val_acc"] else row["val_acc"] for row in rows] == EXPECTED
    assert [row["step"] for row in rows] == [6, 12, 18] and [row["lr"] for row in rows] == [0.05, 0.01, 0.001]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "it is empty"),
        ("\0" * 200, "it contains zero bytes only, as after a crash"),
        (GOOD.replace("0.9", "0.\0"), "line 3 contains a zero byte"),
        (GOOD[:-1], "its last line has no end, so it was cut"),
        (GOOD[: len(GOOD) // 2], "its last line has no end, so it was cut"),
        (GOOD.replace(",0.75,121.5,10", ""), "line 4 has 6 values for 9 columns"),
        (
            GOOD.replace(",", ";").replace(".", ","),
            "line 2, lr: '0,05' is no number; a spreadsheet has written decimal commas",
        ),
        (GOOD.replace(".", ","), "line 2 has 16 values for 9 columns"),
        (GOOD.replace("0.75", "75"), "line 4, val_acc: '75' is no fraction from 0 to 1"),
        (GOOD.replace("0.75", "01. May"), "line 4, val_acc: '01. May' is no number"),
        ("\n".join([HEAD, *reversed(ROWS), ""]), "line 2 is epoch 3, where epoch 1 belongs"),
        ("\n".join([HEAD, *ROWS, ROWS[-1], ""]), "line 5 is epoch 3, where epoch 4 belongs"),
        (GOOD.replace("val_acc", "accuracy"), "its first line has no val_acc"),
        (GOOD.replace(HEAD + "\n", ""), "its first line has no epoch, step"),
        (
            GOOD.replace(HEAD, f"{HEAD},val_acc").replace("\n", ",1\n").replace("val_acc,1", "val_acc"),
            "it has the column val_acc twice",
        ),
        ("<html><body>Sign in</body></html>\n", "its first line has no epoch, step"),
    ],
)
def test_a_ruined_history_is_named_as_what_it_is(content, reason, tmp_path):
    (tmp_path / "history.csv").write_text(content, newline="")
    with pytest.raises(RunError) as error:
        read_history(tmp_path / "history.csv")
    assert f"history.csv cannot be read: {reason}" in error.value.what and error.value.fix.startswith(
        "put back history.csv"
    )


def test_a_history_that_is_gone_is_missed(run):
    (run / "history.csv").unlink()
    done = cli("watch", run, "--once")
    assert done.returncode == 0 and "no epoch  done" in done.stdout and "history.csv is missing" in done.stdout
    (run / "history.csv").write_text(HEAD + "\n")
    assert "history.csv was changed after the run" in cli("watch", run, "--once").stdout


def test_what_was_changed_since_the_run_ended_is_said(run):
    content = RunFolder.read(run).manifest
    assert changed(run, content) == []
    lines = (run / "history.csv").read_text().splitlines(keepends=True)
    (run / "history.csv").write_text("".join(lines[:-1]))  # a file that was cut between two lines reads well
    config = (run / "config.yaml").read_text().splitlines(keepends=True)
    (run / "config.yaml").write_text("".join(config[: len(config) // 2]))
    (run / "eval.json").unlink()
    texts = ["config.yaml was changed after the run", "history.csv was changed after the run", "eval.json is missing"]
    assert changed(run, content) == texts and changed(run, content | {"status": "running"}) == []
    done = cli("watch", run, "--once")
    assert done.returncode == 0 and all(text in done.stdout for text in texts)


def test_half_a_config_does_not_stand_for_the_defaults_and_the_lines_that_are_shown_mend_it(run):
    before, config = RunFolder.read(run), run / "config.yaml"
    recorded = before.manifest | {"settings": before.settings.model_dump(mode="json")}
    (run / "manifest.json").write_text(json.dumps(recorded))
    lines = config.read_text().splitlines(keepends=True)
    config.write_text("".join(line for line in lines if not line.startswith("momentum:")))  # edited: it had the default
    assert RunFolder.read(run).settings == before.settings
    config.write_text("".join(lines[: len(lines) // 2]))
    with pytest.raises(ConfigError, match=r"config.yaml lacks \d settings of the run, whose defaults differ") as error:
        RunFolder.read(run)
    shown = [text for label, text in error.value.details if label == "lacks"]
    assert "device: cpu" in shown and "write these lines at its end" in error.value.fix
    config.write_text("\n".join([*config.read_text().splitlines(), *shown, ""]))
    assert RunFolder.read(run).settings == before.settings


def test_a_ruined_manifest_evaluation_and_config_are_named(run):
    figures = json.loads((run / "eval.json").read_text())
    names = RunFolder.read(run).manifest["class_names"]
    for text, reason in (
        ("", "it is empty"),
        ("\0" * 99, "it contains zero bytes only"),
        (json.dumps(figures)[:80], "it is not valid JSON: "),
        (json.dumps(figures | {"accuracy": 0.25}), "accuracy is 0.25, but confusion gives "),
    ):
        (run / "eval.json").write_text(text)
        with pytest.raises(RunError, match=r"eval.json cannot be read\.\n") as error:
            read_evaluation(run, names)
        assert reason in str(error.value)
    for text, reason in (("", "it is empty"), ("\0" * 99, "zero bytes only"), ('{"schema": 2,', "not valid JSON")):
        (run / "manifest.json").write_text(text)
        done = cli("verify", run)
        assert done.returncode == 1 and "manifest.json is not JSON." in done.stderr and reason in done.stderr
    (run / "config.yaml").write_text("")
    with pytest.raises(
        ConfigError, match=r"contains no settings\.\n.*as mslab wrote them\n  fix +put back config.yaml, from a"
    ):
        RunFolder.read(run)


def test_one_ruined_run_does_not_stop_the_verification_of_others(run, kept, tmp_path):
    (run / "manifest.json").write_text("")
    done = cli("verify", run, kept, tmp_path / "nothing")
    assert done.returncode == 1 and f"{kept}: all " in done.stdout and "it is empty" in done.stdout
    assert f"{tmp_path}/nothing" in done.stdout and "fix  " in done.stdout
    document = json.loads(cli("verify", run, kept, "--json", "-").stdout)
    assert [result["ok"] for result in document["runs"]] == [False, True] and not document["ok"]
    assert cli("verify", kept, kept).returncode == 0
    assert json.loads(cli("verify", kept, "--json", "-").stdout)["run"] == str(kept)  # of one run as before
