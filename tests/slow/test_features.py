"""mslab bench transfer."""

import json

import pytest
from helpers import cli, overrides, settings


@pytest.fixture
def frozen(squares, tmp_path, monkeypatch):
    """Settings of a frozen run, with a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return settings(squares / "two", 2, epochs=4, freeze="all", feature_views=4)


def test_bench_transfer_prints_both_ways(parent, frozen, inside):
    (inside / "x.yaml").write_text("\n".join(overrides(frozen)).replace("=", ": "))
    done = cli("bench", "transfer", "x.yaml", "--backbone", parent, "epochs=2", "--json", "rows.json", cwd=inside)
    assert done.returncode == 0, done.stderr
    rows = json.loads((inside / "rows.json").read_text())
    assert [row["contender"] for row in rows] == ["features kept", "features found", "no features"]
    assert rows[2]["ratio"] == 1 and all(0 <= row["val_acc"] <= 1 and row["seconds"] > 0 for row in rows)
    assert "times as fast" in done.stdout
