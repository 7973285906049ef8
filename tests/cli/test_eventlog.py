"""Tests that need a separate process: the order of imports with tensorboardX, and that training does not import it."""

import os
import subprocess
import sys

import pytest


@pytest.mark.parametrize("first,text", [("sys", "Descriptors cannot be created directly"), ("mslab", "")])
def test_tensorboardx_before_mindspore_breaks_mindspores_import_unless_mslab_is_first(first, text):
    script = f"import {first}, tensorboardX, mindspore, mslab.training.loop as loop, sys; "
    script += "print('mslab.training.eventlog' in sys.modules)"
    environment = {k: v for k, v in os.environ.items() if k != "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
    assert (text in done.stderr) if text else (done.returncode, done.stdout) == (0, "False\n"), done.stderr
