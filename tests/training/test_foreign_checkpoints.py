"""Other people's files and float16 runs through the kit's network: equal logits, and a resume from what was saved."""

import json

import mindspore as ms
import numpy as np
from helpers import manifest, newest, settings, stopped_after
from mindspore import nn
from others import agree, randomised

import mslab
from mslab import checkpoint, files, model
from mslab.checkpoint import Choice
from mslab.evaluation import measuring
from mslab.runtime import devices
from mslab.training import start


def test_files_that_trainers_leave_give_their_logits(cases):
    folder = cases / "checkpoints"
    ms.set_context(mode=ms.PYNATIVE_MODE)
    expected = np.load(folder / "expected.npz")
    files = sorted(path for path in folder.iterdir() if path.suffix != ".npz")
    assert len(files) >= 3
    for file in files:
        logits = measuring.load_network(file).network(ms.Tensor(expected["images"])).asnumpy()
        assert np.abs(logits - expected["logits"]).max() < 1e-4, file
    script = folder / "train-script.pth.tar"
    first, second = (checkpoint.read(script, Choice(weights=key)) for key in ("state_dict", "state_dict_ema"))
    agree(second.backbone["conv1.weight"], 1.01 * first.backbone["conv1.weight"], 1e-5)
    logits = mslab.load_network(script, weights="state_dict_ema").network(ms.Tensor(expected["images"])).asnumpy()
    assert np.abs(logits - expected["logits"]).max() > 0.01


def test_a_float16_run_s_last_checkpoint_is_read_and_one_of_an_older_kit_resumed(squares, inside, monkeypatch):
    calls = devices.setup_calls  # the kit refuses float16 on a CPU, where it is slow; MindSpore computes it
    monkeypatch.setattr(devices, "setup_calls", lambda *a, **k: calls(*a, **(k | {"amp_level": "O0"})))
    with stopped_after(1):
        mslab.train(settings(squares / "two", 2, amp_level="O2", image_size=16, batch_size=32))
    file = newest() / "checkpoints" / "last.ckpt"
    last = checkpoint.read(file)
    state = {name for name in last.tensors if name.startswith("training.")}
    assert {"training.scale_value", "training.counter", "training.moments.conv1.weight"} <= state
    older = {name.removeprefix("training."): value for name, value in last.tensors.items()}
    checkpoint.save_arrays(older, file, last.info)
    content = manifest(newest())
    content["artifacts"]["checkpoints/last.ckpt"] = files.sha256(file)  # as that kit recorded it
    (newest() / "manifest.json").write_text(json.dumps(content))
    for weights in (last, checkpoint.read(file)):
        weights.check()
        assert f"{len(state)} tensors left out (the optimizer's)" in weights.notes
    assert mslab.load_network(file).class_names == ["left", "right"]
    start.resume(newest())
    after = checkpoint.read(file).tensors
    assert after.keys() == last.tensors.keys() and after["training.counter"] == 2


def test_a_file_without_an_entry_is_built_by_the_dialect_and_says_what_is_assumed(tmp_path, caplog):
    ms.set_context(mode=ms.PYNATIVE_MODE)
    stages = [[1, 8, 1]]
    networks = {}
    for name, profile in (("mslab", {}), ("mindcv", {"pool": "same"})):
        network = model.ResNet50(model.resnet50_backbone(stages, profile), model.resnet50_head(3, 32))
        networks[name] = randomised(network)
    ms.save_checkpoint(networks["mindcv"], str(tmp_path / "x.ckpt"))  # as mindcv writes it
    x = ms.Tensor(np.random.default_rng(0).normal(size=(2, 3, 32, 32)), ms.float32)
    for dialect, name in (("mslab", "mslab"), ("mindcv", "mindcv"), ("", "mslab")):
        caplog.clear()
        logits = mslab.load_network(tmp_path / "x.ckpt", dialect).network(x).asnumpy()
        agree(logits, networks[name](x).asnumpy(), 1e-5)
        said = (
            "do not tell mslab from mindcv, whose pooling differs: taken as mslab's; if mindcv trained it"
            in caplog.text
        )
        assert said == (not dialect)
    assert np.abs(networks["mslab"](x).asnumpy() - networks["mindcv"](x).asnumpy()).max() > 1e-3


def test_what_mindspores_optimizers_leave_in_a_saved_training_cell_is_left_out(tmp_path):
    ms.set_context(mode=ms.PYNATIVE_MODE)
    optimizers = {
        "AdaFactor": lambda rows: nn.AdaFactor(rows, learning_rate=None),  # exp_avg_sq_row_conv1.weight
        "ASGD": lambda rows: nn.ASGD(rows),  # eta_conv1.weight
        "FTRL": lambda rows: nn.FTRL(rows),  # linear.conv1.weight
        "Momentum": lambda rows: nn.Momentum(rows, [0.1] * 20, 0.9),  # learning_rate has 20 numbers
        "Rprop": lambda rows: nn.Rprop(rows),
        "AdamW": lambda rows: ms.mint.optim.AdamW(rows, lr=0.1),
    }
    for name, build in optimizers.items():
        network = model.ResNet50(model.resnet50_backbone([[1, 8, 1]]), model.resnet50_head(3, 32))
        inner = nn.WithLossCell(network, nn.CrossEntropyLoss())
        step = nn.TrainOneStepWithLossScaleCell(inner, build(network.trainable_params()), ms.Tensor(1.0, ms.float32))
        ms.save_checkpoint(step, str(tmp_path / f"{name}.ckpt"))
        weights = checkpoint.read(tmp_path / f"{name}.ckpt")
        weights.check()
        assert (weights.backbone | weights.head).keys() == network.parameters_dict().keys(), name
        assert weights.notes == [f"{len(weights.tensors) - 27} tensors left out (the optimizer's)"], name
