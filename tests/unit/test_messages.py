"""mslab's messages as they reach the terminal."""

import io
import logging

import pytest

from mslab.runtime import console


@pytest.fixture
def screen():
    """The stream that receives mslab's messages for the terminal."""
    stream = io.StringIO()
    before = console.terminal.setStream(stream)
    yield stream
    console.terminal.setStream(before)


@pytest.mark.parametrize(
    ("name", "escaped"),
    [
        ("\x1b[2J", "\\x1b[2J"),  # clears the screen
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),  # names the window
        ("\x9b31m", "\\x9b31m"),  # colours, in one character
        ("a\rb\bc", "a\\rb\\x08c"),  # overwrites the line
        ("\u202eback", "\\u202eback"),  # reverses the line
    ],
    ids=ascii,
)
def test_no_name_in_a_message_commands_the_terminal(screen, name, escaped):
    logging.getLogger("mslab").info("class %s", name)
    logging.getLogger("mslab").warning(f"note: {name}\n\tsecond line")
    assert screen.getvalue() == f"class {escaped}\nnote: {escaped}\n\tsecond line\n"


def test_a_message_with_an_error_does_not_either(screen):
    try:
        raise ValueError("\x1b[2Jred")
    except ValueError:
        logging.getLogger("mslab").exception("it failed")
    assert "ValueError: \\x1b[2Jred" in screen.getvalue() and "\x1b" not in screen.getvalue()
