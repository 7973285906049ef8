"""Files are replaced atomically, even if the process is killed."""

import subprocess
import sys


def test_a_kill_at_any_byte_leaves_the_earlier_file(tmp_path):
    """One process; its children are killed while they write."""
    file = tmp_path / "net.ckpt"
    file.write_bytes(b"the earlier one" * 1000)
    script = f"""
import os, signal
from pathlib import Path
from mslab import checkpoint
file = Path({str(file)!r})
for stop in (0, 1, 4096):
    def write(temporary):
        with temporary.open("wb") as out:
            out.write(b"x" * stop)
            out.flush()
            os.kill(os.getpid(), signal.SIGKILL)
    child = os.fork()
    if child == 0:
        checkpoint.replace_atomically(file, write)
        os._exit(0)
    print(os.waitpid(child, 0)[1], file.read_bytes() == b"the earlier one" * 1000)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout == "9 True\n" * 3, done.stderr
