"""mslab lr-find."""

from pathlib import Path

from helpers import cli, settings


def test_from_the_command_line_with_a_backbone(inside, squares, parent):
    config = settings(squares / "two", 2)
    Path("x.yaml").write_text("".join(f"{key}: {value}\n" for key, value in config.items()))
    done = cli("lr-find", "x.yaml", "--backbone", parent, "--steps", 40, "--out", "rate.png", "--json", "rate.json")
    assert done.returncode == 0, done.stderr
    assert "is a good first try" in done.stdout and Path("rate.png").is_file() and Path("rate.json").is_file()
    assert not Path("runs").exists()
