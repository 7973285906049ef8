"""Standard streams of every kind: other encodings, closed, full, a reader that ends. The exit code stays right."""

import json
import os
import signal
import subprocess

import pytest
from helpers import PROGRAM, draw

NAMES = ("蘑菇", "café", "b")


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return draw(tmp_path_factory.mktemp("streams") / "set", list(NAMES), 2)


def mslab(*words, env=None, **streams):
    """Run `mslab …`. Returns (exit code, bytes of standard output, of standard error)."""
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | streams
    done = subprocess.run([*PROGRAM, *map(str, words)], env=os.environ | (env or {}), check=False, **streams)
    assert b"Traceback" not in (done.stdout or b"") + (done.stderr or b"")
    return done.returncode, done.stdout or b"", done.stderr or b""


POSIX = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "POSIX"}


@pytest.mark.parametrize("env", [{"PYTHONIOENCODING": "ascii"}, POSIX], ids=["ascii", "POSIX"])
def test_what_a_terminal_cannot_show_is_escaped(images, env):
    code, out, _ = mslab("check", images, env=env)
    assert code == 0 and rb"\u8611\u83c7" in out and rb"caf\xe9" in out and out.isascii()
    code, _, err = mslab("check", images / "蘑菇x", env=env)
    assert code == 1 and rb"\u8611\u83c7x" in err and err.isascii()


def test_messages_about_the_command_line_are_escaped():
    code, _, err = mslab("trian-蘑菇", env={"PYTHONIOENCODING": "ascii"})
    assert code == 2 and err.isascii() and rb"\u8611" in err


def test_names_are_utf8_and_the_terminals_encoding_stays(images):
    code, out, _ = mslab("check", images, env={"PYTHONIOENCODING": "gbk"})
    assert code == 0 and "蘑菇 2" in out.decode("gbk")
    code, out, _ = mslab("check", images, "--json", "-", env=POSIX)
    assert code == 0 and out.isascii() and json.loads(out)["classes"] == sorted(NAMES)


def test_json_keeps_its_characters_in_every_encoding(images):
    code, out, _ = mslab("check", images, "--json", "-", env={"PYTHONIOENCODING": "cp1252"})
    assert code == 0 and out.isascii() and json.loads(out)["classes"] == sorted(NAMES)


def test_drawn_lines_become_ascii_and_emoji_an_escape():
    from mslab.runtime import streams

    assert "─ … → ⠉ ⠀ × 🍄".encode("ascii", "mslab") == rb"- ... -> *   x \U0001f344"
    assert streams.takes_unicode(open(os.devnull, encoding="utf-8")) and not streams.takes_unicode(None)  # noqa: PTH123, SIM115


def test_a_command_whose_reader_ends_early_is_quiet_and_ends_by_sigpipe_when_its_work_is_done(images, tmp_path):
    page = tmp_path / "page.html"
    for words in (("check", images, "--html", page), ("--help",), ("check", images / "none")):
        read, write = os.pipe()
        os.close(read)
        wrong = words[-1] == images / "none"  # says so on standard error, which goes to the same pipe
        streams = {"stdout": write, "stderr": write if wrong else subprocess.PIPE}
        code, out, err = mslab(*words, **streams)
        assert (code, out) == (-signal.SIGPIPE, b"") and b"Broken" not in err and b"Exception" not in err
        os.close(write)
    assert page.read_bytes().endswith(b"</html>")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="Linux")  # noqa: PTH110
def test_a_full_disk_at_standard_output_is_an_error_in_one_message(images):
    with open("/dev/full", "wb") as full:  # noqa: PTH123
        for words in (("check", images), ("--help",)):
            code, _, err = mslab(*words, stdout=full)
            assert code == 1
            assert err.startswith(b"MslabError: Standard output could not be written: No space left on device.\n")
            assert b"\n  expected  " in err and b"\n  fix       " in err
        assert mslab("check", images / "none", stderr=full)[0] == 1


def test_closed_streams_change_nothing(images):
    for closed, folder, code in ((">&-", images, 0), ("<&- >&- 2>&-", images, 0), ("2>&-", images / "none", 1)):
        done = subprocess.run(["sh", "-c", f'"$0" check "$1" {closed}', *PROGRAM, folder], capture_output=True)
        assert (done.returncode, done.stdout, done.stderr) == (code, b"", b"")
