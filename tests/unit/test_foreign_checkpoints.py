"""Files of other programs: the network in them is found, what stands beside it is left out, nothing of theirs runs."""

import argparse
import collections
import datetime
import enum
import io
import os
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
from helpers import PROJECT, cli
from torch_files import Saved, saved, stand_ins, torch_file

from mslab import checkpoint
from mslab.checkpoint import Choice, dialects, writing
from mslab.errors import CheckpointError

PLAIN = checkpoint.read(PROJECT / "tests" / "data" / "torch.pth")
TORCH = PLAIN.tensors  # torchvision's names
OWN = PLAIN.backbone | PLAIN.head
TWICE = {name: value * 2 for name, value in TORCH.items()}


class Mode(enum.Enum):
    TRAIN = 1


class Harmful:
    def __reduce__(self):
        return os.system, ("touch was-here",)


def written(path, tensors, info=None):
    checkpoint.save_arrays(tensors, path, info or {})
    if not info:  # as MindSpore writes it, without the entry
        path.write_bytes(path.read_bytes()[: path.read_bytes().rindex(b"\x0a\x05mslab") - 2])
    return path


def plain(tensors, path):
    """Write a .safetensors without metadata."""
    writing.save_safetensors(tensors, path, {})
    return path


def is_the_network(weights, factor=1):
    weights.check()
    read = weights.backbone | weights.head
    return read.keys() == OWN.keys() and all(np.array_equal(read[name], OWN[name] * factor) for name in OWN)


def prefixed(prefix, tensors=TORCH):
    return {prefix + name: value for name, value in tensors.items()}


# --- wrappers and heads ----------------------------------------------------------------------------------------------


PREFIXES = ["module.", "module._orig_mod.", "encoder.", "model.", "student.", "net.module.", "a.b.c.d.", "ResNet."]


@pytest.mark.parametrize("prefix", [*PREFIXES, "_fsdp_wrapped_module."])
def test_any_prefix_that_all_names_share_is_removed(prefix, tmp_path):
    weights = checkpoint.read(plain(prefixed(prefix), tmp_path / "x.safetensors"))
    assert is_the_network(weights) and weights.choices == []


@pytest.mark.parametrize(
    "backbone, head",
    [
        ("backbone.", "head.fc."),
        ("model.backbone.", "model.head."),
        ("", "fc.1."),
        ("", "last_linear."),
        ("", "linear."),
        ("module.backbone.", "module.cls_head.fc."),
        ("encoder.", "classifier."),
        ("net.", "net.head.classifier."),
    ],
)
def test_the_head_is_found_beside_the_backbone_or_a_level_above(backbone, head, tmp_path):
    renamed = {
        f"{head}{name[3:]}" if name.startswith("fc.") else f"{backbone}{name}": value for name, value in TORCH.items()
    }
    assert is_the_network(checkpoint.read(plain(renamed, tmp_path / "x.safetensors")))


@pytest.mark.parametrize("prefix, word", [("", "new_fc"), ("net.", "my_head")])
def test_the_only_linear_layer_after_the_backbone_is_the_head_whatever_its_name(prefix, word, tmp_path):
    renamed = {f"{prefix}{name.replace('fc.', f'{word}.')}": value for name, value in TORCH.items()}
    weights = checkpoint.read(plain(renamed, tmp_path / "x.safetensors"))
    assert is_the_network(weights) and [text.partition(":")[0] for text in weights.choices] == [
        f"{prefix}{word} taken as the head"
    ]
    two = renamed | {f"{prefix}other.{kind}": TORCH[f"fc.{kind}"] for kind in ("weight", "bias")}
    with pytest.raises(CheckpointError, match=r"unknown +other\.bias"):
        checkpoint.read(plain(two, tmp_path / "y.safetensors")).check()


def test_names_of_hugging_face_are_read(tmp_path):
    def renamed(name):
        name = name.replace("conv1.weight", "convolution.weight", 1) if name.startswith("conv1") else name
        if not name.startswith("layer"):
            name = name.replace("bn1.", "normalization.").replace("fc.", "classifier.1.")
            return name if name.startswith("classifier") else f"resnet.embedder.embedder.{name}"
        stage, block, part, rest = name.split(".", 3)
        part = "shortcut" if part == "downsample" else f"layer.{int(part[-1]) - 1}"
        is_conv = "conv" in name or rest.startswith("0.")
        rest = f"{'convolution' if is_conv else 'normalization'}.{rest.rpartition('.')[2]}"
        return f"resnet.encoder.stages.{int(stage[-1]) - 1}.layers.{block}.{part}.{rest}"

    weights = checkpoint.read(plain({renamed(n): v for n, v in TORCH.items()}, tmp_path / "x.safetensors"))
    assert weights.dialect.name == "huggingface" and is_the_network(weights)


@pytest.mark.parametrize("prefix, head", [("", "fc."), ("", "9."), ("features.", "fc."), ("encoder.0.", "encoder.2.")])
def test_a_network_that_was_cut_into_a_sequence_is_read(prefix, head, tmp_path):
    """nn.Sequential(*resnet.children()) has numbers for names."""
    numbers = {"conv1": "0", "bn1": "1", "layer1": "4", "layer2": "5"}
    renamed = {}
    for name, value in TORCH.items():
        first, _, rest = name.partition(".")
        renamed[f"{head}{rest}" if first == "fc" else f"{prefix}{numbers[first]}.{rest}"] = value
    weights = checkpoint.read(plain(renamed, tmp_path / "x.safetensors"))
    weights.check()
    assert weights.dialect.name == "sequential" and (is_the_network(weights) or head == "encoder.2.")
    assert all(np.array_equal(weights.backbone[name], value) for name, value in PLAIN.backbone.items())


# --- several networks in a file --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "first, second, key",
    [
        ("module.encoder_k.", "module.encoder_q.", "module.encoder_q"),
        ("model_ema.", "model.", "model"),
        ("target_network.", "online_network.", "online_network"),
    ],
)
def test_of_two_networks_the_trained_one_is_taken_and_the_choice_is_said(first, second, key, tmp_path):
    tensors = prefixed(first, TWICE) | prefixed(second) | {"module.queue": np.ones((2, 3), np.float32)}
    path = plain(tensors | {"loss.weight": np.ones(3, np.float32)}, tmp_path / "x.safetensors")
    weights, other = checkpoint.read(path), checkpoint.read(path, Choice(weights=first[:-1]))
    assert is_the_network(weights) and weights.choices == [
        f"weights of {key!r} taken; the file also has {first[:-1]!r} (--weights KEY)"
    ]
    assert other.choices == [f"weights of {first[:-1]!r} taken, as --weights says"]
    assert np.array_equal(other.backbone["conv1.weight"], 2 * OWN["conv1.weight"])
    with pytest.raises(CheckpointError, match="has no weights 'emma'") as caught:
        checkpoint.read(path, Choice(weights="emma"))
    assert f"expected  one of {key}, {first[:-1]}" in str(caught.value)


def test_tables_in_a_script_s_file_are_chosen_by_key(tmp_path):
    with stand_ins():
        tables = {"optimizer": {"state": {0: {"exp_avg": Saved(TORCH["fc.weight"])}}}, "state_dict_ema": saved(TWICE)}
        content = torch_file(tables | {"epoch": 3, "state_dict": saved(TORCH)})
    (tmp_path / "x.pth.tar").write_bytes(content)
    weights = checkpoint.read(tmp_path / "x.pth.tar")
    text = "weights of 'state_dict' taken; the file also has 'state_dict_ema' (--weights KEY)"
    assert is_the_network(weights) and weights.choices == [text] and text in weights.describe()
    other = checkpoint.read(tmp_path / "x.pth.tar", Choice(weights="state_dict_ema"))
    assert np.array_equal(other.head["classifier.weight"], 2 * OWN["classifier.weight"])
    with stand_ins():
        (tmp_path / "y.pth").write_bytes(torch_file({"model": saved(TORCH) | {"trunk": saved(TWICE)}}))
    inner = checkpoint.read(tmp_path / "y.pth", Choice(weights="model.trunk"))
    assert np.array_equal(inner.head["classifier.weight"], 2 * OWN["classifier.weight"])
    done = cli("convert", tmp_path / "x.pth.tar", "--to", tmp_path / "y.ckpt", "--weights", "emma")
    assert done.returncode == 1 and "expected  one of state_dict, state_dict_ema" in done.stderr


@pytest.mark.parametrize(
    "content",
    [
        {"state_dict": TORCH, "epoch": 1},
        {"model_ema": TWICE, "model": TORCH},
        {"net": TORCH, "acc": 0.5},
        {"module": TORCH, "ds_version": "0.9"},  # DeepSpeed
        {"weights": TORCH},
        {"teacher": TWICE, "student": TORCH},
        {"classy_state_dict": {"base_model": {"model": {"trunk": TORCH}}}},
        TORCH | {"epoch": 3, "best_acc": 0.5},
        [TORCH, 3, 0.5],
        {"model": {"conv9.weight": TORCH["conv1.weight"]}, "backbone": TORCH},
    ],
    ids=lambda content: ",".join(map(str, list(content)[:2]))[:20],
)
def test_weights_are_found_where_scripts_put_them(content, tmp_path):
    def tensors(value):
        if isinstance(value, dict):
            return {key: tensors(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [tensors(inner) for inner in value]
        return Saved(value) if isinstance(value, np.ndarray) else value

    with stand_ins():
        (tmp_path / "x.pth").write_bytes(torch_file(tensors(content)))
    assert is_the_network(checkpoint.read(tmp_path / "x.pth"))


# --- objects in a pickle ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("table", ["dict", "OrderedDict", "defaultdict", "Config"])
def test_what_a_script_saves_beside_its_weights_is_left_out_and_not_built(protocol, table, inside):
    with stand_ins() as modules:
        torch, script = modules["torch"], modules["script"]
        weights = {"Config": script.Config, "defaultdict": collections.defaultdict}.get(
            table, {"dict": dict, "OrderedDict": collections.OrderedDict}.get(table)
        )()
        weights.update(saved(TORCH))
        trainer = script.Trainer()
        trainer.__dict__.update(
            lr=0.1, weights=Saved(np.ones(3, np.float32)), nested=script.Config(a=script.Steps([1]))
        )
        beside = {
            "args": argparse.Namespace(lr=0.1, data=Path("data"), device=torch.device()),
            "best": np.float64(0.5),
            "history": np.arange(3),
            "when": datetime.datetime(2026, 11, 29),
            "mode": Mode.TRAIN,
            "classes": {"a", "b"},
            "fixed": frozenset((1, 2)),
            "bytes": b"123",
            "counts": collections.Counter("abc"),
            "queue": collections.deque([1, 2], 3),
            "keys": {None: 1, 1.5: 2, (1, 2): 3, True: 4, 2**70: 5},
            "number": 2**70,
            "trainer": trainer,
            "harmful": Harmful(),
            "function": os.path.join,
            "optimizer": {"state": {0: {"exp_avg": Saved(np.ones(3, np.float32))}}, "param_groups": [{"lr": 0.1}]},
        }
        content = torch_file({"state_dict": weights} | beside, protocol)
    Path("x.pth").write_bytes(content)
    assert is_the_network(checkpoint.read("x.pth")) and not Path("was-here").exists()


@pytest.mark.parametrize("key", ["", "model"])
def test_a_pickled_network_gets_the_lines_that_save_it_anew(key, inside):
    with stand_ins() as modules:
        network = modules["script"].Net()
        network.__dict__.update(conv1=Saved(TORCH["conv1.weight"]))
        Path("whole net.pt").write_bytes(torch_file({key: network, "epoch": 3} if key else network))
    with pytest.raises(CheckpointError, match=r"class script\.Net, not tensors") as caught:
        checkpoint.read("whole net.pt")
    where = "['model']" if key else ""
    lines = f"found = torch.load('whole net.pt', map_location='cpu', weights_only=False){where}\n"
    assert lines in str(caught.value) and "torch.save(found.state_dict(), 'whole net-weights.pth')" in str(caught.value)
    assert "copy it again" not in str(caught.value)


def test_arrays_of_numpy_get_the_lines_that_make_tensors_of_them(inside):
    with stand_ins():
        Path("x.pth").write_bytes(torch_file({"model": {"backbone": TORCH}}))
    with pytest.raises(CheckpointError, match=r"its 'model.backbone' contains objects of the class numpy\.") as caught:
        checkpoint.read("x.pth")
    assert "found = torch.load('x.pth', map_location='cpu', weights_only=False)['model']['backbone']" in str(
        caught.value
    )
    assert "torch.save({n: torch.as_tensor(v) for n, v in found.items()}, 'x-weights.pth')" in str(caught.value)


@pytest.mark.parametrize("kind", ["float16", "float64"])
def test_half_and_double_precision_become_single(kind, tmp_path):
    with stand_ins():
        tensors = {n: v.astype(kind) if v.dtype == np.float32 else v for n, v in TORCH.items()}
        (tmp_path / "x.bin").write_bytes(torch_file(saved(tensors)))
    weights = checkpoint.read(tmp_path / "x.bin")
    weights.check()
    assert {value.dtype for value in (weights.backbone | weights.head).values()} == {np.dtype(np.float32)}
    assert np.allclose(weights.backbone["conv1.weight"], OWN["conv1.weight"], atol=1e-3)


# --- what optimizers leave -------------------------------------------------------------------------------------------

TRAINABLE = {name: value for name, value in OWN.items() if "moving" not in name}
SLOTS = ("moments", "adam_m", "moment3", "grad_accumulation", "accu_grads", "prev_gradient", "lion_m", "linear")
LEFT = {  # by MindSpore and mindcv beside weights
    "scale_sense": np.float32(1024),
    "scale_value": np.float32(65536),
    "counter": np.int32(3),
    "current_iterator_step": np.zeros(1, np.int32),
    "accumulation_step": np.int32(0),
    "learning_rate": np.ones(40, np.float32),
    "beta1_power": np.float32(0.9),
    "exp_avg_sq_row_layer1.0.conv1.weight": np.ones((8, 64, 1), np.float32),  # AdaFactor
    "exp_avg_sq_col_classifier.weight": np.ones(32, np.float32),
    "eta_layer1.0.bn1.gamma": np.ones((), np.float32),  # ASGD
} | {
    f"{slot}.{name}": np.ones_like(value)
    for name, value in TRAINABLE.items()
    for slot in (
        "moments",
        "adam_m",
        "moment3",
        "grad_accumulation",
        "accu_grads",
        "prev_gradient",
        "lion_m",
        "exp_avg",
    )
}
LEFT = {name: np.asarray(value) for name, value in LEFT.items()}


@pytest.mark.parametrize("prefix", ["", "network.", "network._backbone."])
def test_what_mindspore_leaves_beside_weights_is_left_out_and_counted(prefix, tmp_path):
    slots = {}
    for name, value in LEFT.items():
        weight = max((weight for weight in TRAINABLE if name.endswith(weight)), key=len, default="")
        slots[f"{name.removesuffix(weight)}{prefix}{weight}" if weight else name] = value
    weights = checkpoint.read(written(tmp_path / "x.ckpt", prefixed(prefix, OWN) | slots))
    assert is_the_network(weights) and f"{len(LEFT)} tensors left out (the optimizer's)" in weights.notes


def test_only_the_head_s_slots_of_a_frozen_run_are_left_out(tmp_path):
    slots = {f"anything.{name}": value for name, value in OWN.items() if name.startswith("classifier")}
    assert is_the_network(checkpoint.read(written(tmp_path / "x.ckpt", OWN | slots)))


def test_averages_replace_the_weights_where_asked(tmp_path):
    means = {f"ema.{name}": 2 * value for name, value in TRAINABLE.items()}  # mindcv: without BatchNorm's statistics
    path = written(tmp_path / "x.ckpt", OWN | means)
    weights, averaged = checkpoint.read(path), checkpoint.read(path, Choice(weights="ema"))
    assert is_the_network(weights)
    assert "weights of the names without a prefix taken; the file also has 'ema' (--weights KEY)" in weights.choices
    averaged.check()
    read = averaged.backbone | averaged.head
    assert all(np.array_equal(read[name], value * (2 if name in TRAINABLE else 1)) for name, value in OWN.items())
    with pytest.raises(CheckpointError, match="has no weights 'moments'"):
        checkpoint.read(written(path, OWN | means | LEFT), Choice(weights="moments"))


@pytest.mark.parametrize(
    "name, shape",
    [
        ("layer1.0.se.fc1.weight", (4, 32, 1, 1)),
        ("layer1.0.extra.conv1.weight", (8, 64, 1, 1)),  # ends like a weight
        ("layer1.0.attention.bn1.gamma", (64,)),
        ("layer1.0.scale", ()),
        ("conv2.weight", (64, 64, 3, 3)),
        ("bn2.gamma", (64,)),
        ("attention.query.weight", (32, 32)),
        ("attention.conv1.weight", (32, 32, 1, 1)),
        ("pool.p", (1,)),
        ("stem.conv1.weight", (64, 3, 7, 7)),
        ("extra_conv1.weight", (64, 64, 1, 1)),
    ],
)
@pytest.mark.parametrize("prefix", ["", "network."])
def test_a_tensor_of_another_network_is_an_error(name, shape, prefix, tmp_path):
    path = written(tmp_path / "x.ckpt", prefixed(prefix, OWN | {name: np.ones(shape, np.float32)}))
    with pytest.raises(CheckpointError, match=r"unknown +" + name.replace(".", r"\.")):
        checkpoint.read(path).check()


def test_a_second_branch_with_statistics_is_an_error(tmp_path):
    branch = {f"branch.{name}": value for name, value in OWN.items() if name.startswith("bn1.")}
    with pytest.raises(CheckpointError, match=r"unknown +branch\.bn1\.beta"):
        checkpoint.read(written(tmp_path / "x.ckpt", OWN | branch)).check()


def test_a_parameter_of_a_network_of_pytorch_is_no_counter(tmp_path):
    with pytest.raises(CheckpointError, match=r"unknown +temperature"):
        checkpoint.read(plain(TORCH | {"temperature": np.ones(1, np.float32)}, tmp_path / "x.safetensors")).check()


# --- dialects --------------------------------------------------------------------------------------------------------


def test_where_names_tell_no_project_it_is_said_and_can_be_decided(tmp_path):
    path = written(tmp_path / "x.ckpt", OWN)
    weights = checkpoint.read(path)
    assert weights.profile["pool"] == "symmetric" and weights.choices == [
        "its names do not tell mslab from mindcv, whose pooling differs: taken as mslab's; "
        "if mindcv trained it, use --dialect mindcv"
    ]
    for name, pool in (("mslab", "symmetric"), ("mindcv", "same")):
        decided = checkpoint.read(path, Choice(dialect=name))
        assert decided.profile["pool"] == pool and decided.choices == []
    assert checkpoint.read(written(path, OWN, {"profile": weights.profile})).choices == []


def test_a_dialect_that_is_unknown_or_impossible_is_an_error_with_the_list(tmp_path):
    written(tmp_path / "x.ckpt", OWN)
    written(tmp_path / "own.ckpt", OWN, {"profile": dialects.PROFILE})
    plain(TORCH, tmp_path / "t.safetensors")
    for file, name, text, possible in (
        ("x.ckpt", "keras", "'keras' is not a known project.", "mindcv, mslab"),
        ("x.ckpt", "official", "does not have official's names.", "mindcv, mslab"),
        ("t.safetensors", "mindcv", "does not have mindcv's names.", "torchvision"),
        ("own.ckpt", "mindcv", "records how its network is built, which is not mindcv's way.", "mslab"),
    ):
        done = cli("convert", tmp_path / file, "--to", tmp_path / "new.ckpt", "--dialect", name)
        assert done.returncode == 1 and text in done.stderr and "Traceback" not in done.stderr
        assert f"expected  one of {', '.join(dialects.NAMES)}; for this file: {possible}\n" in done.stderr


# --- formats that are not read ---------------------------------------------------------------------------------------


def zipped(name):
    file = io.BytesIO()
    np.savez(file, **{"conv1.weight": np.ones(3)})
    return file.getvalue().replace(b"conv1.weight.npy", name)


def tarred():
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("x.pth"))
    return file.getvalue()


@pytest.mark.parametrize(
    "content, what, fix",
    [
        (pickle.dumps({"StructuredToParameterName@@": {}}, 4), "is a file of PaddlePaddle", "paddle.load('x.pth')"),
        (pickle.dumps({"a": 1}), "is a bare pickle", "torch.save(state_dict, 'new.pth')"),
        (
            zipped(b"conv1.weight.npy"),
            "is a .npz file",
            "safetensors.numpy.save_file(dict(numpy.load('x.pth')), 'x-weig",
        ),
        (
            zipped(b"xx/constants.pkl"),
            "is a TorchScript file",
            "torch.jit.load('x.pth', map_location='cpu').state_dict()",
        ),
        (b"\x89HDF\r\n\x1a\n" + bytes(100), "is a file of Keras", "use the network of torchvision or timm"),
        (zipped(b"weights12345.pth"), "is a zip archive of files", "unzip x.pth"),
        (tarred(), "is a tar archive", "tar -xf x.pth"),
        (b"\x1f\x8b\x08" + bytes(20), "is compressed with gzip", "gunzip -k x.pth"),
        (b"<!DOCTYPE html><html>", "is a web page", "download it again"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1", "is a pointer of Git LFS", "git lfs pull"),
        (b'{"metadata": {}, "weight_map": {}}', "is JSON", "use the file of weights itself"),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else "",
)
def test_a_format_that_is_not_read_is_named_with_the_way_out(content, what, fix, inside):
    Path("x.pth").write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        checkpoint.read("x.pth")
    assert what in str(caught.value) and fix in str(caught.value) and "copy it again" not in str(caught.value)


def test_the_line_for_a_file_of_numpy_works(inside):
    np.savez("x.npz", **TORCH)
    with pytest.raises(CheckpointError, match=r"is a \.npz file of NumPy") as caught:
        checkpoint.read("x.npz")
    lines = str(caught.value).partition("in Python:\n")[2]
    exec("\n".join(line.strip() for line in lines.splitlines()))
    assert is_the_network(checkpoint.read("x-weights.safetensors"))


def test_a_folder_gives_the_files_in_it(inside):
    Path("model").mkdir()
    plain(TORCH, Path("model/model.safetensors"))
    with pytest.raises(CheckpointError, match="model is a folder") as caught:
        checkpoint.read("model")
    assert "fix       one of model/model.safetensors" in str(caught.value)


def test_a_path_that_is_no_file_gives_one_message(inside):
    os.mkfifo("pipe.ckpt")
    for path, text in (
        ("pipe.ckpt", "pipe.ckpt cannot be read: it is a FIFO."),
        ("/dev/null", "/dev/null cannot be read: it is a device."),
        ("x" * 300 + ".ckpt", "cannot be read: File name too long."),
        ("x.ckpt/y.ckpt", "There is no file x.ckpt/y.ckpt."),
        ("a\0b.ckpt", "cannot be read: embedded null byte."),
    ):
        with pytest.raises(CheckpointError) as caught:
            checkpoint.read(path)
        assert text in str(caught.value) and "fix" in str(caught.value)
