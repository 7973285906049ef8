"""What happens to an image between its file and the network: two plain lists of MindSpore's vision operations."""

from collections.abc import Sequence

import mindspore.dataset.vision as vision


def train_transforms(
    size: int, mean: Sequence[float], std: Sequence[float], crop_scale: float, flip: bool, color_jitter: float
) -> list[vision.transforms.PyTensorOperation | vision.transforms.TensorOperation]:
    """For training. A file's bytes, uint8 (n,) -> normalised float32 (3, size, size), random as the settings say."""
    steps = [vision.Decode()] if crop_scale == 1 else []
    if crop_scale == 1:
        steps.append(vision.Resize((size, size)))
    else:
        steps.append(vision.RandomCropDecodeResize(size, scale=(crop_scale, 1.0), ratio=(3 / 4, 4 / 3)))
    if flip:
        steps.append(vision.RandomHorizontalFlip(0.5))
    if color_jitter:
        steps.append(vision.RandomColorAdjust(color_jitter, color_jitter, color_jitter))
    return [*steps, *_to_network(mean, std)]


def eval_transforms(size: int, mean: Sequence[float], std: Sequence[float]) -> list:
    """For measuring. A file's bytes, uint8 (n,) -> normalised float32 (3, size, size): the middle, nothing random."""
    return [vision.Decode(), vision.Resize(size), vision.CenterCrop(size), *_to_network(mean, std)]


def _to_network(mean: Sequence[float], std: Sequence[float]) -> list:
    # (size, size, 3) with values 0..255 -> (3, size, size); mean and std are on a scale of 0..1
    return [vision.Normalize([255 * m for m in mean], [255 * s for s in std]), vision.HWC2CHW()]
