"""Transfer in plain PyTorch, until the validation accuracy reaches a target: what `bench answer` compares mslab with.

PYTHON answer_torch.py JOB     prints "bench " and {"epochs", "val_acc", "reached", "versions"}; writes the best weights

It has the recipe of `mslab transfer`: ResNet-50 with a backbone from a file of mslab convert, a new head, the same
batches, learning rates, decay and augmentation. It needs torch, torchvision and PIL, and imports nothing of mslab. It
does what helps PyTorch: channels-last layout, all cores, images decoded once and kept in memory, larger batches for
validation.
"""

import json
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
import torchvision
from PIL import Image
from torch import nn
from torchvision.transforms import v2

EVAL_BATCH = 64


def load(root: str, threads: int) -> tuple[list[Image.Image], torch.Tensor]:
    """The decoded images of a folder of class folders, and their labels; classes are sorted by name."""
    folders = sorted(path for path in Path(root).iterdir() if path.is_dir())
    files = [(file, label) for label, folder in enumerate(folders) for file in sorted(folder.iterdir())]
    with ThreadPoolExecutor(threads) as pool:
        images = list(pool.map(lambda item: Image.open(item[0]).convert("RGB"), files))
    return images, torch.tensor([label for _, label in files])


def augmentation(job: dict[str, Any]) -> Callable[[Any], torch.Tensor]:
    """A training image -> normalised float32 (3, S, S)."""
    size, scale, strength = job["image_size"], job["crop_scale"], job["color_jitter"]
    steps: list[Any] = [v2.ToImage()]
    crop = v2.RandomResizedCrop(size, scale=(scale, 1.0), antialias=False)
    steps.append(v2.Resize((size, size), antialias=False) if scale == 1 else crop)
    steps += [v2.RandomHorizontalFlip()] if job["flip"] else []
    steps += [v2.ColorJitter(strength, strength, strength)] if strength else []
    steps += [v2.ToDtype(torch.float32, scale=True), v2.Normalize(job["mean"], job["std"])]
    return v2.Compose(steps)


def preprocessing(job: dict[str, Any]) -> Callable[[Any], torch.Tensor]:
    """A validation image -> normalised float32 (3, S, S): its centre."""
    size = job["image_size"]
    steps = [v2.ToImage(), v2.Resize(size, antialias=False), v2.CenterCrop(size)]
    return v2.Compose([*steps, v2.ToDtype(torch.float32, scale=True), v2.Normalize(job["mean"], job["std"])])


def read_safetensors(file: str) -> dict[str, torch.Tensor]:
    """The tensors of a .safetensors file: 8 bytes of length, a JSON header, the values."""
    content = bytearray(Path(file).read_bytes())
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    header.pop("__metadata__", None)
    kinds = {"F32": torch.float32, "I64": torch.int64}

    def tensor(row: dict[str, Any]) -> torch.Tensor:
        first, last = (start + at for at in row["data_offsets"])
        return torch.frombuffer(content[first:last], dtype=kinds[row["dtype"]]).view(row["shape"])

    return {name: tensor(row) for name, row in header.items()}


def build(job: dict[str, Any]) -> nn.Module:
    """ResNet-50 with the backbone's weights and a new head of class_num outputs."""
    network = torchvision.models.resnet50()
    saved = {name: value for name, value in read_safetensors(job["backbone"]).items() if not name.startswith("fc.")}
    lacking = network.load_state_dict(saved, strict=False)
    assert lacking.missing_keys == ["fc.weight", "fc.bias"] and not lacking.unexpected_keys, lacking
    network.fc = nn.Linear(network.fc.in_features, job["class_num"])
    nn.init.normal_(network.fc.weight, std=0.01)  # as mslab's head begins
    nn.init.zeros_(network.fc.bias)
    return network.to(memory_format=torch.channels_last)


def optimizer_of(job: dict[str, Any], trained: nn.Module) -> torch.optim.Optimizer:
    """The recipe's optimizer; only weights of more than one dimension decay."""
    parameters = list(trained.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": job["weight_decay"]},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if job["optimizer"] == "adam":
        return torch.optim.Adam(groups, lr=job["rates"][0], betas=(job["beta1"], job["beta2"]))
    return torch.optim.SGD(groups, lr=job["rates"][0], momentum=job["momentum"])


def batch_of(images: list[torch.Tensor]) -> torch.Tensor:
    return torch.stack(images).contiguous(memory_format=torch.channels_last)


@torch.inference_mode()
def outputs(network: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """The outputs for all of x (n, ...), in batches."""
    return torch.cat([network(part) for part in x.split(EVAL_BATCH)])


def features(backbone: nn.Module, job: dict[str, Any], x_val: torch.Tensor, view: Callable[[], torch.Tensor]) -> Any:
    """Features of the views of all training images, and of the validation images: from the file, or computed."""
    file = Path(job["features"])
    if file.is_file():
        return torch.load(file, weights_only=True)
    views = [outputs(backbone, view()).clone() for _ in range(min(job["views"], job["epochs"]))]
    computed = views, outputs(backbone, x_val).clone()
    torch.save(computed, file)
    return computed


def main(job: dict[str, Any]) -> None:
    torch.set_num_threads(job["threads"])
    torch.manual_seed(job["seed"])
    images, labels = load(job["train_data"], job["threads"])
    val_images, val_labels = load(job["val_data"], job["threads"])
    augment, preprocess = augmentation(job), preprocessing(job)
    x_val = batch_of([preprocess(image) for image in val_images])
    network = build(job)
    head, size, frozen = network.fc, job["batch_size"], job["freeze"] == "all"
    view = lambda: batch_of([augment(image) for image in images])  # noqa: E731
    views: list[torch.Tensor] = []
    trained, evaluated = network, network
    if frozen:
        network.fc = nn.Identity()
        trained, backbone = head, network.eval()
        evaluated = nn.Sequential(backbone, head)
        if job["views"]:
            views, x_val = features(backbone, job, x_val, view)
            evaluated = head
    optimizer, criterion, best = optimizer_of(job, trained), nn.CrossEntropyLoss(), 0.0
    steps = len(images) // size
    torch.manual_seed(job["seed"])  # the same order of images, whether features were computed or loaded
    for epoch in range(job["epochs"]):
        trained.train()
        order = torch.randperm(len(images))
        for step, rows in enumerate(order[: steps * size].split(size)):
            for group in optimizer.param_groups:
                group["lr"] = job["rates"][epoch * steps + step]
            if views:
                x = views[epoch % len(views)][rows]
            else:
                x = batch_of([augment(images[row]) for row in rows.tolist()])
                if frozen:
                    with torch.no_grad():
                        x = backbone(x)
            optimizer.zero_grad(set_to_none=True)
            criterion(trained(x), labels[rows]).backward()
            optimizer.step()
        evaluated.eval()
        accuracy = int((outputs(evaluated, x_val).argmax(1) == val_labels).sum()) / len(val_labels)
        if accuracy > best:
            best = accuracy
            network.fc = head
            torch.save(network.state_dict(), job["weights"])
            network.fc = nn.Identity() if frozen else head
        if accuracy >= job["target"]:
            break
    versions = {"PyTorch": torch.__version__, "torchvision": torchvision.__version__}
    result = {"epochs": epoch + 1, "val_acc": best, "reached": best >= job["target"], "versions": versions}
    print("bench", json.dumps(result), flush=True)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
