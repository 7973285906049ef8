"""Writes a .ckpt with the MindSpore that runs this: every type, text, and a tensor in several pieces.

python tests/data/make_mindspore.py tests/data/mindspore.ckpt
"""

import sys

import mindspore as ms
import numpy as np
from mindspore.train import serialization

serialization.SLICE_SIZE = 1  # KiB; 512 MiB in earnest
types = ["float32", "float16", "float64", "int8", "uint8", "int16", "int32", "int64", "bool"]
values = {name: np.arange(6).reshape(2, 3).astype(name) for name in types}
values |= {"scalar": np.array(3, np.int32), "large": np.arange(3000, dtype=np.float32).reshape(30, 100)}
rows = [{"name": name, "data": ms.Tensor(value)} for name, value in values.items()]
rows.append({"name": "bfloat16", "data": ms.Tensor(np.arange(6).reshape(2, 3), ms.bfloat16)})
ms.save_checkpoint(rows, sys.argv[1], append_dict={"mslab": '{"schema": 1}', "epoch": 3})
