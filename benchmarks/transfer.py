"""Head-only transfer with cached features beside the same job without, each in a separate process."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mslab.errors import MslabError
from mslab.runtime.tables import empty_table, render


def bench_transfer(config: str, backbone: str, overrides: Sequence[str], progress: Any) -> list[dict[str, Any]]:
    """Rows of {contender, seconds, val_acc, ratio}: freeze: all with features computed, loaded, and without."""
    from mslab.config import load_settings

    settings = load_settings(config, overrides)
    rows: list[dict[str, Any]] = []
    data = [f"{key}={Path(getattr(settings, key)).resolve()}" for key in ("train_data", "val_data")]
    files = [str(Path(config).resolve()), "--backbone", str(Path(backbone).resolve())]
    with tempfile.TemporaryDirectory() as scratch:
        for name, setting in (
            ("features computed", ()),
            ("features loaded", ()),
            ("no features", ("feature_views=0",)),
        ):
            folder = Path(scratch) / f"run{len(rows)}"
            folder.mkdir()
            arguments = [*files, *overrides, *data, "freeze=all", *setting]
            start = time.perf_counter()
            done = subprocess.run(
                [str(Path(sys.executable).with_name("mslab")), "transfer", *arguments],
                cwd=folder,
                env=os.environ | {"XDG_CACHE_HOME": scratch},
                capture_output=True,
                text=True,
            )
            if done.returncode:
                raise MslabError(
                    f"The run with {name} failed: {done.stderr.strip().splitlines()[0]}",
                    expected="a transfer that works outside this benchmark",
                    fix=f"mslab transfer {' '.join(arguments)}",
                )
            seconds = time.perf_counter() - start
            run = next((folder / "runs").iterdir())
            accuracy = json.loads((run / "manifest.json").read_text())["metrics"]["val_acc"]
            rows.append({"contender": name, "seconds": seconds, "val_acc": accuracy})
            progress(f"{name}: {seconds:.0f} s, val_acc {accuracy:.3f}")
    return [row | {"ratio": rows[-1]["seconds"] / row["seconds"]} for row in rows]


def table(rows: Sequence[dict[str, Any]]) -> str:
    grid = empty_table("head-only transfer, the entire command", ("", "seconds", "times as fast", "val_acc"))
    for row in rows:
        grid.add_row(row["contender"], f"{row['seconds']:.0f}", f"{row['ratio']:.1f}x", f"{row['val_acc']:.3f}")
    return render(grid)
