"""mslab serve: images of several requests in one call of the network."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from mslab.inference.serve.together import Together


class Network:
    """Returns each image's own number, and holds the first call until others wait."""

    def __init__(self):
        self.sizes: list[int] = []
        self.running, self.go_on = threading.Event(), threading.Event()

    def __call__(self, x):
        self.sizes.append(len(x))
        self.running.set()
        assert self.go_on.wait(10)
        if (x == 13).any():
            raise ValueError("an unlucky batch")
        return {"logits": x[:, :1] * 2, "features": x + 1}


def ask_all(network: Network, together: Together, numbers: list[int]):
    """The futures of calls for these numbers; the network computes the first while the others arrive."""
    with ThreadPoolExecutor(len(numbers)) as pool:
        first = pool.submit(together, np.full((1, 3), numbers[0]))
        assert network.running.wait(10)
        rest = []
        for number in numbers[1:]:
            rest.append(pool.submit(together, np.full((1, 3), number)))
            while len(together.waiting) < len(rest):  # so that they wait in this order
                time.sleep(0.001)
        network.go_on.set()
    return [first, *rest]


def test_what_waits_is_computed_in_one_call_and_each_gets_its_own():
    network = Network()
    answers = ask_all(network, Together(network, most=4), list(range(1, 9)))
    assert network.sizes == [1, 4, 3]
    for number, answer in enumerate(answers, 1):
        assert answer.result()["logits"].tolist() == [[2 * number]]
        assert answer.result()["features"].tolist() == [[number + 1] * 3]


def test_a_call_that_fails_is_an_error_for_its_images_and_the_next_goes_on():
    network = Network()
    answers = ask_all(network, Together(network, most=2), [1, 13, 13, 2])
    assert answers[0].result()["logits"].tolist() == [[2]] and answers[3].result()["logits"].tolist() == [[4]]
    for answer in answers[1:3]:
        with pytest.raises(ValueError, match="an unlucky batch"):
            answer.result()


def test_a_single_call_with_more_images_than_fit_is_computed_whole():
    network = Network()
    network.go_on.set()
    assert len(Together(network, most=2)(np.zeros((5, 3)))["logits"]) == 5
