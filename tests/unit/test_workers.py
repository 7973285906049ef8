"""Several workers: what the launchers of their machines report to each other, and what a device cannot do."""

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
    with pytest.raises(ConfigError, match="ASCEND_RT_VISIBLE_DEVICES=0,1 lists fewer devices than the 4 workers"):
        launching.check_devices("ascend", 4, {"ASCEND_RT_VISIBLE_DEVICES": "0,1"})
    launching.check_devices("ascend", 2, {"ASCEND_RT_VISIBLE_DEVICES": "0,1"})
    launching.check_devices("cpu", 4, {"ASCEND_RT_VISIBLE_DEVICES": "0"})


def port_of_two() -> int:
    """A free port whose next one is free too, outside the range from which systems assign ports."""
    for port in random.sample(range(15_000, 32_000), 100):
        with contextlib.suppress(OSError), socket.create_server(("", port)), socket.create_server(("", port + 1)):
            return port
    raise AssertionError("no two ports are free")


def test_the_launchers_of_several_machines_report_to_each_other_how_they_end():
    master = f"127.0.0.1:{port_of_two()}"

    def channels() -> tuple[launching.Channel, launching.Channel, launching.Channel]:
        return tuple(launching.Channel(Cluster(3, 3, rank, master)) for rank in range(3))

    def received(channel: launching.Channel) -> str:
        for _ in range(50):
            if reason := channel.receive():
                return reason
            time.sleep(0.02)
        return ""

    first, second, third = channels()
    assert [channel.receive() for channel in (second, third, first, first)] == [""] * 4
    second.close("RunError: worker 1 was killed")
    assert received(first) == "RunError: worker 1 was killed"
    first.close("another machine has failed: RunError: worker 1 was killed")
    assert "worker 1 was killed" in received(third)
    third.close()
    first, second, third = channels()
    assert [channel.receive() for channel in (second, third, first, first)] == [""] * 4
    second.close()  # ended well: nothing to receive
    third.peers[0].close()  # its launcher is gone
    assert received(first) == "its launcher was killed"
    first.close()
    occupied = launching.Channel(Cluster(2, 2, 0, master))
    with pytest.raises(RunError, match=r"Port \d+ of this machine cannot be used: Address already in use"):
        launching.Channel(Cluster(2, 2, 0, master))
    occupied.close()
    alone = launching.Channel(Cluster(2))
    assert alone.receive() == "" and alone.server is None


def test_float16_on_a_cpu_is_refused_with_the_reason():
    with pytest.raises(DeviceError, match="amp_level: O2 on a CPU: it has no float16 arithmetic"):
        devices.setup_calls("cpu", "graph", 1, amp_level="O2")


@pytest.mark.parametrize("master", ["[::1]:8118", "::1", "[fe80::1]", "2001:db8::5"])
def test_an_ipv6_address_of_the_first_machine_is_named(master):
    with pytest.raises(ConfigError, match="is an IPv6 address, and MindSpore's launcher takes IPv4 only"):
        Cluster(2, 2, 0, master).check()
    Cluster(2, 2, 0, "node-1:8118").check()
    assert Cluster(2, 2, 0, "node-1").address == ("node-1", 8118)
