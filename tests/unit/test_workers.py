"""Several workers: what the launchers of their machines tell each other, and what a device cannot do."""

import contextlib
import random
import socket
import time

import pytest

from mslab.errors import ConfigError, DeviceError, RunError
from mslab.runtime import devices
from mslab.training import launching
from mslab.training.launching import Cluster


def test_fewer_visible_devices_than_workers():
    with pytest.raises(ConfigError, match="ASCEND_RT_VISIBLE_DEVICES=0,1 shows fewer devices than the 4 workers"):
        launching.check_devices("ascend", 4, {"ASCEND_RT_VISIBLE_DEVICES": "0,1"})
    launching.check_devices("ascend", 2, {"ASCEND_RT_VISIBLE_DEVICES": "0,1"})
    launching.check_devices("cpu", 4, {"ASCEND_RT_VISIBLE_DEVICES": "0"})


def port_of_two() -> int:
    """A port that is free, as is the next one: among those that no system gives to whoever asks for any."""
    for port in random.sample(range(15_000, 32_000), 100):
        with contextlib.suppress(OSError), socket.create_server(("", port)), socket.create_server(("", port + 1)):
            return port
    raise AssertionError("no two ports are free")


def test_the_launchers_of_several_machines_tell_each_other_how_they_end():
    master = f"127.0.0.1:{port_of_two()}"

    def lines() -> tuple[launching.Line, launching.Line, launching.Line]:
        return tuple(launching.Line(Cluster(3, 3, rank, master)) for rank in range(3))

    def heard(line: launching.Line) -> str:
        for _ in range(50):
            if why := line.heard():
                return why
            time.sleep(0.02)
        return ""

    first, second, third = lines()
    assert [line.heard() for line in (second, third, first, first)] == [""] * 4
    second.end("RunError: worker 1 was killed")
    assert heard(first) == "RunError: worker 1 was killed"
    first.end("another machine has failed: RunError: worker 1 was killed")
    assert "worker 1 was killed" in heard(third)
    third.end()
    first, second, third = lines()
    assert [line.heard() for line in (second, third, first, first)] == [""] * 4
    second.end()  # well: nothing to hear
    third.peers[0].close()  # its launcher is gone
    assert heard(first) == "its launcher was killed"
    first.end()
    taken = launching.Line(Cluster(2, 2, 0, master))
    with pytest.raises(RunError, match=r"port \d+ of this machine cannot be used: Address already in use"):
        launching.Line(Cluster(2, 2, 0, master))
    taken.end()
    alone = launching.Line(Cluster(2))
    assert alone.heard() == "" and alone.server is None


def test_float16_on_a_cpu_is_refused_with_the_reason():
    with pytest.raises(DeviceError, match="amp_level: O2 on a CPU: it has no float16 arithmetic"):
        devices.setup_calls("cpu", "graph", 1, amp_level="O2")
