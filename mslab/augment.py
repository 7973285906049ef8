"""What happens to an image between its file and the network: two plain lists of MindSpore's vision operations."""

from collections.abc import Sequence

import mindspore.dataset.vision as vision


def train_transforms(
    size: int, mean: Sequence[float], std: Sequence[float], crop_scale: float, flip: bool, color_jitter: float
) -> list[vision.transforms.PyTensorOperation | vision.transforms.TensorOperation]:
    """For training. A file's bytes, uint8 (n,) -> normalised float32 (3, size, size), random as the settings say."""
    if crop_scale == 1:
        return whole_train_transforms(size, mean, std, crop_scale, flip, color_jitter)
    # of a large JPEG only what the crop needs is decoded
    crop = vision.RandomCropDecodeResize(size, scale=(crop_scale, 1.0), ratio=(3 / 4, 4 / 3))
    return [crop, *_after_crop(flip, color_jitter), *_to_network(mean, std)]


def whole_train_transforms(
    size: int, mean: Sequence[float], std: Sequence[float], crop_scale: float, flip: bool, color_jitter: float
) -> list[vision.transforms.PyTensorOperation | vision.transforms.TensorOperation]:
    """The same with the whole image decoded first, by the first step; what comes after it works on kept pixels, too.

    The same crops are drawn. Pixels are equal, but for JPEGs with reduced colour resolution (4:2:0): there, the colour
    beside the crop's border is that of the image here, and of the crop alone in train_transforms.
    """
    crop = vision.RandomResizedCrop(size, scale=(crop_scale, 1.0), ratio=(3 / 4, 4 / 3))
    cut = vision.Resize((size, size)) if crop_scale == 1 else crop
    return [vision.Decode(), cut, *_after_crop(flip, color_jitter), *_to_network(mean, std)]


def eval_transforms(size: int, mean: Sequence[float], std: Sequence[float]) -> list:
    """For measuring. A file's bytes, uint8 (n,) -> normalised float32 (3, size, size): the middle, nothing random."""
    return [vision.Decode(), vision.Resize(size), vision.CenterCrop(size), *_to_network(mean, std)]


def _after_crop(flip: bool, color_jitter: float) -> list:
    steps = [vision.RandomHorizontalFlip(0.5)] if flip else []
    if color_jitter:
        steps.append(vision.RandomColorAdjust(color_jitter, color_jitter, color_jitter))
    return steps


def _to_network(mean: Sequence[float], std: Sequence[float]) -> list:
    # (size, size, 3) with values 0..255 -> (3, size, size); mean and std are on a scale of 0..1
    return [vision.Normalize([255 * m for m in mean], [255 * s for s in std]), vision.HWC2CHW()]


def sizes(config):
    return (config.image_size,) * 3


def scale(config):
    return config.mean, config.std


def mixes(config):
    return False
