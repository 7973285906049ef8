"""Each row of errors.EXPLANATIONS explains MindSpore's messages, and not similar messages with another meaning."""

import re

import pytest

from mslab.errors import EXPLANATIONS, explain

GATHER = "For 'Gather', the 'input_indices' should be in the range [0, {}), but got {}, error_code[58]"
PIPELINE = "Exception thrown from dataset pipeline.\n[ERROR] map operation: [{}] failed. {}"
# start of the explanation: (errors of MindSpore 2.8 or Python, similar errors with another meaning)
CASES = {
    "MindSpore could not use the device": (
        [RuntimeError("Unsupported device target Ascend. This process only supports one of the ['CPU'].")],
        [
            RuntimeError("Unsupported device target for DLPack: Ascend"),
            RuntimeError("The 'set_device' can not be modified after the runtime has started."),
            ValueError("For 'set_device', the device_id must be an int"),
        ],
    ),
    "MindSpore's data pipeline was set to more workers": (
        [
            ValueError("num_parallel_workers exceeds the boundary between 1 and 2!"),
            RuntimeError("Invalid Parameter, num_parallel_workers exceeds the boundary between 1 and 2, as got 1000."),
        ],
        [
            ValueError("num_samples exceeds the boundary between 0 and 9223372036854775807(INT64_MAX)!"),
            TypeError("Argument num_parallel_workers with value 1.5 is not of type [<class 'int'>]"),
            RuntimeError("Crop: invalid x coordinate value for crop, it exceeds the boundary of the image, got x: 9"),
        ],
    ),
    "The training pipeline produced no batch": (
        [ValueError("There is no valid data in dataset, please check dataset file firstly.")],
        [RuntimeError("There is no valid data which can be written by 'write_raw_data' to mindrecord file.")],
    ),
    "A table was read one row past its end": (
        [RuntimeError(GATHER.format(18, 18))],
        [
            RuntimeError("Launch kernel failed, the operator is AllGather: connection closed by peer"),
            RuntimeError("For 'AllGather', the input must be a Tensor"),
            RuntimeError(GATHER.format(18, 400)),  # labels or words, no counter of steps
            RuntimeError(GATHER.format(18, 180)),
            RuntimeError(GATHER.format(18, -1)),
        ],
    ),
    "The device ran out of memory": (
        [
            MemoryError("Unable to allocate 72.8 TiB for an array with shape (1000000, 10000000)"),
            MemoryError(),
            RuntimeError("Allocate memory failed\n- C++ Call Stack"),
            RuntimeError("Memory not enough: current free memory size[1] is smaller than required size[2]."),
            RuntimeError("std::bad_alloc"),
            RuntimeError("CUDA error: out of memory"),
        ],
        [
            OSError("[Errno 2] No such file or directory: 'data/out of memory.png'"),
            ValueError("max_device_memory: '30 Gb' is not a size"),
            RuntimeError("Memory reuse is not supported for this graph"),
        ],
    ),
    "MindSpore's decoder refused an image": (
        [
            RuntimeError(PIPELINE.format("Decode", "Unsupported image type [webp] and dump the image to [./x.webp].")),
            RuntimeError(PIPELINE.format("RandomCropDecodeResize", "Error raised by libjpeg: Empty input file")),
            RuntimeError("[Internal ERROR] Decode: image decode failed."),
        ],
        [
            UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
            RuntimeError("Decode: only support Decoded into RGB image, check input parameter 'rgb' first"),
            RuntimeError(PIPELINE.format("Resize", "Resize: input image is not in channel-last format.")),
            RuntimeError(PIPELINE.format("RandomCropDecodeResize", "Exceed the crop size limit.")),
            RuntimeError("Decode failed, key: 12"),
            RuntimeError("map operation: [encode_jpeg] failed. Error raised by libjpeg: Bogus sampling factors"),
        ],
    ),
    "MindSpore does not enlarge an image": (
        [
            RuntimeError(PIPELINE.format("Resize", "Resize: the resizing width or height is too big, it's 1000 times")),
            RuntimeError(PIPELINE.format("RandomCropAndResize", "CropAndResize: the resizing width or height 1) is")),
        ],
        [
            RuntimeError(PIPELINE.format("Resize", "Resize: input image is not in channel-last format.")),
            RuntimeError("Crop: invalid width or height of the crop, it is bigger than the original image"),
        ],
    ),
    "This MindSpore cannot use the installed NumPy": (
        [
            ImportError("numpy.core.multiarray failed to import"),
            AttributeError("_ARRAY_API not found"),
            RuntimeError("Traceback (most recent call last):\nImportError: numpy.core.multiarray failed to import\n"),
        ],
        [
            ImportError("libopenblas.so.0: cannot open shared object file"),
            ImportError("cannot import name 'multiarray' from 'numpy.core'"),
        ],
    ),
    "A package is built for another NumPy": (
        [
            ValueError(
                "numpy.dtype size changed, may indicate binary incompatibility. Expected 96 from C header, got 88"
            )
        ],
        [ValueError("numpy.dtype size changed"), ValueError("a.B size changed, may indicate binary incompatibility")],
    ),
}


def test_every_row_has_its_cases():
    starts = [what for _, what, _, _ in EXPLANATIONS]
    assert len(starts) == len(CASES)
    for actual, expected in zip(starts, CASES, strict=True):
        assert actual.startswith(expected)


@pytest.mark.parametrize("first", CASES)
def test_known_errors_are_explained_and_similar_ones_are_not(first):
    known_errors, similar_errors = CASES[first]
    for error in known_errors:
        text = str(explain(error, "runs/x/train.log"))
        assert text.startswith(first) and "runs/x/train.log" in text, error
        assert "expected" in text and "fix" in text
    for error in similar_errors:
        assert explain(error) is None, error


@pytest.mark.parametrize("first", CASES)
def test_every_pattern_of_a_row_is_needed(first):
    """Without any one of its patterns a row would explain one of the similar errors."""
    (patterns,) = (row[0] for row in EXPLANATIONS if row[1].startswith(first))
    texts = [f"{type(error).__name__}: {error}" for error in CASES[first][1]]
    for pattern in patterns if len(patterns) > 1 else ():
        rest = [other for other in patterns if other != pattern]
        assert any(all(re.search(other, text, re.MULTILINE) for other in rest) for text in texts), pattern
