"""mslab doctor on this machine, and on machines whose MindSpore does not start."""

import json
import re
from pathlib import Path

import pytest
from helpers import PROJECT, cli


def test_this_machine_can_train_and_json_is_one_document(inside):
    done = cli("doctor", "--json", "-")
    document = json.loads(done.stdout)  # exactly one document, nothing else
    assert done.returncode == 0, done.stdout
    assert (
        document["schema"] == 1
        and document["ok"]
        and set(document["facts"]["speed"]) >= {"convolution", "training step"}
    )
    assert set(document["findings"][0]) == {"level", "name", "text", "expected", "fix"}
    assert document["facts"]["device"] in ("cpu", "gpu", "ascend") and document["facts"]["here"] == str(Path.cwd())


@pytest.mark.parametrize(
    "body,text",
    [
        ("raise ImportError('numpy.core.multiarray failed to import')", "cannot use the installed NumPy"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGILL)", "ended by SIGILL"),
        ("raise SystemExit(3)", "ended with SystemExit: 3"),
    ],
)
def test_a_mindspore_that_does_not_start_is_exit_code_1_with_the_reason(inside, body, text):
    (inside / "site" / "mindspore").mkdir(parents=True)
    (inside / "site" / "mindspore" / "__init__.py").write_text(body)
    (inside / "site" / "mindspore" / "_c_expression.so").touch()  # as in every MindSpore
    path = f"{inside / 'site'}:{PROJECT}"
    done = cli("doctor", env={"PYTHONPATH": path})
    assert done.returncode == 1 and text in re.sub(r"\s+", " ", done.stdout) and "Traceback" not in done.stderr
    assert "training would fail or crawl here (1 error" in done.stdout
