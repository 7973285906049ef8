"""float16 weights lose nothing that matters, and a file with a shared backbone reads exactly the one it names."""

import numpy as np
import pytest

from mslab import checkpoint
from mslab.checkpoint import dialects, sharing
from mslab.errors import CheckpointError

STAGES = [[1, 4, 1]]


def network(classes: int = 3) -> tuple[dict, dict]:
    rng = np.random.default_rng(classes)
    shapes = dialects.layout(STAGES, dialects.PROFILE)
    tensors = {name: np.ones(shape, np.float32) for name, shape in shapes.items()}
    tensors["classifier.weight"] = rng.normal(0, 1, (classes, 16)).astype(np.float32)
    tensors["classifier.bias"] = np.zeros(classes, np.float32)
    info = {"class_names": [str(n) for n in range(classes)], "image_size": 32, "mean": [0.5] * 3, "std": [0.25] * 3}
    return tensors, info | {"stages": STAGES, "profile": dialects.PROFILE}


def test_tensors_that_float16_cannot_hold_stay_float32_and_say_why():
    tensors, _ = network()
    tensors["conv1.weight"][0, 0, 0, 0] = 70_000
    tensors["layer1.0.bn1.beta"][0] = 1e-9  # nothing is divided by it
    halves, reasons = sharing.halved(tensors)
    assert reasons == {"conv1.weight": "it has values beyond 65504: up to 7e+04"}
    vectors = {name for name, value in tensors.items() if value.ndim < 2}  # gammas near 1 would become equal
    assert {name for name, value in halves.items() if value.dtype == np.float32} == {*reasons, *vectors}
    assert all(np.isfinite(value).all() for value in halves.values())


def test_only_the_file_that_was_packed_is_read_for_a_shared_backbone(tmp_path):
    (parent, info), (child, child_info) = network(), network(2)
    for name in ("nine", "two"):
        (tmp_path / name).mkdir()
    checkpoint.save_arrays(parent, tmp_path / "nine" / "best.ckpt", info)
    own = sharing.own_tensors(child, parent)
    assert set(own) == {"classifier.weight", "classifier.bias"}
    entry = sharing.entry_of("../nine/best.ckpt", (tmp_path / "nine" / "best.ckpt").read_bytes())
    file = tmp_path / "two" / "best.ckpt"
    checkpoint.save_arrays(own, file, child_info | entry)
    weights = checkpoint.read(file)
    weights.check()
    assert "shared" not in weights.info  # what convert writes from it is complete
    assert all(np.array_equal(weights.tensors[name], value) for name, value in child.items())
    (tmp_path / "inner-1").mkdir()  # as archives of a submission are unpacked
    pack = {
        name: file.rename(tmp_path / "inner-1" / file.parent.name)
        for name, file in (("two/best.ckpt", file), ("nine/best.ckpt", tmp_path / "nine" / "best.ckpt"))
    }
    assert checkpoint.read(pack["two/best.ckpt"], pack=pack).tensors.keys() == child.keys()
    with pytest.raises(CheckpointError, match=r"nine/best.ckpt cannot be used: it is not in the pack"):
        checkpoint.read(pack["two/best.ckpt"], pack={"two/best.ckpt": pack["two/best.ckpt"]})
    for name, moved in pack.items():
        moved.rename(tmp_path / name)
    child["conv1.weight"] = child["conv1.weight"] + 1
    assert sharing.own_tensors(child, parent).keys() == child.keys()  # all of a backbone or nothing

    (tmp_path / "fifo").mkdir()
    for damage, said in (
        ({"file": "../../etc/passwd"}, "damaged"),
        ({"file": "/etc/passwd"}, "damaged"),
        ({"file": "../fifo"}, "cannot be used"),
        ({"file": "../none/best.ckpt"}, "No such file"),
        ({"bytes": 3}, "another file"),
        ({"sha256": "0" * 64}, "another file"),
        ({"bytes": "3"}, "damaged"),
    ):
        checkpoint.save_arrays(own, file, child_info | {"shared": entry["shared"] | damage})
        with pytest.raises(CheckpointError, match=said):
            checkpoint.read(file)
