"""Messages of three parts, and MindSpore's errors in words that help."""

import ast
from pathlib import Path

import numpy as np
import pytest

from mslab import errors
from mslab.errors import ConfigError, MslabError, explain


def test_a_message_has_what_expected_and_fix_in_rows():
    error = ConfigError(
        "Two are wrong.", expected="better ones", fix="one\ntwo", details=[("a", "first"), ("long", "x")]
    )
    assert str(error) == (
        "Two are wrong.\n  a         first\n  long      x\n  expected  better ones\n  fix       one\n            two"
    )


def test_the_docstring_draws_every_error():
    classes = [
        name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, MslabError)
    ]
    assert len(classes) == 8
    for name in classes:
        assert name in errors.__doc__


def test_every_raise_in_the_kit_has_expected_and_fix():
    names = {name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, MslabError)}
    seen = 0
    for path in sorted(Path(errors.__file__).parent.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in names:
                if path.name == "demo.py" and isinstance(node.args[0], ast.Call):
                    continue  # passes another error's three parts on
                given = {keyword.arg for keyword in node.keywords}
                assert {"expected", "fix"} <= given, f"{path.name}:{node.lineno}"
                seen += 1
    assert seen > 20


def test_an_unknown_error_is_not_explained():
    assert explain(ValueError("something else")) is None


def test_numpy_2_is_recognised():
    assert "NumPy" in str(explain(ImportError("numpy.core.multiarray failed to import")))


def test_a_rate_list_that_is_too_short_is_explained():
    import mindspore as ms
    from mindspore import nn, ops

    from mslab import runtime

    runtime.start("cpu", "graph", 1)
    weight = ms.Parameter(ms.Tensor(np.ones(2, np.float32)), name="w")
    optimizer = nn.Momentum([weight], learning_rate=[0.1, 0.1], momentum=0.9)
    with pytest.raises(Exception) as caught:
        for _ in range(4):
            optimizer((ops.ones_like(weight),))
            weight.asnumpy()
    text = str(explain(caught.value, "runs/x/train.log"))
    assert "learning-rate list ended" in text and "expected" in text and "runs/x/train.log" in text
