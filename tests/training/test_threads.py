"""Trainings in threads: one at a time works, also outside of the main thread; a second one is refused."""

from concurrent.futures import ThreadPoolExecutor

import pytest

import mslab
from mslab.errors import MslabError
from mslab.runtime import turns


def test_a_second_training_or_measurement_in_another_thread_is_refused_in_one_sentence(inside, three, parent, squares):
    calls = {
        "mslab.train": lambda: mslab.train(three),
        "mslab.transfer": lambda: mslab.transfer(three, backbone=parent),
        "mslab.evaluate": lambda: mslab.evaluate(parent, squares / "three/test"),
        "a report": lambda: mslab.Run(parent).report(),
    }
    with ThreadPoolExecutor(1) as other, turns.alone("mslab.train"):
        for name, call in calls.items():
            with pytest.raises(MslabError, match=f"^{name} cannot run beside mslab.train, which another thread"):
                other.submit(call).result()
    assert not (inside / "runs").exists()


def test_a_training_in_a_thread_works_as_in_the_main_thread(inside, three):
    with ThreadPoolExecutor(1) as other:
        done = other.submit(mslab.train, three | {"epochs": 1}).result()
    assert done.best_epoch == 1
    assert mslab.evaluate(done.run, three["val_data"])["accuracy"] == pytest.approx(done.val_acc, abs=1e-5)
