"""Which run is meant by `latest`, latest:NAME, the beginning of a name or a path, and what is said of what is none."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import without_roots_rights

from mslab.errors import CheckpointError, ConfigError, RunError
from mslab.runs import finding, folder, naming, weights


def begin(name: str, start: str, folder: str = "runs") -> Path:
    """A run's folder with the files by which it is found."""
    run = Path(folder) / name
    (run / "checkpoints").mkdir(parents=True)
    (run / "config.yaml").write_text("train_data: a\n")
    (run / "manifest.json").write_text(json.dumps({"start": start}))
    for file in ("best.ckpt", "best_backbone.ckpt", "last.ckpt", "epoch-0001.ckpt"):
        (run / "checkpoints" / file).touch()
    return run


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """nine-…-120000 began last, by a clock of another zone; its files are the oldest."""
    monkeypatch.chdir(tmp_path)
    last = begin("nine-20260102-120000", "2026-01-02T12:00:00+09:00")
    first = begin("nine-20260101-230000", "2026-01-01T23:00:00+00:00")
    begin("two-20260101-220000", "2026-01-01T22:00:00+00:00")
    (tmp_path / "runs" / "nine-sweep-20260103-000000").mkdir()
    for file in last.rglob("*"):
        os.utime(file, (0, 0))
    assert first.stat().st_mtime > (last / "manifest.json").stat().st_mtime
    return tmp_path


def test_latest_is_the_run_that_began_last_whatever_the_times_of_its_files(lab, caplog):
    with caplog.at_level("INFO", "mslab"):
        assert finding.find_run("latest") == Path("runs/nine-20260102-120000")
    assert caplog.messages == ["latest is runs/nine-20260102-120000"]
    for text in ("latest/", "runs/latest", "./latest", "latest:nine", "runs/latest:nine/"):
        assert finding.find_run(text) == Path("runs/nine-20260102-120000")
    assert finding.find_run("latest:two") == Path("runs/two-20260101-220000")
    for name in ("best.ckpt", "epoch-0001.ckpt"):
        inner = Path("runs/two-20260101-220000/checkpoints") / name
        assert finding.find_network(f"latest:two/checkpoints/{name}") == inner
    assert weights.best_file("latest:two").name == "best.ckpt"
    assert weights.backbone_file("latest:two") == Path("runs/two-20260101-220000/checkpoints/best_backbone.ckpt")
    assert finding.config_of("latest") == Path("runs/nine-20260102-120000/config.yaml")


def test_the_second_run_of_one_second_is_later_and_two_names_of_one_second_are_listed(lab):
    start = "2027-01-01T00:00:00+00:00"
    for name in ("one-20270101-000000-2", "one-20270101-000000-10", "one-20270101-000000"):
        begin(name, start)
    assert finding.find_run("latest") == Path("runs/one-20270101-000000-10")
    begin("zwei-20270101-000000-10", start)
    with pytest.raises(RunError, match=r"^latest could be 2 runs\.") as error:
        finding.find_run("latest")
    assert error.value.fix == "one of runs/zwei-20270101-000000-10, runs/one-20270101-000000-10"
    assert finding.find_run("latest:one") == Path("runs/one-20270101-000000-10")


def test_a_run_that_does_not_say_when_it_began_is_mentioned(lab, caplog):
    (begin("odd-20280101-000000", "") / "manifest.json").write_text("[")
    with caplog.at_level("INFO", "mslab"):
        assert finding.find_run("latest") == Path("runs/nine-20260102-120000")
    assert caplog.messages[0] == (
        "note: runs/odd-20280101-000000 is left out: its manifest.json does not say when it began"
    )


def test_no_latest_run_is_said_with_where_runs_are(lab, monkeypatch):
    with pytest.raises(RunError, match=rf"^No run in {lab}/runs has the name 'nin'\.") as error:
        finding.find_run("latest:nin")
    assert error.value.fix == "one of latest:nine"
    (lab / "below").mkdir()
    monkeypatch.chdir(lab / "below")
    with pytest.raises(RunError, match=rf"^There are no runs in {lab}/below/runs, so") as error:
        finding.find_run("latest")
    assert error.value.fix == f"cd {lab}"
    with pytest.raises(CheckpointError, match="There are no runs in "):
        finding.find_network("latest")
    with pytest.raises(RunError) as error:
        finding.find_run("runs/two-20260101-220000")
    assert error.value.fix.startswith("../runs/two-20260101-220000 is there")


def test_what_is_called_latest_is_taken_as_the_path_that_it_is(lab):
    begin("latest", "2020-01-01T00:00:00+00:00", ".")
    assert finding.find_run("latest") == Path("latest")
    for file in ("config.yaml", "manifest.json"):
        (lab / "latest" / file).unlink()
    with pytest.raises(RunError, match=r"^latest is a folder, and no run") as error:
        finding.find_run("latest")
    assert "latest is read as the newest run only where nothing has that name" in error.value.fix


def test_a_unique_beginning_is_that_run_and_another_lists_what_it_could_be(lab):
    run = Path("runs/two-20260101-220000")
    for text in ("two", "t", "runs/two-2026", "two-20260101-220000", "runs/two-*", "tw*", str(lab / "runs/two*")):
        assert finding.find_run(text) == (run if not text.startswith("/") else lab / run), text
    begin("two-20260101-220000-2", "2026-01-01T22:00:00+00:00")
    assert finding.find_run("two-20260101-220000") == run  # the complete name of one of them
    with pytest.raises(RunError, match=r"^nine could be 2 runs\.\n  expected .* latest:NAME") as error:
        finding.find_run("nine")
    assert error.value.fix == "one of runs/nine-20260102-120000, runs/nine-20260101-230000"
    assert [finding.find_run(run) for run in finding.expanded(["runs/nine*", "t*-2"])] == [
        Path("runs/nine-20260101-230000"),
        Path("runs/nine-20260102-120000"),
        Path("runs/two-20260101-220000-2"),
    ]
    assert finding.expanded("two") == ["two"] and finding.expanded(run) == [run]  # not letter by letter


def test_what_is_in_a_run_stands_for_the_run(lab):
    run = Path("runs/two-20260101-220000")
    for name in ("", "checkpoints", "checkpoints/", "config.yaml", "manifest.json", "checkpoints/last.ckpt"):
        assert finding.find_run(f"{run}/{name}") == run
    for name in ("", "checkpoints", "config.yaml"):
        assert finding.find_network(f"{run}/{name}") == run
    assert finding.find_network(run / "checkpoints/last.ckpt") == run / "checkpoints/last.ckpt"


@pytest.mark.parametrize(
    "text", ["runs/…", "runs/...", "runs/…/", "…", "runs/<name>", "runs/NAME-*", "runs/{name}", "RUN", "$RUN", "<RUN>"]
)
def test_what_a_page_writes_for_a_run_is_answered_with_the_runs(lab, text):
    for find in (finding.find_run, finding.find_network):
        with pytest.raises((RunError, CheckpointError), match="stands for the name of a run") as error:
            find(text)
        assert error.value.fix == (
            "one of runs/nine-20260102-120000, runs/nine-20260101-230000, runs/two-20260101-220000; "
            "or latest, the newest"
        )


def test_what_is_no_run_is_named_as_what_it_is(lab):
    for name in (
        "photos/a.jpg",
        "set/train/cat/1.png",
        "configs/x.yaml",
        "w/lone.ckpt",
        "empty/.keep",
        "x.zip",
        "sw/sweep.json",
    ):
        (lab / name).parent.mkdir(parents=True, exist_ok=True)
        (lab / name).touch()
    for file in ("manifest.json", "config.yaml"):
        (lab / "sw" / "trial-000").mkdir(exist_ok=True)
        (lab / "sw" / "trial-000" / file).touch()
    (lab / "dangling").symlink_to("gone")
    (lab / "loop").symlink_to("loop")
    os.mkfifo(lab / "pipe")
    for name, text, row in (
        ("runs", "runs is a folder of runs, and no run", "two-20260101-220000"),
        (".", "a folder of runs|the folder above runs/, and no run", "runs/two-20260101-220000"),
        ("photos", "photos is a folder of images, and no run", "a.jpg"),
        ("photos/a.jpg", "photos/a.jpg is an image, and no run", "one of runs/nine"),
        ("set", "set is a folder of images, and no run", "train/"),
        ("configs", "configs is a folder of configs", "x.yaml"),
        ("configs/x.yaml", "configs/x.yaml is a config", "mslab train configs/x.yaml    begins a run"),
        ("w", "w is a folder of files of weights", "lone.ckpt"),
        ("w/lone.ckpt", "w/lone.ckpt is a file of weights", "mslab train CONFIG --from w/lone.ckpt"),
        ("empty", "empty is an empty folder", "one of runs/nine"),
        ("x.zip", "x.zip is an archive", "one of runs/nine"),
        ("sw", "sw is a sweep of runs, and no run", "or mslab sweep --resume sw    continues the sweep"),
        ("pipe", "pipe is a FIFO", "one of runs/nine"),
        ("dangling", "dangling leads nowhere: it is a link to gone", "correct the link"),
        ("loop", "loop leads nowhere: it is a link to itself", "correct the link"),
        ("http://host/runs/x", "is an address, and not a path", "download it"),
        (r"C:\runs\x", "is a path of Windows", "/ between the names"),
        ("x" * 300, "the name is too long", "one of runs/nine"),
        ("runs/x\0", "null character", "one of runs/nine"),
        ("x.zip/y", "x.zip is a file, and not a folder", "one of runs/nine"),
    ):
        with pytest.raises(RunError, match=text) as error:
            finding.find_run(name)
        assert row in str(error.value) and error.value.expected and error.value.fix, error.value


def test_a_path_that_is_almost_one_is_answered_with_the_one_that_exists(lab):
    (lab / "runs/two-20260101-220000").rename(lab / "runs/my two-20260101-220000")
    run = "runs/nine-20260102-120000"
    for text, near in (
        ("runs/nine-20260102-12000", "one of runs/nine-20260102-120000"),
        ("runs/nime-20260102-120000", run),
        ("run/nine-20260102-120000", run),
        ("Runs/Nine-20260102-120000", run),
        (run.replace("/", "\\"), run),
        (f"'{run}'", run),
        (f"\u201c{run}\u201d,", run),
        (f"/{run}", run),
        (f"file://{lab}/{run}", f"{lab}/{run}"),
        (f"file://{lab}/runs/my%20two-20260101-220000", f"'{lab}/runs/my two-20260101-220000'"),
        (r"runs/my\ two-20260101-220000", "'runs/my two-20260101-220000'"),
        (f"{lab}/run/nine-20260102-120000", f"{lab}/{run}"),
        ("nime-20260102-120000", run),
    ):
        try:
            found = finding.find_run(text)
        except RunError as error:
            assert (near in error.fix and "looked in" in str(error)) or text[0] in "/f", error
        else:
            assert str(found) == near.removeprefix("one of "), text


@pytest.mark.parametrize("value", [None, 3, "", b"", b"runs", True, ["x"], {"run": "x"}, object(), 1.5])
def test_what_is_no_path_gets_one_message_of_three_parts(lab, value):
    for find, error_type in ((finding.find_run, RunError), (finding.find_network, CheckpointError)):
        with pytest.raises(error_type, match=r"^\S.{0,40} is no path\.\n  expected  .*\n  fix       ") as error:
            find(value)
        assert "runs/nine-20260102-120000" in error.value.fix


def test_the_home_folder_is_found_from_python(lab, monkeypatch):
    monkeypatch.setenv("HOME", str(lab))
    assert finding.find_run("~/runs/two-20260101-220000") == lab / "runs/two-20260101-220000"


def test_a_run_without_rights_is_said_with_the_command_that_gives_them(lab):
    script = "import sys\nfrom mslab.runs import finding, manifest\nfrom mslab.errors import RunError\n"
    script += "for name in sys.argv[1:]:\n    try:\n        manifest.load(finding.find_run(name))\n"
    script += "    except RunError as error:\n        print(error)"
    (lab / "runs/two-20260101-220000").chmod(0)
    (lab / "runs/nine-20260101-230000/manifest.json").chmod(0)
    (lab / "closed/inner").mkdir(parents=True)
    (lab / "closed").chmod(0)
    names = ["runs/two-20260101-220000", "runs/nine-20260101-230000", "closed/inner"]
    words = [sys.executable, "-c", script, *names]
    done = subprocess.run(words, capture_output=True, text=True, preexec_fn=without_roots_rights, cwd=lab)
    for text in (
        "runs/two-20260101-220000 is a folder that cannot be read (Permission denied), and no run.",
        "fix       chmod u+rx runs/two-20260101-220000",
        "runs/nine-20260101-230000/manifest.json cannot be read: Permission denied.",
        "fix       chmod u+r runs/nine-20260101-230000/manifest.json",
        "closed/inner cannot be reached: closed may not be entered.",
        "chmod u+rx closed",
    ):
        assert text in done.stdout, done.stdout + done.stderr


# --- names of run folders --------------------------------------------------------------------------------------------

WRONG = ["", "a/b", "a\\b", "..", ".x", "-x", "~x", "a:b", "a*", "a=b", "x" * 101, "香" * 40, "con", "COM1", "nul.txt"]
WRONG += ["latest", "Latest", " a", "a ", "a.", "a\nb", "a\0b", "a\u202eb", 'a"b', "<a>", "a|b", "a?b", "[a]", "…"]


@pytest.mark.parametrize("name", WRONG)
def test_a_name_that_no_folder_should_have_is_refused_with_one_that_may(name):
    with pytest.raises(
        ConfigError, match=r"cannot name a run: it .*\n  expected .*runs/NAME-DATE-TIME\n  fix"
    ) as error:
        naming.check_name(name)
    assert naming.check_name(error.value.fix.removeprefix("--name "))


@pytest.mark.parametrize("name", ["a", "my-run_2", "v1.0", "香菇 9", "a b", "latest9", "x" * 100])
def test_other_names_are_taken_as_they_are(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert naming.name_of("configs/nine.yaml", name) == name and naming.name_of("configs/nine.yaml") == "nine"
    run = folder.fresh_folder(name)
    (run / "config.yaml").touch()
    (run / "manifest.json").write_text('{"start": "2026-01-01T00:00:00+00:00"}')
    assert finding.find_run(f"latest:{name}") == run
