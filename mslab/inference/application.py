"""`mslab export --modelarts`: a network as the folder from which ModelArts makes an AI application (a model package).

FOLDER/model/ has model.onnx, config.json and customize_service.py, which ModelArts runs without mslab.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mslab import files
from mslab.checkpoint import NO_CHOICE, Choice
from mslab.data import placing
from mslab.inference import export
from mslab.runtime import targets

SERVICE = Path(__file__).with_name("customize_service.txt")  # no module of mslab: it runs on ModelArts, alone
# the engine whose image has Pillow and NumPy and takes code that loads what it likes; onnxruntime is added by pip
RUNTIME = {"model_type": "PyTorch", "runtime": "pytorch_1.8.0-cuda_10.2-py_3.7-ubuntu_18.04-x86_64"}
PACKAGES = {"onnxruntime": "1.8.0", "numpy": "1.19.0", "Pillow": "8.0.0"}  # the oldest that will do
# ModelArts takes a PyTorch package only with such a file; as its tmp.om of MindSpore packages, it is empty
PLACEHOLDER = "placeholder.pth"


def write(
    source: str | Path, out: str | Path, data: str | Path | None = None, choice: Choice = NO_CHOICE
) -> dict[str, Any]:
    """Write the folder of a run or a checkpoint. Returns what export.export_run returns, and `folder`.

    Raises MslabError, leaving no folder, if it exists or if the graph differs from the checkpoint.
    """
    target = Path(out)
    targets.refuse_folder(target, new=True, option="--modelarts")
    with placing.temporary_folder(target.parent) as folder:
        model = folder / target.name / "model"
        model.mkdir(parents=True)
        result = export.export_run(source, "onnx", model / "model.onnx", data, choice)
        files.write_text(model / "config.json", files.json_text(config()))
        files.write_text(model / "customize_service.py", SERVICE.read_text(encoding="utf-8"))
        (model / PLACEHOLDER).touch()
        model.parent.rename(target)
    return result | {"file": str(target / "model" / "model.onnx"), "folder": str(target)}


def config() -> dict[str, Any]:
    """config.json, as ModelArts' model package specifications have it."""
    score = {"type": "array", "minItems": 2, "maxItems": 2, "items": [{"type": "string"}, {"type": "number"}]}
    answers = {
        "predicted_label": {"type": "string"},
        "scores": {"type": "array", "items": [score]},
        "images": {"type": "array", "items": [{"type": "object", "properties": {}}]},
    }
    images = {"type": "object", "properties": {"images": {"type": "file"}}}
    api = {
        "url": "/",
        "method": "post",
        "request": {"Content-type": "multipart/form-data", "data": images},
        "response": {"Content-type": "application/json", "data": {"type": "object", "properties": answers}},
    }
    packages = [
        {"package_name": name, "package_version": version, "restraint": "ATLEAST"} for name, version in PACKAGES.items()
    ]
    dependencies = [{"installer": "pip", "packages": packages}]
    return {"model_algorithm": "image_classification"} | RUNTIME | {"apis": [api], "dependencies": dependencies}


def summary(result: Mapping[str, Any]) -> str:
    """The result of write as a message."""
    return (
        f"{export.summary(result)}\n{result['folder']}: copy it to OBS, and choose it in ModelArts where a model or an "
        f"AI application is created from OBS"
    )
