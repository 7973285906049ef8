"""Text from outside (names of files and classes, values of settings), shown so that it neither hides nor runs anything.

escape_control() is for text that a person reads, command() for a command that a person copies.
"""

import re
import shlex
import shutil
import sys
import unicodedata
from importlib.util import find_spec
from pathlib import Path, PurePath

ZWNJ, ZWJ = "\u200c", "\u200d"
VIRAMA = 9  # combining class of the Indic signs whose look a joiner after them changes
# invisible characters that Unicode does not count among the control and format characters: fillers and an ignored sign
INVISIBLE = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0")
# format characters that are drawn: Arabic, Syriac and Kaithi signs in front of numbers
DRAWN = frozenset("\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd")


def escape_control(text: str, safe: str = "\n\t") -> str:
    """Escape control, direction and invisible characters and lone surrogates; `safe` are the ones to keep.

    Text in any script stays readable: a joiner is kept where Persian, Indic scripts and emoji need it.
    """
    # escape_control("a\x1b[2Jb") -> "a\\x1b[2Jb"
    text = str(text)  # also of a Markup, which would escape what it is compared with
    if text.isascii() and text.isprintable():
        return text
    found = "".join(c for c in set(text) if c not in safe and is_hidden(c))
    if not found:
        return text
    return re.sub(
        f"[{re.escape(found)}]",
        lambda match: match[0] if is_joiner(text, match.start()) else escaped(match[0]),
        text,
    )


def is_hidden(c: str) -> bool:
    """Whether a character is not drawn, or changes how its neighbours are drawn."""
    if c.isprintable():
        return c in INVISIBLE
    return c not in DRAWN and unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")


def is_joiner(text: str, at: int) -> bool:
    """Whether the character here is a joiner in its place: beside an Indic virama, after Arabic, between emoji."""
    if text[at] not in (ZWNJ, ZWJ):
        return False
    before = at - 1
    while before > 0 and unicodedata.category(text[before]) in ("Mn", "Sk") and not is_virama(text[before]):
        before -= 1  # vowel signs, skin colours, and the sign that asks for an emoji's picture
    previous, following = text[before : before + 1] if at else "", text[at + 1 : at + 2]
    if is_virama(previous) or is_virama(following):
        return True
    if previous and unicodedata.bidirectional(previous) == "AL":
        return True
    emoji = [bool(c) and not c.isascii() and unicodedata.category(c) in ("So", "Sm") for c in (previous, following)]
    return text[at] == ZWJ and all(emoji)


def is_virama(c: str) -> bool:
    return bool(c) and unicodedata.combining(c) == VIRAMA


def escaped(c: str) -> str:
    return c.encode("unicode_escape", "surrogatepass").decode()


def command(*words: str | PurePath) -> str:
    """The command line `mslab WORD …`, quoted for a shell: pasted, it does what it says with files of any name.

    Names from outside are passed as paths, options and KEY=VALUE as text.
    """
    # command("train", "--resume", Path("runs/$(rm x)")) -> mslab train --resume 'runs/$(rm x)'
    return " ".join(["mslab", *map(quoted, words)])


def typed_command() -> str:
    """The name of the command that was typed; "" in another program than mslab."""
    program, *words = sys.argv
    return words[0] if Path(program).name == "mslab" and words else ""


def typed_with(path: PurePath, other: PurePath, last: bool = False) -> str:
    """The command line that was typed, with another path in the place of one; "" if that path was not typed.

    `last`: of a path that was typed twice, the last one is meant, as images come after the network.
    """
    # mslab eval runs/x --data datasets -> mslab eval runs/x --data datasets/nine
    program, *words = sys.argv
    places = [i for i, word in enumerate(words) if word and Path(word) == path and word[0] != "-"]
    if Path(program).name != "mslab" or not places:
        return ""
    at = places[-1 if last else 0]
    return command(*words[:at], other, *words[at + 1 :])


def pip_install(*packages: str) -> str:
    """The command that installs packages beside this mslab, whichever pip comes first on PATH."""
    # pip_install("numpy<2") -> pip install 'numpy<2', or .../.venv/bin/python -m pip install 'numpy<2'
    words = " ".join(map(quoted, packages))
    python, pip = Path(sys.executable), shutil.which("pip")
    if pip and Path(pip).parent == python.parent:
        return f"pip install {words}"
    if find_spec("pip") is None:  # an environment of uv's
        return f"uv pip install --python {quoted(python)} {words}"
    return f"{quoted(python)} -m pip install {words}"


def recorded_command(line: str) -> str:
    """A command line that a run's folder contains, which may be someone else's: pasted, it calls nothing but mslab."""
    # recorded_command("mslab train x.yaml; rm -r .") -> mslab train 'x.yaml;' rm -r .
    try:
        words = shlex.split(line)
    except ValueError:  # a quotation mark without its second
        words = [line]
    return f"{'' if words[:1] == ['mslab'] else '# '}{' '.join(map(quoted, words))}"


def quoted(word: str | PurePath) -> str:
    """One word of a command line, quoted for a shell if it has to be. No path is taken for an option."""
    text = str(word)
    if isinstance(word, PurePath) and text[0] in "-=":  # zsh replaces =NAME
        text = f"./{text}"
    if escape_control(text, safe="") == text and unicodedata.is_normalized("NFC", text):
        return shlex.quote(text)  # a terminal may put letters and their accents together
    return f"$'{''.join(octal(text, at) for at in range(len(text)))}'"


def octal(text: str, at: int) -> str:
    """One character inside $'…' of bash, zsh and ksh: as octal numbers of its bytes if it cannot be shown there."""
    c = text[at]
    pair = text[max(0, at - 1) : at + 1]
    if c not in "\\'!" and (not is_hidden(c) or is_joiner(text, at)) and unicodedata.is_normalized("NFC", pair):
        return c
    is_byte = "\udc80" <= c <= "\udcff"  # a byte of a file's name that is not UTF-8
    return "".join(f"\\{byte:03o}" for byte in c.encode("utf-8", "surrogateescape" if is_byte else "surrogatepass"))
