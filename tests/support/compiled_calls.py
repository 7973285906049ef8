"""Call the compiled layers in a process of its own: the first call sets the number of threads.

python compiled_calls.py FILE THREADS [fork]    prints a hash of all results
"""

import ctypes
import hashlib
import os
import sys

import numpy as np


def call(file: str, threads: int, x: np.ndarray, dy: np.ndarray) -> tuple[np.ndarray, ...]:
    """All results of BatchNorm with a shortcut and ReLU, and of a max-pool; and x as a matrix, transposed."""
    library = ctypes.CDLL(file)
    c = x.shape[1]
    gamma, settings = np.linspace(0.5, 2, c, dtype=np.float32), np.array([1e-5, 0.1, threads, 1, 0], np.float32)
    beta, running = np.zeros(c, np.float32), np.ones((2, c), np.float32)
    y, dx, dshortcut, rest = *(np.empty_like(x) for _ in range(3)), np.empty((4, c), np.float32)
    most, slope = np.empty((*x.shape[:2], (x.shape[2] + 1) // 2, (x.shape[3] + 1) // 2), np.float32), np.empty_like(x)

    def run(name: str, *arrays: np.ndarray) -> None:
        shapes = [(ctypes.c_int64 * array.ndim)(*array.shape) for array in arrays]
        pointers = (ctypes.c_void_p * len(arrays))(*(array.ctypes.data for array in arrays))
        all_shapes = (ctypes.c_void_p * len(arrays))(*map(ctypes.addressof, shapes))
        assert not getattr(library, name)(len(arrays), pointers, None, all_shapes)

    run("batch_norm_add", x, gamma, beta, *running, settings, dy, y, *rest[:2])
    run("batch_norm_add_gradient", x, dy, gamma, *rest[:2], settings, y, dx, *rest[2:], dshortcut)
    evaluated, again, unused = *(np.empty_like(x) for _ in range(2)), np.empty((4, c), np.float32)
    settings[4] = 1
    run("batch_norm_add", x, gamma, beta, *running, settings, dy, evaluated, *unused[:2])
    run("batch_norm_add_gradient", x, dy, gamma, *unused[:2], settings, evaluated, again, *unused[2:], dshortcut.copy())
    padding = np.array([1, threads], np.float32)
    run("max_pool", x, padding, most)
    run("max_pool_gradient", x, np.ascontiguousarray(dy[:, :, : most.shape[2], : most.shape[3]]), padding, slope)
    matrix = x.reshape(-1, x.shape[3] * x.shape[2])
    turned = np.empty(matrix.shape[::-1], np.float32)
    run("transpose", matrix, np.array([threads], np.float32), turned)
    assert np.array_equal(turned, matrix.T)
    return y, *rest, dx, dshortcut, *running, evaluated, again, *unused, most, slope, turned


if __name__ == "__main__":
    x, dy = np.random.default_rng(0).normal(size=(2, 4, 37, 63, 64)).astype(np.float32)
    results = call(sys.argv[1], int(sys.argv[2]), x, dy)
    if "fork" in sys.argv:  # the child has none of the parent's threads
        child = os.fork()
        again = call(sys.argv[1], int(sys.argv[2]), x, dy)
        assert all(map(np.array_equal, results, again))
        if not child:
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
    print(hashlib.sha256(b"".join(array.tobytes() for array in results)).hexdigest())
