"""Pictures of a schedule and of augmented images."""

from pathlib import Path

from helpers import cli


def test_pictures_and_the_rate_finder_from_the_command_line(inside, three):
    Path("x.yaml").write_text("".join(f"{key}: {value}\n" for key, value in three.items()))
    done = cli("show", "x.yaml", "--schedule")
    assert done.returncode == 0 and "warmup_cosine" in done.stdout and Path("x-schedule.png").stat().st_size > 5000
    done = cli("show", "x.yaml", "--augment", "--out", "seen.png", "mixup_alpha=0.4")
    assert done.returncode == 0 and Path("seen.png").stat().st_size > 5000
    assert cli("show", "x.yaml", "--augment", "--schedule").returncode == 2
    assert cli("show", "--schedule").returncode == 2 and cli("show", "x.yaml", "--out", "a.png").returncode == 2
    assert cli("show", "x.yaml", "--schedule", "--out", "a.svg").returncode == 2
    assert not Path("runs").exists()
