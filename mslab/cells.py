"""Other cells in the place of some of a network's, while its parameters stay the same under the same names."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from mindspore import nn


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
