"""Packages that run networks beside MindSpore: imported when they are needed, with one message if that fails."""

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

from mslab.errors import DeviceError, MslabError
from mslab.escaping import pip_install

# package: (a name in it without which it is no complete installation, what pip installs)
PACKAGES = {
    "onnx": ("helper", "onnx<1.18"),
    "onnxruntime": ("InferenceSession", "onnxruntime"),
    "openvino": ("Core", "mslab[openvino]"),
}


def package(name: str) -> ModuleType:
    """Import one of PACKAGES. Raises DeviceError if it is missing or broken."""
    needed, requirement = PACKAGES[name]
    try:
        module = importlib.import_module(name)
        if not hasattr(module, needed):  # the folder of a package that was removed, or a folder of this name
            raise ImportError(f"{next(iter(getattr(module, '__path__', [name])))} has no {needed}")
    except Exception as error:  # a package whose libraries are damaged raises other types than ImportError
        first_line = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise DeviceError(
            f"The package {name} cannot be imported: {first_line[:200]}.",
            expected="onnx to write ONNX graphs, onnxruntime or openvino to run them",
            fix=f"{pip_install(requirement)}; without it: engine: mindspore, and MINDIR files",
        ) from None
    return module


@contextmanager
def scikit_learn() -> Iterator[None]:
    """Around the imports of scikit-learn. Raises MslabError if it cannot be loaded: training does without it."""
    try:
        yield
    except (ImportError, OSError) as error:
        raise MslabError(
            f"scikit-learn cannot be loaded: {error}.",
            expected="a scikit-learn that works beside MindSpore; mslab doctor tries it",
            fix=pip_install("scikit-learn>=1.3", "scipy<1.18", "numpy<2"),
        ) from error
