"""Files of weights: compatible with plain MindSpore in both directions, exact, bounded, atomic."""

import struct
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from helpers import PROJECT, STAGES, full_after

from mslab import checkpoint, files, model
from mslab.errors import CheckpointError, MslabError


@pytest.fixture
def network():
    backbone = model.resnet50_backbone(STAGES)
    return model.ResNet50(backbone, model.resnet50_head(3, backbone.channels))


@pytest.fixture
def file(network, tmp_path):
    path = tmp_path / "net.ckpt"
    checkpoint.save(list(network.get_parameters()), path, {"class_names": ["a", "b", "ç"], "stages": STAGES})
    return path


def values(cell):
    return {name: parameter.asnumpy() for name, parameter in cell.parameters_dict().items()}


def same(first, second):
    return first.keys() == second.keys() and all(np.array_equal(first[name], second[name]) for name in first)


def test_a_file_is_read_as_written(network, file):
    weights = checkpoint.read(file)
    assert same(weights.tensors, values(network)) and weights.class_names == ["a", "b", "ç"]
    assert file.stat().st_mode & 0o777 == 0o644  # MindSpore itself writes 0400


def test_equal_weights_give_equal_bytes(network, file, tmp_path):
    checkpoint.save(
        list(network.get_parameters()), tmp_path / "other.ckpt", {"stages": STAGES, "class_names": ["a", "b", "ç"]}
    )
    assert (tmp_path / "other.ckpt").read_bytes() == file.read_bytes()


def test_plain_mindspore_loads_a_backbone_in_two_lines(network, tmp_path):
    checkpoint.save(list(network.backbone.get_parameters()), tmp_path / "best_backbone.ckpt", {"a": 1})

    backbone = model.resnet50_backbone(STAGES)
    ms.load_checkpoint(str(tmp_path / "best_backbone.ckpt"), backbone)

    assert same(values(backbone), values(network.backbone))


def test_a_file_of_plain_mindspore_loads_here(network, tmp_path):
    ms.save_checkpoint(network, str(tmp_path / "plain.ckpt"))
    weights = checkpoint.read(tmp_path / "plain.ckpt")
    assert same(weights.tensors, values(network)) and weights.info == {} and weights.class_names == ["0", "1", "2"]


def test_every_type_and_a_tensor_in_several_pieces(tmp_path, monkeypatch):
    import mindspore.train.serialization as serialization

    monkeypatch.setattr(serialization, "SLICE_SIZE", 1)  # KiB; outside of tests a piece is 512 MiB
    types = ["float32", "float16", "float64", "int8", "uint8", "int16", "int32", "int64", "bool"]
    expected = {name: np.arange(6).reshape(2, 3).astype(name) for name in types}
    expected |= {"scalar": np.array(3, np.int32), "large": np.arange(3000, dtype=np.float32).reshape(30, 100)}
    ms.save_checkpoint([{"name": n, "data": ms.Tensor(v)} for n, v in expected.items()], str(tmp_path / "x.ckpt"))
    read = checkpoint.read(tmp_path / "x.ckpt").tensors
    assert same(read, expected) and all(read[name].dtype == expected[name].dtype for name in expected)


def test_a_file_of_the_oldest_and_the_newest_mindspore():
    """Written by tests/data/make_mindspore.py with 2.7.0 and with 2.10.0: the same bytes."""
    weights = checkpoint.read(PROJECT / "tests" / "data" / "mindspore.ckpt")
    types = ["float32", "float16", "float64", "int8", "uint8", "int16", "int32", "int64", "bool"]
    expected = {name: np.arange(6).reshape(2, 3).astype(name) for name in types}
    expected |= {"bfloat16": np.arange(6, dtype=np.float32).reshape(2, 3), "scalar": np.array(3, np.int32)}
    expected["large"] = np.arange(3000, dtype=np.float32).reshape(30, 100)
    tensors = {name: value for name, value in weights.tensors.items() if name != "epoch"}
    assert same(tensors, expected) and all(tensors[name].dtype == expected[name].dtype for name in expected)
    assert weights.info == {"schema": 1} and weights.tensors["epoch"] == 3


def test_a_file_with_mindspores_checksum(network, tmp_path):
    ms.save_checkpoint(network, str(tmp_path / "crc.ckpt"), crc_check=True)
    assert b"crc_num" in (tmp_path / "crc.ckpt").read_bytes()[-17:]
    assert same(checkpoint.read(tmp_path / "crc.ckpt").tensors, values(network))


def test_loading_reports_its_count(network, file):
    fresh = model.ResNet50(model.resnet50_backbone(STAGES), model.resnet50_head(3, 32))
    text = checkpoint.load_exactly(fresh.parameters_dict(), checkpoint.read(file).tensors, file, "network")
    assert text == f"network: 47 of 47 tensors from {file}" and same(values(fresh), values(network))


def test_the_original_labs_prefix_is_removed(network, tmp_path):
    entries = [{"name": f"backbone.{p.name}", "data": p} for p in network.backbone.get_parameters()]
    ms.save_checkpoint(entries, str(tmp_path / "lab.ckpt"))
    weights = checkpoint.read(tmp_path / "lab.ckpt")
    assert same(weights.backbone, values(network.backbone)) and weights.head == {} and weights.stages == STAGES


def test_a_mismatch_lists_each_tensor_and_assigns_nothing(network, file):
    tensors = dict(checkpoint.read(file).tensors)
    tensors["layer1.0.conv9.weight"] = tensors.pop("layer1.0.conv1.weight")
    tensors["classifier.weight"] = np.zeros((9, 32), np.float32)
    before = {name: value.copy() for name, value in values(network).items()}
    tensors["conv1.weight"] = tensors["conv1.weight"] + 1
    with pytest.raises(CheckpointError) as caught:
        checkpoint.load_exactly(network.parameters_dict(), tensors, file, "network")
    text = str(caught.value)
    assert "missing" in text and "layer1.0.conv1.weight (8, 64, 1, 1)" in text
    assert "unknown" in text and "layer1.0.conv9.weight" in text
    assert "classifier.weight is (9, 32) in the file, (3, 32) in the network" in text and "expected" in text
    assert same(values(network), before)


def test_plain_mindspore_accepts_a_file_with_no_matching_name(network):
    param = {"nothing.like.it": ms.Parameter(ms.Tensor(np.zeros(3, np.float32)), name="nothing.like.it")}
    missing, _ = ms.load_param_into_net(network, param)  # no exception, so mslab compares the names
    assert len(missing) == 47


@pytest.mark.parametrize(
    "name,text",
    [
        ("layer1.0.norm1.gamma", "another kind of ResNet"),
        ("layer9.0.conv1.weight", "another kind of ResNet"),
        ("features.0", "of another network"),
    ],
)
def test_a_mismatch_reports_the_likely_cause(network, name, text):
    with pytest.raises(CheckpointError, match=text):
        checkpoint.load_exactly(network.parameters_dict(), {name: np.zeros(1, np.float32)}, Path("x.ckpt"), "network")


def test_a_nine_class_head_is_recognised(network, file, tmp_path):
    nine = model.ResNet50(model.resnet50_backbone(STAGES), model.resnet50_head(9, 32))
    checkpoint.save(list(nine.get_parameters()), tmp_path / "nine.ckpt", {})
    with pytest.raises(CheckpointError) as caught:
        checkpoint.load_exactly(
            network.parameters_dict(), checkpoint.read(tmp_path / "nine.ckpt").tensors, file, "network"
        )
    text = str(caught.value)
    assert "classifier.weight is (9, 32) in the file, (3, 32) in the network" in text
    assert "its head has 9 classes, the network 3" in text and "mslab train --from preserves the rows" in text


def test_an_optimizers_file_is_recognised(network, tmp_path):
    tensors = {f"moments.{name}": value for name, value in values(network).items()}
    with pytest.raises(CheckpointError, match=r"only an optimizer's tensors; use best\.ckpt"):
        checkpoint.load_exactly(network.parameters_dict(), tensors, tmp_path / "x.ckpt", "network")


def test_files_that_are_not_checkpoints(tmp_path):
    for content, problem in {
        b"": "is not a complete",
        b"text, not weights": "is a text file",
        b"\x80\x04pickle": "is a bare pickle",
        b"PK\x03\x04zip": "is not a complete",
        b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7f": "is not a complete",
    }.items():
        (tmp_path / "x.ckpt").write_bytes(content)
        with pytest.raises(CheckpointError, match=problem):
            checkpoint.read(tmp_path / "x.ckpt")
    with pytest.raises(CheckpointError, match="is a folder"):
        checkpoint.read(tmp_path)
    with pytest.raises(CheckpointError, match=r"There is no file .*y.ckpt") as caught:
        checkpoint.read(tmp_path / "y.ckpt")
    assert "x.ckpt" not in str(caught.value)  # it has no weights
    checkpoint.save_arrays({"conv1.weight": np.zeros((1, 3, 7, 7), np.float32)}, tmp_path / "z.ckpt", {})
    with pytest.raises(CheckpointError, match=r"y.ckpt(.|\n)*z.ckpt"):
        checkpoint.read(tmp_path / "y.ckpt")


def test_a_file_truncated_anywhere_is_refused(file, tmp_path):
    content, cut = file.read_bytes(), tmp_path / "cut.ckpt"
    complete = set(checkpoint.read(file).tensors)
    for end in range(1, len(content), 1000):
        cut.write_bytes(content[:end])
        try:
            read = checkpoint.read(cut).tensors  # truncated exactly between two entries: valid, with fewer tensors
        except CheckpointError:
            continue
        assert set(read) < complete


def test_sizes_that_disagree_with_the_bytes_are_refused(tmp_path):
    def entry(dims, payload):
        tensor = (
            b"".join(b"\x08" + bytes([dim]) for dim in dims) + b"\x12\x07Float32\x1a" + bytes([len(payload)]) + payload
        )
        value = b"\x0a\x01w\x12" + bytes([len(tensor)]) + tensor
        return b"\x0a" + bytes([len(value)]) + value

    path = tmp_path / "x.ckpt"
    path.write_bytes(entry([2], struct.pack("<2f", 1, 2)))
    assert checkpoint.read(path).tensors["w"].tolist() == [1, 2]
    path.write_bytes(entry([127, 127], struct.pack("<2f", 1, 2)))  # MindSpore would read 64 KiB out of 8 bytes
    with pytest.raises(CheckpointError, match="needs 64516 bytes and has 8"):
        checkpoint.read(path)
    path.write_bytes(entry([2], struct.pack("<2f", 1, 2)) + entry([1], struct.pack("<f", 1)))
    with pytest.raises(CheckpointError, match="it contains w twice"):
        checkpoint.read(path)


def test_a_full_disk_leaves_the_earlier_file_and_the_message_says_so(file, tmp_path):
    """A limit on the size of files acts as a full disk: the system enforces it in the middle of the write."""
    table = tmp_path / "history.csv"
    table.write_text("epoch\n")
    before = file.read_bytes()
    with full_after(50_000):
        with pytest.raises(MslabError) as weights:
            checkpoint.save_arrays({"w": np.zeros(100_000, np.float32)}, file, {})
        with pytest.raises(MslabError) as text:
            files.write_text(table, "x" * 100_000)
    for path, caught in ((file, weights), (table, text)):
        assert f"{path} could not be written: File too large" in str(caught.value)
        assert "the earlier file is unchanged" in str(caught.value)
    assert file.read_bytes() == before and table.read_text() == "epoch\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["history.csv", "net.ckpt"]


def test_a_reader_with_the_earlier_file_open_can_still_read_it(network, file):
    before = file.read_bytes()
    with file.open("rb") as reader:
        checkpoint.save(list(network.get_parameters()), file, {"class_names": ["x", "y", "z"], "stages": STAGES})
        assert reader.read() == before != file.read_bytes()


def test_a_failed_write_leaves_the_earlier_file(file, tmp_path):
    before = file.read_bytes()

    def write(out):
        out.write(b"half")
        raise OSError("no space left")

    with pytest.raises(MslabError, match="could not be written: no space"):
        files.replace_atomically(file, write)
    assert file.read_bytes() == before and [path.name for path in tmp_path.iterdir()] == ["net.ckpt"]
