"""mslab show on the command line."""

import json

from helpers import cli


def test_show_on_the_command_line(three, tmp_path):
    config = tmp_path / "x.yaml"
    config.write_text(json.dumps(three))
    done = cli("show", config, "stages=[[1,8,1]]", "freeze=all")
    assert done.returncode == 0 and "(1, 32, 8, 8)" in done.stdout and "layer2" not in done.stdout, done.stderr
