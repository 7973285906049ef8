"""The command line, `mslab watch` and a run in a notebook respond at once: none of them imports MindSpore."""

import re
import subprocess
import sys


def test_the_command_line_watching_and_a_run_in_a_notebook_need_no_mindspore(parent):
    script = (
        "import sys, mslab.cli, mslab.report.watching\n"
        "print([name for name in ('mindspore', 'matplotlib') if name in sys.modules])\n"
        f"run = mslab.Run({str(parent)!r})\nprint(repr(run))\nrun.history._repr_html_()\n"
        "run._repr_html_(), run.confusion, run.metrics\nprint('mindspore' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    before, run, after = done.stdout.splitlines()
    assert re.fullmatch(
        rf"Run .*{parent.name[-20:]}: 3 classes, 1 of 1 epochs, done; best val_acc \S+ in epoch 1, .*", run
    )
    assert (before, after) == ("[]", "False") and not done.stderr, done.stderr
