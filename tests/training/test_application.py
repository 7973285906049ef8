"""mslab export --modelarts: the folder as ModelArts wants it, and its code where there is no mslab."""

import ast
import json
import subprocess
import sys

import jsonschema
import numpy as np
import pytest
from helpers import cli
from PIL import Image

from mslab.data import augment
from mslab.errors import CheckpointError, MslabError
from mslab.evaluation import measuring
from mslab.inference import application, export, predicting

STUB = '''
class PTServingBaseService:
    """As ModelArts' own: it keeps both and calls the three methods after each other."""
    def __init__(self, model_name, model_path):
        self.model_name, self.model_path = model_name, model_path
    def inference(self, data):
        return self._postprocess(self._inference(self._preprocess(data)))
'''
CALL = """
import base64, io, json, sys
sys.path[:0] = ["stub", "out/model"]
import customize_service
service = customize_service.MslabService("resnet", "/home/mind/model/placeholder.pth")
names = json.load(open("names.json"))
contents = {name: open(name, "rb").read() for name in names}
form = {"images": {name: io.BytesIO(contents[name]) for name in names}}
text = base64.b64encode(contents[names[0]]).decode()
requests = [form, {"images": text}, {"images": ["data:image/png;base64," + text, "no base64", 5]},
            [{"a": {"x": io.BytesIO(contents[names[0]])}}, {"b": {"y": io.BytesIO(b"")}}], {}, {"images": [text] * 17}]
for request in requests:
    print(json.dumps(service.inference(request)))
assert not {"mslab", "mindspore"} & set(sys.modules), "the code stands alone"
"""


@pytest.fixture(scope="module")
def made(parent, once):
    """The folder `out` of a run. Do not modify."""
    return once("application", lambda folder: application.write(parent, folder / "out")) / "out"


@pytest.fixture(scope="module")
def answers(made, tmp_path_factory):
    """(answers of the code in a process without mslab, {file: what mslab predict says})."""
    folder = tmp_path_factory.mktemp("alone")
    (folder / "out").symlink_to(made)
    (folder / "stub" / "model_service").mkdir(parents=True)
    (folder / "stub" / "model_service" / "__init__.py").touch()
    (folder / "stub" / "model_service" / "pytorch_model_service.py").write_text(STUB)
    coarse = np.random.default_rng(0).integers(0, 255, (9, 7, 3), np.uint8)
    image = Image.fromarray(coarse).resize((131, 97), Image.Resampling.BICUBIC)
    turned = Image.Exif()
    turned[274] = 6
    files = {
        "rgb.png": (image, {}),
        "alpha.png": (image.convert("RGBA"), {}),
        "grey.bmp": (image.convert("L"), {}),
        "palette.png": (image.convert("P"), {}),
        "wide.png": (image.convert("L").convert("I").point(lambda value: value * 200).convert("I;16"), {}),
        "photo.jpg": (image, {"quality": 90}),
        "turned.jpg": (image.transpose(Image.Transpose.ROTATE_90), {"exif": turned}),
        "scan.tiff": (image.resize((40, 300)), {}),
        "tiny.png": (image.resize((9, 5)), {}),
    }
    for name, (content, options) in files.items():
        content.save(folder / name, **options)
    (folder / "cut.jpg").write_bytes((folder / "photo.jpg").read_bytes()[:300])
    (folder / "text.png").write_text("no image")
    Image.new("L", (1000, 2)).save(folder / "long.png")
    names = [*files, "cut.jpg", "text.png", "long.png"]
    (folder / "names.json").write_text(json.dumps(names))
    command = [sys.executable, "-I", "-B", "-c", CALL]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    model = predicting.open_model(made / "model" / "model.onnx", "cpu", 1)
    rows = dict(zip(names, predicting.predict(model, [folder / name for name in names]), strict=True))
    return [json.loads(line) for line in done.stdout.splitlines()], rows


def test_the_code_answers_as_mslab_predict_where_there_is_no_mslab(answers):
    (form, *_), expected = answers
    assert [row["file"] for row in form["images"]] == list(expected) and "predicted_label" not in form
    for row in form["images"]:
        own = expected[row["file"]]
        assert row["class"] == own["class"] and bool(row["error"]) == bool(own["error"]), (row, own)
        if not row["error"]:
            assert row["probabilities"] == pytest.approx(own["probabilities"], abs=1e-6), row["file"]
    errors = [row["error"] for row in form["images"][-3:]]
    assert errors[1].startswith("unreadable: cannot identify") and errors[2].startswith("elongated: 1000x2")


def test_json_in_base64_lists_and_mistakes_are_answered(answers):
    (form, single, several, parts, empty, many), _ = answers
    (row,) = single["images"]
    assert row["probabilities"] == form["images"][0]["probabilities"] and single["predicted_label"] == row["class"]
    assert single["scores"][0] == [row["class"], row["probability"]] and len(single["scores"]) == 3
    assert [bool(row["error"]) for row in several["images"]] == [False, True, True]
    assert [(row["file"], bool(row["error"])) for row in parts["images"]] == [("x", False), ("y", True)]
    for refused, count in ((empty, 0), (many, 17)):
        assert refused["error"] == f"The request has {count} images." and refused["expected"] and refused["fix"]


@pytest.mark.parametrize("mode", ["crop", "pad", "squash"])
def test_its_pixels_are_those_of_an_evaluation(mode):
    names: dict = {"__file__": "x"}
    code = application.SERVICE.read_text(encoding="utf-8")
    exec(code.replace("from model_service.pytorch_model_service import", "PTServingBaseService = object #"), names)
    rng = np.random.default_rng(0)
    shapes = ((5, 7, 64), (128, 128, 64), (97, 131, 40), (300, 41, 64), (64, 90, 64), (640, 481, 224))
    service = object.__new__(names["MslabService"])
    service.entry = {"mean": [0.1, 0.5, 0.9]} | ({} if mode == "crop" else {"resize_mode": mode})
    for height, width, size in shapes:
        image = rng.integers(0, 256, (height, width, 3), np.uint8)
        expected = augment.eval_transforms(size, service.entry["mean"], [1, 1, 1], mode=mode)[1](image)
        assert (service.whole(image, size) == expected).all(), (height, width, size)


def test_the_folder_is_a_model_package(made, answers):
    """https://support.huaweicloud.com/intl/en-us/inference-modelarts/inference-modelarts-0055.html and -0056.html"""
    files = ["config.json", "customize_service.py", "model.onnx", "placeholder.pth"]
    assert sorted(path.name for path in (made / "model").iterdir()) == files and len(list(made.iterdir())) == 1
    config = json.loads((made / "model" / "config.json").read_text())
    assert {"model_algorithm", "model_type", "runtime", "apis", "dependencies"} == config.keys()
    (api,) = config["apis"]
    assert (api["url"], api["method"], config["model_type"]) == ("/", "post", "PyTorch")
    schema = api["response"]["data"]
    for name, item in schema["properties"].items():  # `items` is a list there: one schema of each item
        schema["properties"][name] = item | ({"items": item["items"][0]} if "items" in item else {})
    scores = schema["properties"]["scores"]["items"]
    scores["prefixItems"] = scores.pop("items")
    for answer in answers[0][:4]:
        jsonschema.validate(answer, schema)
    for package in config["dependencies"][0]["packages"]:
        assert package["restraint"] in ("EXACT", "ATLEAST", "ATMOST") and package["package_version"]


def test_the_code_knows_all_preprocessing():
    """A new key here has to be used in customize_service.txt, too."""
    assert set(measuring.PREPROCESSING) == {"image_size", "mean", "std", "resize_size", "resize_mode"}
    code = application.SERVICE.read_text(encoding="utf-8")
    assert all(f'"{key}"' in code for key in measuring.PREPROCESSING)
    ast.parse(code, feature_version=(3, 7))  # of the runtime that config.json names


def test_an_existing_folder_and_a_graph_that_differs_leave_nothing_half_made(made, parent, tmp_path, monkeypatch):
    with pytest.raises(MslabError, match="already exists"):
        application.write(parent, made)
    monkeypatch.setattr(export, "TOLERANCE", -1)
    with pytest.raises(CheckpointError, match="does not reproduce"):
        application.write(parent, tmp_path / "new" / "out")
    assert list(tmp_path.iterdir()) == []


def test_the_command_says_what_to_do_with_the_folder(parent, tmp_path):
    done = cli("export", parent, "--modelarts", tmp_path / "out", "--data", tmp_path)
    assert done.returncode == 1 and not (tmp_path / "out").exists()
