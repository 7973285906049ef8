"""Networks as MINDIR and ONNX files: the checkpoint's logits for any number of images, or one clear message."""

import json
import os
import re
import shutil
import sys
import textwrap
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from helpers import PROJECT, cli
from PIL import Image
from plans import SIZE, write_checkpoint

from mslab import checkpoint, files, model
from mslab.errors import CheckpointError, DatasetError, DeviceError, MslabError
from mslab.evaluation import measuring
from mslab.inference import export, predicting
from mslab.inference import graphs as exported
from mslab.runtime import devices
from mslab.runtime.packages import package

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
KINDS = ["mindir", "onnx"]
PROFILES = [  # each option of a network's profile is in one of them; tests/slow has them separately
    {},
    {"stem": "small", "padding": "same"},
    {"block": "basic", "pool": "same", "eps": 1e-2, "outer_eps": 1e-1},
]


@pytest.fixture(scope="module")
def lone(once):
    """A checkpoint without a run. Do not modify."""

    def make(folder):
        devices.start("cpu", "pynative", 1)
        write_checkpoint(folder / "x.ckpt", hidden=5)

    return once("lone", make) / "x.ckpt"


@pytest.fixture(scope="module")
def graphs(parent, once):
    """best.mindir and best.onnx of the run, and the results of the exports. Do not modify."""

    def make(folder):
        results = {kind: export.export_run(parent, kind, folder / f"best.{kind}") for kind in KINDS}
        (folder / "results.json").write_text(json.dumps(results))

    folder = once("graphs", make)
    return folder, json.loads((folder / "results.json").read_text())


@pytest.fixture(scope="module")
def lone_graphs(lone, once):
    """The same for the checkpoint without a run: x.mindir and x.onnx."""

    def make(folder):
        results = {kind: export.export_run(lone, kind, folder / f"x.{kind}") for kind in KINDS}
        (folder / "results.json").write_text(json.dumps(results))

    folder = once("lone-graphs", make)
    return folder, json.loads((folder / "results.json").read_text())


def images(count: int, size: int = SIZE) -> np.ndarray:
    return np.random.default_rng(7).normal(size=(count, 3, size, size)).astype(np.float32)


def logits(source, x: np.ndarray) -> np.ndarray:
    """Logits of the network without compilation."""
    ms.set_context(mode=ms.PYNATIVE_MODE)
    return measuring.load_network(source).network(ms.Tensor(x)).asnumpy()


# --- the same logits -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", PROFILES, ids=str)
def test_an_onnx_file_reproduces_its_checkpoint_for_every_profile(profile, inside):
    write_checkpoint(inside / "x.ckpt", hidden=6 if "pool" in profile else 0, **profile)
    result = export.export_run("x.ckpt", "onnx")
    assert result["relative"] < 1e-5 and result["file"] == "x.onnx"  # MindSpore's logits, as a batch and singly
    onnx.checker.check_model(onnx.load("x.onnx"), full_check=True)
    _, info = exported.open_exported(Path("x.onnx"))
    assert info["profile"] == model.PROFILE | profile and info["class_names"] == ["a", "ü", "c"]


def test_an_onnx_file_accepts_any_number_of_images(lone, lone_graphs):
    file = lone_graphs[0] / "x.onnx"
    graph = onnx.load(file)
    sides = [d.dim_param or d.dim_value for d in graph.graph.input[0].type.tensor_type.shape.dim]
    assert sides == ["N", 3, SIZE, SIZE] and graph.opset_import[0].version == 13
    forward, _ = exported.open_exported(file)
    expected = logits(lone, images(5))
    for count in (1, 2, 5):
        np.testing.assert_allclose(forward(images(5)[:count]), expected[:count], rtol=1e-4, atol=1e-5)


def test_a_mindir_file_reproduces_its_checkpoint_and_is_beside_it(inside):
    source = write_checkpoint(inside / "x.ckpt", hidden=6, block="basic", padding="same", pool="same")
    result = export.export_run("x.ckpt", "mindir")
    assert result["relative"] < 1e-5 and result["file"] == "x.mindir"
    assert sorted(path.name for path in inside.iterdir()) == ["x.ckpt", "x.mindir"]
    _, info = exported.open_exported(Path("x.mindir"))
    assert b"resize_mode" not in Path("x.mindir").read_bytes()  # without it: crop
    assert info["resize_size"] == SIZE + 3 and info["checkpoint"] == files.sha256(source)


def test_the_first_layers_by_hand(inside):
    """Convolution and pool in NumPy, padded as needed: here projects differ without any error."""
    source = write_checkpoint(inside / "x.ckpt", padding="same", pool="same")
    export.export_run(source, "onnx", "x.onnx")
    graph = onnx.load("x.onnx")
    graph.graph.output.append(onnx.helper.make_tensor_value_info("pool.out", onnx.TensorProto.FLOAT, None))
    session = package("onnxruntime").InferenceSession(graph.SerializeToString())
    x, w = images(1)[0], {name: value.astype(np.float64) for name, value in checkpoint.read(source).tensors.items()}
    padded = np.pad(x, [(0, 0), (2, 3), (2, 3)])  # 40 -> 20 by 2: needs 19 * 2 + 7 - 40 = 5
    patches = np.lib.stride_tricks.sliding_window_view(padded, (7, 7), (1, 2))[:, ::2, ::2]
    maps = np.einsum("chwij,ocij->ohw", patches, w["conv1.weight"])
    scale = w["bn1.gamma"] / np.sqrt(w["bn1.moving_variance"] + 1e-5)
    maps = (maps - w["bn1.moving_mean"][:, None, None]) * scale[:, None, None] + w["bn1.beta"][:, None, None]
    maps = np.pad(np.maximum(maps, 0), [(0, 0), (0, 1), (0, 1)])  # 20 -> 10 by 2: needs 9 * 2 + 3 - 20 = 1
    pooled = np.lib.stride_tricks.sliding_window_view(maps, (3, 3), (1, 2))[:, ::2, ::2].max(axis=(3, 4))
    result = session.run(["pool.out"], {"images": x[None]})[0][0]
    np.testing.assert_allclose(result, pooled, rtol=1e-4, atol=1e-4)


def test_predict_gives_the_same_result_from_all_four(parent, graphs, squares):
    files = predicting.expand([str(squares / "three" / "test")])
    rows = []
    for source in (parent, parent / "checkpoints" / "best.ckpt", *(graphs[0] / f"best.{kind}" for kind in KINDS)):
        # 15 images: the last batch of 4 is padded
        predicted = list(predicting.predict(predicting.open_model(source, "cpu", 4), files))
        assert [row["class"] for row in predicted] == [row["class"] for row in rows[0]] if rows else True
        rows.append(predicted)
    tables = [np.array([list(row["probabilities"].values()) for row in predicted]) for predicted in rows]
    for probabilities in tables[1:]:
        np.testing.assert_allclose(probabilities, tables[0], atol=1e-5)


def test_the_summary_reports_the_comparison_and_the_difference(graphs, squares):
    for kind, result in graphs[1].items():
        assert result["images"] == 8 and result["of"] == f"images of {squares / 'three' / 'val'}"
        assert 0 <= result["relative"] < 1e-5 and result["bytes"] == (graphs[0] / f"best.{kind}").stat().st_size
        assert re.search(
            r"compared on 8 images of .*val, one by one and as a batch: logits differ by at most \d\.\de-\d+, "
            r"\d\.\de-\d+ of the largest$",
            export.summary(result),
        )


def test_a_checkpoint_without_a_run_is_compared_on_random_numbers_or_on_images_of_data(
    lone, lone_graphs, squares, inside
):
    folder, results = lone_graphs
    for result in results.values():
        assert result["of"] == "arrays of random numbers, as no validation images could be read"
    root = squares / "two"
    result = export.export_run(lone, "onnx", "y.onnx", root)
    assert result["of"] == f"images of {root}" and result["images"] == 8
    assert (folder / "x.onnx").read_bytes() == Path("y.onnx").read_bytes()


def doubled(x):
    return 2 * x


@pytest.mark.parametrize("kind", KINDS)
def test_equal_checkpoints_give_equal_bytes_after_any_earlier_graph(kind, lone, lone_graphs, inside):
    """tests/slow does it in another process, with other hashes."""
    shutil.copy(lone, "z.ckpt")
    ms.set_context(mode=ms.GRAPH_MODE)
    ms.jit(doubled)(ms.Tensor([1.0]))  # after a first graph, MindSpore numbers the names of further ones
    export.export_run("z.ckpt", kind)
    file = lone_graphs[0] / f"x.{kind}"
    assert file.read_bytes() == Path(f"z.{kind}").read_bytes()
    assert file.stat().st_mode & 0o444 == 0o444  # MindSpore writes 0400


def test_plain_mindspore_gives_other_bytes_and_refuses_a_path_with_a_space(lone, inside):
    network, x = measuring.load_network(lone).network, ms.Tensor(images(1))
    for name in ("a", "b"):
        ms.export(network, x, file_name=str(inside / name), file_format="MINDIR")
        network = measuring.load_network(lone).network
    assert Path("a.mindir").read_bytes() != Path("b.mindir").read_bytes()
    with pytest.raises(ValueError, match="is illegal"):
        ms.export(network, x, file_name=str(inside / "a b"), file_format="MINDIR")


def test_plain_mindspore_writes_no_onnx_file_of_this_network(lone, inside):
    network = measuring.load_network(lone).network
    with pytest.raises(Exception, match="not yet supported"):
        ms.export(network, ms.Tensor(images(1)), file_name=str(inside / "x"), file_format="ONNX")


def test_plain_mindspore_reads_the_file_and_the_entry_is_its_user_info(lone, lone_graphs):
    from mindspore.train.mind_ir_pb2 import ModelProto

    file = lone_graphs[0] / "x.mindir"
    expected = [logits(lone, x) for x in (images(3), images(2, 50))]
    ms.set_context(mode=ms.GRAPH_MODE)
    cell = ms.nn.GraphCell(ms.load(str(file)))
    for x, target in zip((images(3), images(2, 50)), expected, strict=True):
        np.testing.assert_allclose(cell(ms.Tensor(x)).asnumpy(), target, rtol=1e-4, atol=1e-5)
    texts = {entry.key: entry.value for entry in ModelProto.FromString(file.read_bytes()).user_info}
    assert set(texts) == {"mslab", "mslab_sha256"} and json.loads(texts["mslab"])["class_names"] == ["a", "ü", "c"]


def test_an_exported_onnx_file_is_a_source_of_weights_with_its_profile(inside):
    source = write_checkpoint(inside / "x.ckpt", hidden=6, padding="same", eps=1e-3)
    export.export_run(source, "onnx")
    first, second = checkpoint.read(source), checkpoint.read("x.onnx")
    second.check()
    assert second.profile == first.profile and second.hidden == 6 and second.class_names == ["a", "ü", "c"]
    for name, value in (first.backbone | first.head).items():
        assert np.array_equal((second.backbone | second.head)[name], value), name
    np.testing.assert_array_equal(logits("x.onnx", images(2)), logits(source, images(2)))


# --- the command -----------------------------------------------------------------------------------------------------


def test_from_the_command_line(parent, inside):
    (inside / "ä b").mkdir()  # MindSpore itself refuses such a path
    done = cli("export", parent, "--format", "mindir", "--out", "ä b/x.mindir", "--json", "-")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["file"] == "ä b/x.mindir" and result["sha256"] == files.sha256(Path("ä b/x.mindir"))
    exported.open_exported(Path("ä b/x.mindir"))
    done = cli("export", parent, "--format", "tflite")
    assert done.returncode == 2 and "--format tflite: expected mindir or onnx" in done.stderr


def test_an_unusable_target_is_refused_before_anything_is_done(lone, inside):
    Path("there.onnx").touch()
    for kind, out, text in [
        (
            "onnx",
            "there.onnx",
            "there.onnx already exists.\n  expected  a new file; nothing is overwritten",
        ),
        ("onnx", "there.onnx/x.onnx", "there.onnx/x.onnx cannot be written: there.onnx is a file"),
        ("onnx", "x.mindir", "x.mindir: the suffix is .mindir, but the format is onnx."),
        ("onnx", "x", "x: the suffix is missing, but the format is onnx."),
        ("tflite", "x.tflite", "x.tflite: the suffix is .tflite, but the format is tflite."),
    ]:
        with pytest.raises(MslabError) as caught:
            export.export_run(lone, kind, out)
        assert str(caught.value).startswith(text), text
    assert "one of the formats mindir, onnx" in str(caught.value) and "--format onnx" in str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
def test_a_graph_with_other_logits_gets_no_name(kind, lone, inside, monkeypatch):
    writer = export.WRITERS[kind]

    def wrong(loaded):
        head = loaded.network.head.classifier
        saved = head.weight.asnumpy()
        head.weight.set_data(ms.Tensor(saved * np.float32(1.01)))
        graph = writer(loaded)
        head.weight.set_data(ms.Tensor(saved))
        return graph

    monkeypatch.setitem(export.WRITERS, kind, wrong)
    with pytest.raises(CheckpointError) as caught:
        export.export_run(lone, kind, f"x.{kind}")
    text = str(caught.value)
    assert f"The graph for x.{kind} does not reproduce {lone}: on 8 arrays of random numbers" in text
    assert "differ by at most 0.001 of the largest one" in text and "no file was written" in text
    assert list(inside.iterdir()) == []


def test_nan_is_a_difference():
    right, x = np.ones((2, 3), np.float32), np.zeros((2, 3, 4, 4), np.float32)
    for size in (1, 2):  # NaN for single images, NaN for a batch
        result = export.compare(
            lambda x: right[: len(x)], lambda x, size=size: right[: len(x)] * (np.nan if len(x) == size else 1), x
        )
        assert not result["relative"] <= export.TOLERANCE
    assert export.compare(lambda x: right[: len(x)], lambda x: right[: len(x)] * 1.5, x)["relative"] == 0.5


def test_too_many_weights_are_refused(lone, inside, monkeypatch):
    monkeypatch.setattr(export, "MAX_WEIGHTS", 2**10)
    with pytest.raises(CheckpointError, match="GiB of weights") as caught:
        export.export_run(lone, "mindir", "x.mindir")
    assert "more does not fit into one MINDIR or ONNX file" in str(caught.value)


def test_a_backbone_and_a_folder_without_images_are_refused(parent, lone, inside):
    with pytest.raises(CheckpointError, match="is a backbone without a head"):
        export.export_run(parent / "checkpoints" / "best_backbone.ckpt", "onnx", "x.onnx")
    (inside / "none").mkdir()
    with pytest.raises(DatasetError):
        export.export_run(lone, "onnx", "x.onnx", inside / "none")
    assert not Path("x.onnx").exists()


# --- files that cannot be used ---------------------------------------------------------------------------------------


def refusal(path: str | Path) -> str:
    with pytest.raises(MslabError) as caught:
        exported.open_exported(Path(path))
    assert "\n  expected  " in str(caught.value) and "\n  fix       " in str(caught.value)
    return str(caught.value)


def test_the_message_for_a_missing_file_lists_files_in_the_folder(graphs):
    text = refusal(graphs[0] / "bets.onnx")
    assert text.startswith(f"{graphs[0] / 'bets.onnx'} does not exist.")
    assert str(graphs[0] / "best.mindir") in text and str(graphs[0] / "best.onnx") in text
    assert "or: mslab export RUN --format onnx" in refusal("no/where.onnx")


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_file_is_never_run(kind, graphs, inside):
    content, path = (graphs[0] / f"best.{kind}").read_bytes(), inside / f"x.{kind}"
    changed = bytearray(content)
    changed[len(content) // 2] ^= 1
    for damaged, reason in [
        (b"", "it has 0 bytes"),
        (content[:-1], "it is cut off"),
        (content[: len(content) // 2], "it is cut off"),
        (bytes(changed), "its bytes have changed since mslab wrote them"),
        (content + content[-82:], "its bytes have changed since mslab wrote them"),  # with its last pair twice
    ]:
        path.write_bytes(damaged)
        text = refusal(path)
        assert text.startswith(f"{path} cannot be used: {reason}"), text
        assert f"export it again: mslab export RUN --format {kind}" in text
    path.write_bytes(np.random.default_rng(0).bytes(5000))
    assert "cannot be used" in refusal(path) or "has no entry" in refusal(path)


def test_files_of_other_programs_have_their_own_messages(lone, inside):
    ms.export(
        measuring.load_network(lone).network,
        ms.Tensor(images(1)),
        file_name=str(inside / "x.mindir"),
        file_format="MINDIR",
    )
    text = refusal("x.mindir")
    assert text.startswith("x.mindir has no entry 'mslab': its class names and the preprocessing")
    assert "mslab export RUN --format mindir" in text
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Relu", ["x"], ["y"])],
        "g",
        [value("x", onnx.TensorProto.FLOAT, [1])],
        [value("y", onnx.TensorProto.FLOAT, [1])],
    )
    onnx.save(onnx.helper.make_model(graph), "x.onnx")
    assert "mslab convert x.onnx --to x.ckpt    and predict with that" in refusal("x.onnx")


def without_entry(kind: str, content: bytes):
    """(the model as its format's own package reads it, mslab's entry, removed from the model)."""
    from mindspore.train.mind_ir_pb2 import ModelProto

    model = onnx.load_model_from_string(content) if kind == "onnx" else ModelProto.FromString(content)
    pairs = model.metadata_props if kind == "onnx" else model.user_info
    info = json.loads(next(pair.value for pair in pairs if pair.key == "mslab"))
    del pairs[:]
    return model, info


@pytest.mark.parametrize("kind", KINDS)
def test_content_that_mslab_does_not_write_is_refused_even_with_a_correct_digest(kind, graphs, inside):
    """A file may be crafted: the digest protects against damage, these rules against everything else."""
    content, path = (graphs[0] / f"best.{kind}").read_bytes(), inside / f"x.{kind}"

    def after(change, entry=lambda info: info) -> str:
        model, info = without_entry(kind, content)
        change(model)
        path.write_bytes(exported.add_entry(model.SerializeToString(), entry(info)))
        return refusal(path)

    def same(model):
        pass

    def other_operator(model):
        if kind == "onnx":
            model.graph.node[3].op_type = "If"
        else:
            model.primitives[3].op_type = "Custom"

    def weights_elsewhere(model):
        tensor = model.graph.initializer[0] if kind == "onnx" else model.graph.parameter[0]
        tensor.ClearField("raw_data")
        if kind == "onnx":
            tensor.data_location = onnx.TensorProto.EXTERNAL
            tensor.external_data.add(key="location", value="/etc/passwd")
        else:
            tensor.external_data.location = "/etc/passwd"

    def wrong_size(model):
        (model.graph.initializer if kind == "onnx" else model.graph.parameter)[0].dims[0] += 1

    def functions(model):
        model.functions.add(name="f")

    def no_graph(model):
        model.ClearField("graph")

    operator = "If" if kind == "onnx" else "Custom"
    assert f"it has operators that no network of mslab needs: {operator}." in after(other_operator)
    assert "is stored in another file" in after(weights_elsewhere)
    assert "bytes and has" in after(wrong_size)
    assert "an unexpected field " in after(functions)
    assert "cannot be used" in after(no_graph)
    assert "its entry 'mslab' has no std" in after(same, lambda info: {k: v for k, v in info.items() if k != "std"})
    assert "an invalid value of mean.1" in after(same, lambda info: info | {"mean": [1.0, "x", 1.0]})
    assert "its entry 'mslab' has no class_names" in after(same, lambda info: info | {"class_names": []})


@pytest.mark.parametrize("kind", KINDS)
def test_a_graph_with_other_images_or_classes_is_reported_when_it_runs(kind, graphs, inside):
    model, info = without_entry(kind, (graphs[0] / f"best.{kind}").read_bytes())
    path = inside / f"x.{kind}"
    path.write_bytes(exported.add_entry(model.SerializeToString(), info | {"class_names": ["a", "b"]}))
    forward, _ = exported.open_exported(path)
    with pytest.raises(CheckpointError, match=r"its graph returns \(2, 3\) for 2 images and 2 classes"):
        forward(images(2, 32))
    with pytest.raises(CheckpointError, match=r"its graph does not run on images \(2, 4, 32, 32\)"):
        forward(np.zeros((2, 4, 32, 32), np.float32))


def test_without_the_packages_the_message_has_the_install_command(lone, graphs, inside, monkeypatch):
    for name in ("onnx", "onnxruntime"):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, name, None)
            with pytest.raises(DeviceError) as caught:
                export.export_run(lone, "onnx", "x.onnx")
            assert str(caught.value).startswith(f"The package {name} cannot be imported")
            requirement = {"onnx": "'onnx<1.18'", "onnxruntime": "onnxruntime"}[name]
            assert f"pip install {requirement}; without it: engine: mindspore, and MINDIR files" in str(caught.value)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert "The package onnxruntime cannot be imported" in refusal(graphs[0] / "best.onnx")
    exported.open_exported(graphs[0] / "best.mindir")


def test_the_message_for_a_file_without_read_permission_has_the_chmod_command(graphs, inside):
    shutil.copy(graphs[0] / "best.onnx", "x.onnx")
    exported.open_exported(Path("x.onnx"))
    Path("x.onnx").chmod(0)
    inside.chmod(0o755)
    root = os.geteuid() == 0  # root can read files of any mode
    if root:
        os.seteuid(65534)
    try:
        text = refusal("x.onnx")
    finally:
        if root:
            os.seteuid(0)
    assert "x.onnx cannot be read: Permission denied." in text and "chmod u+r x.onnx" in text


# --- outside mslab ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def open_model(parent):
    return predicting.open_model(parent, "cpu")


@pytest.mark.parametrize("size", [(130, 90), (47, 61), (32, 32), (20, 30)])
def test_the_example_of_the_docs_preprocesses_as_predict(size, open_model, graphs, inside, capsys):
    """Up to one grey level of 256. Pillow's usual resize would give other pixels, since it averages."""
    text = (PROJECT / "docs" / "export.md").read_text()
    code = textwrap.dedent(re.search(r"^    import json.+?(?=^\S)", text, re.M | re.S)[0])
    shutil.copy(graphs[0] / "best.onnx", "best.onnx")
    pixels = np.random.default_rng(3).integers(0, 256, (size[1] // 5, size[0] // 5, 3)).astype(np.uint8)
    Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC).save("photo.jpg")
    example, usual = {}, {}
    exec(code, example)
    exec(re.sub(r"image\.transform\(.+\)", "image.resize((w, h), Image.Resampling.BILINEAR)", code), usual)
    grey = 1 / 255 / np.float32(open_model.info["std"]).reshape(3, 1, 1)
    expected = measuring.load_network(open_model.path).preprocess("photo.jpg")
    assert np.abs((example["x"] - expected) / grey).max() < 1.01
    assert np.abs((usual["x"] - expected) / grey).max() > 5 or min(size) <= 32
    (row,) = predicting.predict(open_model, [Path("photo.jpg")])
    np.testing.assert_allclose(example["probabilities"], list(row["probabilities"].values()), atol=0.01)
    assert row["class"] in capsys.readouterr().out
