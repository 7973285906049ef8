"""`mslab runs` lists what is here, in whatever state; `mslab runs rm` removes what nobody needs, and nothing else."""

import contextlib
import json
import os
import pty
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from helpers import PROGRAM, PROJECT, cli, full_after, without_roots_rights

from mslab.runs import finding, listing, lock, removing

TREES = "trees-20261129-011850"


@pytest.fixture
def lab(inside):
    """Three runs: trees-… is finished, two began from it, stopped was stopped. All are of the first schema."""
    with zipfile.ZipFile(PROJECT / "tests" / "data" / "old_runs.zip") as archive:
        archive.extractall(inside, [name for name in archive.namelist() if name.startswith("runs/")])
    return inside


def copy_of(run: str, name: str, **changes) -> Path:
    """Another run under runs/, with these entries in its manifest."""
    target = Path(shutil.copytree(Path("runs") / run, Path("runs") / name))
    change(target, **changes)
    return target


def change(run: Path, **changes) -> None:
    content = json.loads((run / "manifest.json").read_text())
    (run / "manifest.json").write_text(json.dumps(content | changes))


def rows(*words) -> dict[str, dict]:
    done = cli("runs", *words, "--json", "-")
    assert done.returncode == 0, done.stderr
    return {row["name"]: row for row in json.loads(done.stdout)["runs"]}


@contextlib.contextmanager
def trained_by_another(run: Path):
    """A process that writes into the run meanwhile."""
    code = "import sys; from pathlib import Path; from mslab.runs import lock\n"
    code += "with lock.held(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    words = [sys.executable, "-c", code, str(run)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield


# --- the table -------------------------------------------------------------------------------------------------------


def test_the_table_has_data_kind_parent_best_figure_seconds_and_status_of_each_run(lab):
    done = cli("runs")
    lines = [re.split(r"\s{2,}", line.strip()) for line in done.stdout.splitlines() if line]
    assert lines[0] == ["runs: 3 runs"]
    assert lines[1] == ["name", "data", "kind", "parent", "best", "seconds", "status"]
    assert lines[3] == ["two", "trees", "transfer", TREES, "1.000", "0", "finished"]
    assert lines[4] == ["stopped", "trees", "train", "0.833", "1", "stopped"] and lines[5][-1] == "finished"
    assert done.stderr == ""
    assert cli("runs", ".").stdout == cli("runs", "runs/").stdout == done.stdout


@pytest.mark.parametrize(
    ("train_data", "shown"),
    [
        ("datasets/nine/train", "nine"),
        ("nine/train.csv", "nine"),
        ("nine-folds/fold2/train.csv", "nine-folds/fold2"),
        ("nine/labels.csv", "labels.csv"),
        ("train.csv", "train.csv"),
        (None, ""),
    ],
)
def test_data_are_called_as_their_folder_also_if_they_are_tables(train_data, shown):
    assert listing.data_name(train_data) == shown


def test_json_is_one_document_and_nothing_else(lab):
    row = rows()["two"]
    assert row["best"] == {"measure": "val_acc", "value": 1.0, "epoch": 1} and row["epochs"] == 2
    assert (row["path"], row["parent"], row["status"]) == ("runs/two", TREES, "finished")
    done = cli("runs", "--json", "out/list.json")
    assert "stopped" in done.stdout and json.loads(Path("out/list.json").read_text())["schema"] == 1
    assert list(rows("--sort", "best")) == [TREES, "two", "stopped"]
    assert list(rows("--sort", "name")) == ["stopped", TREES, "two"]
    assert next(iter(rows("--sort", "seconds"))) == TREES
    assert next(iter(rows("--sort", "parent"))) == "two"


def test_the_best_figure_is_that_of_best_by_and_a_lower_loss_is_better():
    rows = [
        {"epoch": 1, "val_acc": 0.9, "val_loss": 0.3, "val_macro_f1": 0.5, "val_balanced_accuracy": 0.5},
        {"epoch": 2, "val_acc": 0.8, "val_loss": 0.2, "val_macro_f1": 0.7, "val_balanced_accuracy": 0.6},
    ]
    assert listing.best_figure(rows, {}, "macro_f1") == {"measure": "val_macro_f1", "value": 0.7, "epoch": 2}
    assert listing.best_figure([], {"val_loss": 0.4, "best_epoch": 3}, "loss")["epoch"] == 3
    figures = [listing.best_figure([row], {}, "loss") for row in rows]
    names = zip("ab", figures, strict=True)
    runs = [listing.RunRow(name, name, "train", "finished", best=best) for name, best in names]
    assert [row.name for row in listing.ordered(runs, "best")] == ["b", "a"]
    assert "0.200 val_loss" in listing.table(Path("runs"), runs)


def test_the_newest_run_comes_first_whatever_the_zone_of_its_clock(lab):
    copy_of("two", "later", start="2026-11-29T23:00:00+09:00")
    copy_of("two", "last", start="2026-11-29T20:00:00+01:00")
    assert list(rows())[:2] == ["last", "later"]


def test_killed_runs_and_running_ones_are_told_apart(lab):
    run = copy_of("stopped", "going", status="running")
    assert rows()["going"]["status"] == "killed"
    with trained_by_another(run):
        assert rows()["going"]["status"] == "running"


def test_damaged_runs_stay_in_the_table_with_the_reason_and_other_folders_do_not(lab):
    (copy_of("two", "cut") / "manifest.json").write_text('{"schema": 2, "comm')
    change(copy_of("two", "newer"), schema=99)
    (copy_of("two", "lost") / "manifest.json").unlink()
    (copy_of("two", "odd") / "history.csv").write_text("epoch,step\n1,2\n")
    Path("runs/notes").mkdir()
    Path("runs/file.txt").touch()
    found = rows()
    assert found["cut"]["status"] == found["newer"]["status"] == found["lost"]["status"] == "damaged"
    assert "is not JSON" in found["cut"]["problem"] and "written by a newer mslab" in found["newer"]["problem"]
    assert found["lost"]["problem"] == "it has no manifest.json"
    assert found["odd"]["status"] == "finished" and "its first line has no lr" in found["odd"]["problem"]
    assert found["odd"]["best"]["value"] == 1.0, "the manifest has it, too"
    assert not {"notes", "file.txt"} & set(found)
    assert "note: lost: it has no manifest.json" in cli("runs").stdout


def test_a_sweep_is_one_row_and_its_folder_lists_its_trials(lab):
    sweep = Path("runs/nine-sweep-20260101-000000")
    sweep.mkdir()
    (sweep / "sweep.json").write_text("{}")
    for number, name in enumerate(("two", "stopped")):
        shutil.copytree(f"runs/{name}", sweep / f"trial-{number:03}")
    row = rows()[sweep.name]
    assert (row["kind"], row["runs"], row["status"], row["best"]["value"]) == ("sweep", 2, "stopped", 1.0)
    assert "runs: 5 runs" in cli("runs").stdout and "sweep, 2 runs" in cli("runs").stdout
    assert set(rows(str(sweep))) == {"trial-000", "trial-001"}


def test_names_of_any_kind_neither_steer_the_terminal_nor_break_the_table(lab):
    names = ["蘑菇-20260101-000000", "a\x1b[2Jb", "x" * 200, "two words", os.fsdecode(b"\xff\xfe")]
    for name in names:
        copy_of("two", name)
    done = cli("runs")
    assert "\x1b" not in done.stdout and "蘑菇-20260101-000000" in done.stdout and r"a\x1b[2Jb" in done.stdout
    assert set(names) <= set(rows())


def test_a_narrow_terminal_gets_the_name_and_the_status_of_each_run(lab):
    copy_of("two", "蘑菇" * 20)
    main, second = pty.openpty()
    words = [*PROGRAM, "runs"]
    environment = os.environ | {"COLUMNS": "60", "LINES": "30"}
    subprocess.run(words, stdin=second, stdout=second, stderr=subprocess.PIPE, env=environment, check=True)
    text = os.read(main, 1 << 16).decode()
    from rich.cells import cell_len

    assert max(map(cell_len, text.splitlines())) <= 60 and text.count("finished") == 3
    assert "a wider terminal or --json FILE shows all" in re.sub(r"\s+", " ", text)


def test_no_runs_are_answered_with_where_they_were_looked_for_and_what_to_do(lab):
    Path("empty/runs").mkdir(parents=True)
    for words, text, fix in (
        (["runs", "empty"], f"There are no runs in {lab}/empty.", "mslab runs    lists those in runs/"),
        (["runs", "none"], "There is no folder none.", "mslab runs    lists those in runs/"),
        (["runs", "runs/two/history.csv"], "history.csv is a file, and no folder of runs.", "mslab runs runs/two"),
    ):
        done = cli(*words)
        assert done.returncode == 1 and done.stdout == "" and text in done.stderr and fix in done.stderr, done.stderr
    for folder, fix in (("runs", "mslab runs .    lists those in this folder"), ("empty", f"cd {lab}")):
        done = cli("runs", cwd=folder)
        assert done.returncode == 1 and f"There are no runs in {lab}/{folder}/runs." in done.stderr
        assert fix in done.stderr
    assert "two" in cli("runs", ".", cwd="runs").stdout, "what the fix says works"
    done = cli("runs", "--sort", "size")
    assert done.returncode == 2 and "expected one of start, name, data" in done.stderr


def test_a_folder_without_permission_is_named_with_the_command_that_gives_it(lab):
    Path("runs/two").chmod(0)
    show = [sys.executable, "-m", "mslab", "runs"]
    done = subprocess.run(show, preexec_fn=without_roots_rights, capture_output=True, text=True)
    assert "note: two: it may not be entered: chmod u+rx runs/two" in done.stdout, done.stderr
    Path("runs").chmod(0)
    done = subprocess.run([*show, "runs"], preexec_fn=without_roots_rights, capture_output=True, text=True)
    assert done.returncode == 1 and "runs cannot be read: Permission denied." in done.stderr
    assert "fix       chmod u+rx runs\n" in done.stderr
    for command in ("chmod u+rx runs", "chmod u+rx runs/two"):
        subprocess.run(command.split(), check=True)
    assert rows()["two"]["status"] == "finished"


def test_a_run_that_goes_while_the_list_is_made_is_no_error(lab, monkeypatch):
    def load(run, load=listing.manifest.load):
        shutil.rmtree("runs/two", ignore_errors=True)
        return load(run)

    monkeypatch.setattr(listing.manifest, "load", load)
    assert rows()["stopped"]["status"] == "stopped"


# --- removing --------------------------------------------------------------------------------------------------------


def refused(*words) -> str:
    before = sorted(Path().rglob("*"))
    done = cli("runs", "rm", *words, "--yes")
    assert done.returncode == 1 and "nothing was removed." in done.stderr and "fix  " in done.stderr, done.stderr
    assert sorted(Path().rglob("*")) == before
    return done.stderr


def test_rm_removes_runs_by_path_name_or_pattern(lab):
    for name in ("a-1", "a-2", "b-1"):
        copy_of("stopped", name)
    done = cli("runs", "rm", "runs/a-*", "b-1", "runs/b-1/", "--yes")
    assert done.returncode == 0 and done.stderr.count("removed runs/") == 3, done.stderr
    assert sorted(run.name for run in Path("runs").iterdir()) == ["stopped", TREES, "two"]


def test_without_a_terminal_rm_asks_for_yes(lab):
    done = cli("runs", "rm", "stopped")
    assert done.returncode == 1 and "there is no terminal to ask whether 1 run should go" in done.stderr
    assert "fix       mslab runs rm runs/stopped --yes" in done.stderr and Path("runs/stopped").is_dir()
    assert cli("runs", "rm").returncode == 2


@pytest.mark.parametrize(("answer", "code"), [("", 1), ("y", 0)])
def test_in_a_terminal_rm_asks_and_shows_what_would_go(lab, answer, code):
    main, second = pty.openpty()
    words = [*PROGRAM, "runs", "rm", "stopped"]
    with subprocess.Popen(words, stdin=second, stdout=second, stderr=second) as process:
        text = b""
        while b"[y/N]" not in text and process.poll() is None:
            text += os.read(main, 1000)
        os.write(main, answer.encode() + b"\n")
    assert process.returncode == code and b"runs/stopped (3" in text
    assert Path("runs/stopped").is_dir() is bool(code)


def test_rm_refuses_a_parent_until_what_began_from_it_goes_too(lab):
    text = refused("runs/" + TREES)
    assert f"runs/{TREES}  runs/two began from it" in text
    assert f"remove them together: mslab runs rm runs/{TREES} runs/two" in text
    Path("runs", TREES).rename("runs/moved")  # its path is no longer the one in the manifest; its sha256 is
    assert "runs/two began from it" in refused("runs/moved")
    nested = Path("runs/sweep/trial-000")
    Path("runs/two").rename(Path("runs/sweep").mkdir() or nested)
    assert "runs/sweep/trial-000 began from it" in refused("runs/moved")
    Path("runs/sweep/sweep.json").write_text("{}")  # of which no part can go alone
    fix = " ".join(refused("runs/moved").partition("fix ")[2].split())
    assert fix == "rm -r runs/sweep removes the sweep with all its runs then mslab runs rm runs/moved"
    Path("runs/sweep/sweep.json").unlink()
    (nested / "manifest.json").write_text(
        f'cut off: "{listing.manifest.load(Path("runs/moved"))["artifacts"]["checkpoints/best.ckpt"]}'
    )
    assert "runs/sweep/trial-000 began from it" in refused("runs/moved")
    assert cli("runs", "rm", "runs/moved", "runs/sweep/trial-000", "--yes").returncode == 0
    assert rows().keys() == {"stopped"}


def test_an_equal_run_that_nobody_began_from_can_go(lab):
    copy_of(TREES, "twin")
    assert cli("runs", "rm", "twin", "--yes").returncode == 0


def test_rm_names_every_run_that_stays_and_why(lab):
    Path("runs/link").symlink_to("two")
    Path("runs/notes").mkdir()
    sweep = Path("runs/s-sweep-1")
    sweep.mkdir()
    (sweep / "sweep.json").write_text("{}")
    copy_of("stopped", "s-sweep-1/trial-000")
    Path("configs").mkdir()
    Path("configs/config.yaml").write_text("epochs: 1\n")
    going = copy_of("stopped", "going", status="running")
    words = ["runs/link", "runs/notes", "configs", "runs/two/history.csv", sweep, sweep / "trial-000", going, "nothing"]
    with trained_by_another(going):
        text = refused(*words, "stopped")
    assert "8 of 9 runs cannot be removed; nothing was removed." in text
    for row in (
        r"runs/link +It is a link to two, which stays",
        r"runs/notes +runs/notes is an empty folder, and no run",
        r"configs +it lacks what a run has: it may be something else",
        r"runs/two/history\.csv +It is a part of the run runs/two",
        r"runs/s-sweep-1 +It is a sweep of runs, and no run",
        r"runs/s-sweep-1/trial-000 +it is a part of the sweep runs/s-sweep-1",
        r"runs/going +a process writes into it",
        r"nothing +There is no folder nothing",
    ):
        assert re.search(row, text), (row, text)
    assert "rm runs/link    removes the link" in text and "rm -r runs/s-sweep-1    removes the sweep" in text


def test_links_in_a_run_are_removed_and_what_they_lead_to_stays(lab):
    shutil.move("runs/stopped/checkpoints", "elsewhere")
    Path("runs/stopped/checkpoints").symlink_to(lab / "elsewhere")
    assert cli("runs", "rm", "stopped", "--yes").returncode == 0
    assert Path("elsewhere/last.ckpt").is_file() and not Path("runs/stopped").exists()


def test_what_a_kill_leaves_is_no_run_is_named_and_goes_with_the_next_removal(lab):
    left = removing.put_aside(Path("runs/stopped"))
    assert left.parent == lab / "runs" and (left / "manifest.json").is_file()
    assert Path("runs/two") == finding.find_run("latest") and finding.beginning(".") == []
    text = cli("runs").stdout
    assert (
        "runs: 2 runs" in text
        and f"note: runs/{left.name} is left of a removal that was stopped: rm -r runs/{left.name}" in text
    )
    copy_of("two", "other")
    assert cli("runs", "rm", "other", "--yes").returncode == 0 and not left.exists()


def test_a_stopped_removal_says_what_is_removed_and_the_command_that_goes_on(lab, monkeypatch):
    copy_of("stopped", "a")
    monkeypatch.setattr(removing, "delete", lambda folder: (_ for _ in ()).throw(KeyboardInterrupt))
    done = cli("runs", "rm", "a", "stopped", "--yes")
    assert (
        done.returncode == 130
        and "0 of 2 runs removed; mslab runs rm runs/stopped    removes the others" in done.stderr
    )


def test_a_run_is_removed_from_a_full_disk(lab):
    with full_after(0):
        removing.remove([Path("runs/stopped")])
    assert not Path("runs/stopped").exists()


def test_what_cannot_be_deleted_is_no_run_and_goes_with_the_commands_that_are_shown(lab):
    Path("runs/stopped/checkpoints").chmod(0o555)
    words = [sys.executable, "-m", "mslab", "runs", "rm", "stopped", "--yes"]
    done = subprocess.run(words, preexec_fn=without_roots_rights, capture_output=True, text=True)
    assert done.returncode == 1 and "cannot be removed: Permission denied. It is no run any more." in done.stderr
    assert set(rows()) == {TREES, "two"}
    subprocess.run(re.search(r"fix +(.*)\Z", done.stderr, re.DOTALL)[1], shell=True, check=True)
    assert not listing.left_of(Path("runs"))


def test_what_the_fix_lines_say_works(lab):
    for words in (["runs", "runs/two/history.csv"], ["runs", "rm", "runs/two/history.csv"], ["runs", "rm", "two"]):
        command = re.search(r"mslab (runs .*)", cli(*words).stderr.partition("fix  ")[2])[1]
        assert cli(*command.split()).returncode == (1 if command == "runs rm runs/two" else 0), command
    assert set(rows()) == {TREES, "stopped"}


def test_a_process_that_begins_to_write_at_the_last_moment_keeps_its_run(lab, monkeypatch):
    answers = iter([False, True])
    monkeypatch.setattr(listing, "is_written", lambda run: next(answers))
    done = cli("runs", "rm", "stopped", "--yes")
    assert done.returncode == 1 and "runs/stopped stays: a process writes into it." in done.stderr
    assert Path("runs/stopped/manifest.json").is_file()


def test_a_folder_that_may_not_be_written_keeps_its_runs(lab):
    Path("runs").chmod(0o555)
    words = [sys.executable, "-m", "mslab", "runs", "rm", "stopped", "--yes"]
    done = subprocess.run(words, preexec_fn=without_roots_rights, capture_output=True, text=True)
    Path("runs").chmod(0o755)
    assert done.returncode == 1 and "runs/stopped cannot be removed: Permission denied." in done.stderr
    assert f"chmod u+w {lab}/runs" in done.stderr and Path("runs/stopped/manifest.json").is_file()
    assert lock.holder_of(Path("runs/stopped")) == ""
