"""A device is tried in a child process; imports of a process; Ctrl-C during an import."""

import subprocess
import sys

from helpers import draw

from mslab.runtime import devices


def test_a_broken_driver_is_tried_in_a_child_process_and_auto_chooses_the_cpu(monkeypatch, capfd):
    for device in ("gpu", "ascend"):
        monkeypatch.setitem(devices.DRIVERS, device, ("/",))  # a "driver" exists; the device does not
    device, refused = devices.best_device()
    assert device == "cpu" and list(refused) == ["ascend", "gpu"]
    assert all(reason and not reason.startswith(devices.NO_DRIVER) for reason in refused.values()), refused
    assert "".join(capfd.readouterr()) == ""  # MindSpore's output stays in the child


def test_help_and_check_do_not_import_mindspore(tmp_path):
    draw(tmp_path / "set", ["a", "b"], 3)
    script = """
import sys, mslab.cli
for arguments in (["--help"], ["check", "set"]):
    try:
        mslab.cli.app(arguments)
    except SystemExit as leaving:
        assert not leaving.code, leaving
print({"mindspore", "sklearn"} & set(sys.modules))
"""
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0 and done.stdout.endswith("\nset()\n"), done.stdout + done.stderr


def test_ctrl_c_during_mindspores_import_ends_a_command_at_once_and_waits_elsewhere():
    script = """
import contextlib, os, signal, sys, threading, time
from mslab.runtime import signals
def press():
    while "mindspore.common" not in sys.modules:
        time.sleep(0.001)
    os.kill(os.getpid(), signal.SIGINT)
threading.Thread(target=press, daemon=True).start()
stops = signals.on_stop(signals.stop_at_once)
with signals.command(lambda: "nothing was written") if sys.argv[1:] else stops:
    try:
        import mindspore
        done = True
        time.sleep(20)
    except KeyboardInterrupt:
        print("stopped", done, float(mindspore.Tensor([2.0]).asnumpy()[0]))
"""
    words = [sys.executable, "-c", script]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "stopped True 2.0" and done.returncode == 0, done.stderr
    done = subprocess.run([*words, "command"], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "nothing was written\n")
