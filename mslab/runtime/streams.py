"""A command's standard input, output and error, whatever they are: closed, a full disk, a pipe that nobody reads any
more, a terminal without UTF-8. Nothing of that changes what a command does, and none of it ends in a traceback. Where
nobody reads standard output any more, a command ends by SIGPIPE, as other programs do, but when its work is done.

Text goes out in the terminal's own encoding: a drawn line or an ellipsis that it lacks becomes ASCII, and any other
character an escape such as \\u8611. JSON is written as ASCII there (json_output), for scripts.
"""

import codecs
import io
import os
import select
import signal
import sys
from contextlib import suppress
from typing import IO, Any

DRAWN = {"…": "...", "—": "-", "–": "-", "─": "-", "━": "-", "╸": "-", "╺": "-", "│": "|", "┤": "|", "└": "+", "×": "x"}
DRAWN |= {"≥": ">=", "≤": "<=", "±": "+-", "·": "-", "•": "*", "→": "->", "’": "'", "‘": "'", "“": '"', "”": '"'}
TERMINAL = "MSLAB_TERMINAL_ENCODING"  # from use_utf8() to the process that it starts
BRAILLE = range(0x2800, 0x2900)  # dots of a curve


def plain(error: UnicodeError) -> tuple[str, int]:
    """Replace characters that an encoding lacks: an error handler for codecs."""
    assert isinstance(error, UnicodeEncodeError)
    text = error.object[error.start : error.end]
    return "".join(substitute(c) for c in text), error.end


def substitute(c: str) -> str:
    # substitute("…") -> "..."; substitute("蘑") -> "\\u8611"
    if ord(c) in BRAILLE:
        return "*" if ord(c) > BRAILLE.start else " "
    return DRAWN.get(c) or c.encode("ascii", "backslashreplace").decode()


def plain_ascii(name: str) -> codecs.CodecInfo | None:
    """ASCII under another name: click would write UTF-8 to a stream whose encoding is called ascii."""
    if name != "plain_ascii":
        return None
    ascii = codecs.lookup("ascii")
    return codecs.CodecInfo(*ascii, ascii.incrementalencoder, ascii.incrementaldecoder, name)


codecs.register_error("mslab", plain)
codecs.register(plain_ascii)


_without_reader: list[bool] = []  # not empty once nobody reads standard output any more


class Output(io.FileIO):
    """A file descriptor for output that takes everything: what cannot be written any more is lost.

    `problem`: why; if its reader has ended (`| head`), that is noted for end_as_unix_does() instead.
    """

    problem = ""

    def write(self, data: Any) -> int:
        try:
            while (count := super().write(data)) is None:  # a pipe that does not wait, as some programs' children have
                select.select([], [self], [])
            return count
        except BrokenPipeError:
            if os.path.sameopenfile(self.fileno(), 1):  # also standard error that goes to the same pipe
                _without_reader.append(True)
        except OSError as error:
            self.problem = self.problem or error.strerror or str(error)
        with suppress(OSError):  # what follows is written to nowhere, by C++ code as well
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self.fileno())
            os.close(null)
        return len(data)


def text_output(descriptor: int, encoding: str | None, close: bool = False) -> IO[str]:
    """A text stream to this descriptor, line by line. `close`: closing the stream closes the descriptor, too."""
    raw = Output(descriptor, "w", closefd=close)
    if codecs.lookup(encoding or "utf-8").name == "ascii":
        encoding = "plain_ascii"
    by_line = descriptor != 1 or raw.isatty()
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding or "utf-8", "mslab", line_buffering=by_line)


def use_utf8() -> None:
    """Start this process again in Python's UTF-8 mode if names of files are not UTF-8 for it.

    Under another locale (zh_CN.GBK), a class folder that was unpacked from a UTF-8 archive would be read as other
    characters, which would go into checkpoints. The terminal's encoding stays, for text_output().
    """
    if sys.getfilesystemencoding() == "utf-8" or TERMINAL in os.environ or not sys.executable:
        return
    os.environ |= {"PYTHONUTF8": "1", TERMINAL: (sys.stdout and sys.stdout.encoding) or "utf-8"}
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def open_standard_streams() -> None:
    """Give this process a standard input, output and error that take everything."""
    terminal = os.environ.pop(TERMINAL, None)
    for descriptor in (0, 1, 2):  # else the next file that is opened would become standard output
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        if stream is getattr(sys, f"__{name}__"):  # not what a test or a notebook has put there
            if stream:
                stream.flush()
            setattr(sys, name, text_output(descriptor, terminal or (stream and stream.encoding)))


def output_problem() -> str:
    """Why standard output lacks something, or ""."""
    sys.stdout.flush()
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    return raw.problem if isinstance(raw, Output) else ""


def end_as_unix_does() -> None:
    """Where the reader of standard output has ended (`| head`), end this process by SIGPIPE: 141 in a shell.

    To be called when the work is done: the signal at the first line that nobody reads would leave it half done.
    """
    if _without_reader and hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        signal.raise_signal(signal.SIGPIPE)


def drawn(text: str) -> str:
    """Text as the terminal that is standard output can show it, so that its width can be counted.

    A terminal of another encoding than Unicode's, and one without a locale (LANG=C), gets no drawn lines: in Chinese
    ones they are two columns wide. Names stay as they are where the encoding has them.
    """
    stream = sys.stdout
    if text.isascii() or not (stream and stream.isatty()):
        return text
    if takes_unicode(stream) and not in_c_locale():
        return text
    plain = "".join(substitute(c) if c in DRAWN or ord(c) in BRAILLE else c for c in text)
    return plain if takes_unicode(stream) else plain.encode(stream.encoding, "mslab").decode(stream.encoding)


def in_c_locale() -> bool:
    """Whether no locale is set: Python then takes UTF-8, of its own accord."""
    return bool(sys.flags.utf8_mode) and "PYTHONUTF8" not in os.environ and "utf8" not in sys._xoptions


def takes_unicode(stream: Any) -> bool:
    """Whether any character can be written to this stream."""
    try:
        return codecs.lookup(stream.encoding).name.startswith("utf")
    except (LookupError, TypeError, AttributeError):
        return False
