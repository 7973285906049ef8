"""Other cells in the place of some of a network's, under the same parameters and names; other values in a parameter."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import mindspore as ms
import numpy as np
from mindspore import nn, ops


def overwrite(parameter: ms.Parameter, value: np.ndarray | ms.Tensor) -> None:
    """Copy the value into the parameter where it lies.

    Parameter.set_data gives it other memory. In PYNATIVE an optimizer that has run once goes on with the old memory, so
    that nothing it does reaches the network any more, without a word.
    """
    ops.assign(parameter, ms.Tensor(value, parameter.dtype))


@contextmanager
def names_kept(network: nn.Cell) -> Iterator[None]:
    """What is done to the network's cells meanwhile renames no parameter. MindSpore prefixes them at each setting."""
    names = {id(parameter): parameter.name for parameter in network.get_parameters()}
    yield
    for parameter in network.get_parameters():
        parameter.name = names[id(parameter)]


def replace(network: nn.Cell, wanted: Callable[[nn.Cell], bool], make: Callable[[nn.Cell], nn.Cell]) -> None:
    """Put make(cell) in the place of every cell inside that is wanted. `make` takes over the cell's parameters."""
    with names_kept(network):
        for _, parent in list(network.cells_and_names()):
            for name, cell in list(parent.name_cells().items()):
                if not wanted(cell):
                    continue
                if isinstance(parent, nn.SequentialCell):
                    parent[int(name)] = make(cell)
                else:
                    setattr(parent, name, make(cell))
