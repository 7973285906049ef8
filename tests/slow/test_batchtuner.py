"""The long tests of test_batchtuner.py."""

import json
from pathlib import Path

from helpers import cli


def test_real_steps_of_the_command_line(inside, three):
    Path("x.yaml").write_text("".join(f"{key}: {value}\n" for key, value in three.items()))
    done = cli("tune-batch", "x.yaml", "--most", 8, "--json", "-", "image_size=16", "stages=[[1, 8, 1]]")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["largest"] == 8 and [row["batch_size"] for row in result["tried"]] == [8]
    assert all(row["fits"] and row["images_per_s"] > 0 and row["memory"] > 50 * 2**20 for row in result["tried"])
    assert not Path("runs").exists()
