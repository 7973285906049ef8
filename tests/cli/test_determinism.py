"""Calls that MindSpore allows only once in a process."""

import subprocess
import sys


def test_deterministic_is_set_once_though_runs_follow_each_other():
    code = (
        "import mslab; from mslab.runtime import devices\n"
        "for _ in range(2): devices.set_up([('set_deterministic', {'deterministic': True})])\n"
        "import mindspore as ms\n"
        "try: ms.set_deterministic(True)\n"
        "except RuntimeError as error: print('refused:', 'repeatedly' in str(error))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "refused: True\n", done.stderr
