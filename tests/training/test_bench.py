"""bench bookkeeping and bench loop change nothing in what is trained. No speed is asserted."""

import json

import pytest
from helpers import TIMING, settings, weights

from benchmarks import bookkeeping
from benchmarks.loop import Stopwatch, TimedTrainer
from mslab.check import check_dataset
from mslab.config import load_settings
from mslab.training import start


def test_bench_bookkeeping_trains_the_same_with_and_without(squares, inside, monkeypatch):
    config = load_settings(settings(squares / "three", 3, epochs=1))
    report = check_dataset(squares / "three" / "train", squares / "three" / "val", skip_content=True)
    carry_out, trained, messages = start.carry_out, [], []

    def recording(run, report):
        carry_out(run, report)
        rows = [{key: value for key, value in row.items() if key not in TIMING} for row in run.history]
        trained.append((weights(run.path), rows))

    monkeypatch.setattr(start, "carry_out", recording)
    rows = bookkeeping.bench_bookkeeping(config, report, 1, inside / "bare", messages.append)
    assert len(trained) == 2 and trained[0] == trained[1] and len(trained[0][1]) == 1
    assert [row["kept"] for row in rows] == [True, False] and len(messages) == 2
    assert 0 < rows[0]["inside"] < rows[0]["seconds"] and rows[1]["inside"] is None
    (folder,) = (inside / "runs").iterdir()
    assert (folder / "manifest.json").is_file() and (folder / "steps.csv").is_file()
    (bare,) = (inside / "bare").iterdir()
    assert [path.name for path in bare.iterdir()] == ["checkpoints"]
    summary = bookkeeping.summary(rows)
    assert summary["share"] == rows[0]["inside"] / rows[0]["seconds"]
    assert summary["ratio"] == rows[0]["seconds"] / rows[1]["seconds"]
    assert "inside them" in bookkeeping.table(rows)


def test_a_stopwatch_in_place_of_the_trainer_trains_the_same(squares, inside, monkeypatch, capfd):
    config = load_settings(settings(squares / "three", 3, epochs=2))
    report = check_dataset(squares / "three" / "train", squares / "three" / "val", skip_content=True)
    usual, watches = start.fit, []

    def timed(trainer, run, callbacks):
        watches.append(Stopwatch(iter([4, 4, 4, 100])))
        return usual(TimedTrainer(trainer, watches[0]), run, callbacks)

    plain = start.train(config, report=report, name="plain")
    monkeypatch.setattr(start, "fit", timed)
    watched = start.train(config, report=report, name="watched")
    assert weights(plain.run) == weights(watched.run)
    blocks = [json.loads(line[6:]) for line in capfd.readouterr().out.splitlines() if line.startswith("bench ")]
    assert [len(block["seconds"]) for block in blocks] == [4, 4, 4]  # two epochs of six steps
    for block in blocks:
        assert sum(block["seconds"]) == pytest.approx(4 * sum(block["parts"].values())) and block["epoch"] > 0
        assert block["parts"]["step"] > 0 and block["parts"]["data"] > 0
