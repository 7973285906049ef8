"""The package's metadata: what mslab imports is required, what it reads is carried, one version everywhere."""

import ast
import re
import sys
from pathlib import Path

import pytest
from helpers import PROJECT
from ruamel.yaml import YAML

import mslab
from mslab.runtime.packages import PACKAGES

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PYPROJECT = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))
PACKAGE = PROJECT / "mslab"
OTHER_NAMES = {"PIL": "pillow", "sklearn": "scikit-learn", "ruamel": "ruamel.yaml"}  # import -> package
FOR_OTHERS = {"sqlalchemy", "python-multipart"}  # required by what Optuna and Starlette do for mslab, not imported
BY_NAME = set(PACKAGES)  # imported by name: mslab/runtime/packages.py


def name_of(requirement: str) -> str:
    """name_of("onnx<1.18") -> "onnx" """
    return re.split(r"[\[<>=!~; ]", requirement)[0].lower()


REQUIRED = {name_of(text) for text in PYPROJECT["project"]["dependencies"]}
EXTRAS = {
    extra: {name_of(text) for text in texts} for extra, texts in PYPROJECT["project"]["optional-dependencies"].items()
}


def imported() -> dict[str, str]:
    """What mslab imports of others -> a file that does."""
    found = {}
    for file in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            found |= {module.split(".")[0]: file.name for module in modules}
    return {name: file for name, file in found.items() if name not in sys.stdlib_module_names and name != "mslab"}


def test_all_that_mslab_imports_is_required_and_nothing_else():
    needed = {OTHER_NAMES.get(name, name).lower(): file for name, file in imported().items()}
    assert {name: file for name, file in needed.items() if name not in REQUIRED | EXTRAS["mindcv"]} == {}
    assert REQUIRED - set(needed) == FOR_OTHERS | BY_NAME - EXTRAS["openvino"]
    assert EXTRAS["openvino"] == {"openvino"} < BY_NAME


def test_the_extras_are_the_documented_ones_and_tests_need_none_of_the_plain_installation():
    assert set(EXTRAS) == {"dev", "docs", "gpu", "heic", "mindcv", "openvino"}
    assert not REQUIRED & (EXTRAS["dev"] | EXTRAS["docs"] | EXTRAS["gpu"])


@pytest.mark.parametrize("extra", ["", "dev", "docs", "heic", "mindcv", "openvino"])
def test_each_requirement_has_a_pinned_version(extra):
    lines = (PROJECT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {line.split("==")[0].lower() for line in lines if not line.startswith("#")}
    for name in (EXTRAS[extra] if extra else REQUIRED) - {"mslab"}:
        assert name.replace(".", "-") in pinned, name
    assert lines[2:] == sorted(lines[2:], key=lambda line: (line.split("==")[0], line))


def test_what_is_no_python_in_mslab_is_package_data():
    patterns = PYPROJECT["tool"]["setuptools"]["package-data"]["mslab"]
    carried = {file for pattern in patterns for file in PACKAGE.glob(pattern)}
    others = [file for file in PACKAGE.rglob("*") if file.is_file() and "__pycache__" not in file.parts]
    assert [str(file) for file in others if file.suffix != ".py" and file not in carried] == []
    assert all(any(PACKAGE.glob(pattern)) for pattern in patterns), "a pattern that matches nothing"


def test_the_build_carries_what_mslab_new_reads():
    tree = ast.parse((PROJECT / "setup.py").read_text(encoding="utf-8"))
    values = {node.targets[0].id: node.value for node in tree.body if isinstance(node, ast.Assign)}
    folders, kinds = ast.literal_eval(values["CARRIED"]), ast.literal_eval(values["KINDS"])
    assert folders == {"configs": "configs", "docs/labs": "notebooks"}  # mslab/experiments/lab.py reads these names
    for folder in folders:
        files = [file for file in (PROJECT / folder).rglob("*") if file.is_file()]
        left_out = [f.name for f in files if f.suffix not in kinds and ".ipynb_checkpoints" not in f.parts]
        assert files and not left_out
    assert not (PACKAGE / "lab").exists(), "a second copy of the files, which a checkout would read"


def test_the_licence_and_the_readme_are_the_projects_own():
    project = PYPROJECT["project"]
    assert project["license-files"] == ["LICENSE"] and project["license"] == "Apache-2.0"
    assert (PROJECT / "LICENSE").read_text(encoding="utf-8").split()[:2] == ["Apache", "License"]
    assert (PROJECT / project["readme"]).read_text(encoding="utf-8").startswith("# mslab\n")


def test_one_version():
    assert "version" not in PYPROJECT["project"] and PYPROJECT["project"]["dynamic"] == ["version"]
    assert PYPROJECT["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "mslab.__version__"}
    changes = (PROJECT / "CHANGELOG.md").read_text(encoding="utf-8")
    version, day = re.findall(r"^## \[(\S+)\] - (\S+)$", changes, re.MULTILINE)[0]
    citation = YAML(typ="safe", pure=True).load(Path(PROJECT / "CITATION.cff").read_text(encoding="utf-8"))
    assert version == citation["version"] == mslab.__version__
    assert day == str(citation["date-released"])
    assert citation["cff-version"] == "1.2.0" and citation["license"] == PYPROJECT["project"]["license"]
