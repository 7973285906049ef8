"""Images of several requests in one call of the network: what arrives while it computes is its next batch."""

import threading
from collections.abc import Callable
from concurrent.futures import Future

import numpy as np

Outputs = dict[str, np.ndarray]
MOST = 8  # images in a call; more is not faster at 64 pixels and slower at 224


class Together:
    """A network, float32 (n, 3, S, S) -> outputs by name, that several threads may call at the same time.

    One of them computes for all that wait; nobody waits for others to arrive, so a lone request is as fast as before.
    """

    def __init__(self, forward: Callable[[np.ndarray], Outputs], most: int = MOST) -> None:
        self.forward, self.most = forward, most
        self.computing, self.changing = threading.Lock(), threading.Lock()
        self.waiting: list[tuple[np.ndarray, Future[Outputs]]] = []

    def __call__(self, x: np.ndarray) -> Outputs:
        answer: Future[Outputs] = Future()
        with self.changing:
            self.waiting.append((x, answer))
        while not answer.done():
            with self.computing:  # whoever comes next takes what has arrived meanwhile, if another has not answered it
                if not answer.done():
                    self.compute()
        return answer.result()

    def compute(self) -> None:
        """One call of the network for those that wait longest, at least one of them."""
        with self.changing:
            count, images = 0, 0
            for x, _ in self.waiting:
                if count and images + len(x) > self.most:
                    break
                count, images = count + 1, images + len(x)
            batch, self.waiting = self.waiting[:count], self.waiting[count:]
        try:
            outputs = self.forward(np.concatenate([x for x, _ in batch]))
        except BaseException as error:
            for _, answer in batch:
                answer.set_exception(error)
            return
        start = 0
        for x, answer in batch:
            answer.set_result({name: rows[start : start + len(x)] for name, rows in outputs.items()})
            start += len(x)
