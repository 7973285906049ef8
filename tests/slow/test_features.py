"""./run.sh bench transfer."""

import json

from helpers import bench, settings


def test_bench_transfer_prints_all_three_contenders(parent, squares, inside, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(inside / "cache"))
    config = settings(squares / "two", 2, freeze="all", feature_views=4, mode="graph")
    (inside / "x.yaml").write_text(json.dumps(config))
    done = bench("transfer", "x.yaml", "--backbone", parent, "--json", "rows.json")
    assert done.returncode == 0, done.stderr
    rows = json.loads((inside / "rows.json").read_text())
    assert [row["contender"] for row in rows] == ["features computed", "features loaded", "no features"]
    assert rows[2]["ratio"] == 1 and all(row["seconds"] > 0 for row in rows)
    assert rows[0]["val_acc"] == rows[1]["val_acc"]  # loaded features equal computed ones
    assert "times as fast" in done.stdout
