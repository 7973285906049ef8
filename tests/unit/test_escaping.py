"""Names from outside neither run nor hide anything: quoted in commands, escaped in text."""

import ast
import os
import re
import subprocess
from pathlib import Path

import pytest
from helpers import PROJECT

from mslab.cli import app
from mslab.cli.data import data_app
from mslab.cli.runs import runs_app
from mslab.config import load_settings, override
from mslab.escaping import command, escape_control, quoted, recorded_command

NAMES = ["two words", "$(touch EVIL)", "`touch EVIL`", "; touch EVIL", "it's", 'a"b', "-x", "--out=EVIL", "~", "~/x"]
NAMES += ["new\nline", "\udcff\udc80", "a\u202eb", "\u200b", "tab\t", "\x1b[2J", "!!", "it's\x07!x\\n", "*", "$HOME"]
NAMES += ["#x", "a&b", "a|b", "a>EVIL", "{a,b}", "x=y", "=x", "\\", "蘑菇 1", "مهم‌تر", "👩‍🚀", "e\u0301", ""]


def shell(text: str, folder: Path) -> bytes:
    """What bash says to a text that was pasted into it, in a folder with a `mslab` that prints its arguments."""
    script = b"mslab() { printf '%s\\0' \"$@\"; }\n" + os.fsencode(text)
    done = subprocess.run(["bash", "-c", script], cwd=folder, capture_output=True, timeout=20)
    assert done.returncode == 0 and done.stderr == b""
    return done.stdout


def test_a_command_copied_from_a_message_reaches_the_file_of_any_name_and_nothing_else(tmp_path):
    paths = [Path(name) for name in NAMES]
    shown = command("report", *paths)
    assert escape_control(shown, safe="") == shown and "\n" not in shown  # the terminal shows it as it is
    words = [os.fsdecode(word) for word in shell(shown, tmp_path).split(b"\0")[1:-1]]
    assert [Path(word) for word in words] == paths and not any(word[0] in "-=" for word in words)
    assert shell(command(*NAMES), tmp_path).split(b"\0")[:-1] == [os.fsencode(name) for name in NAMES]
    assert command("\udfff😀\u2028") == "mslab $'\\355\\277\\277😀\\342\\200\\250'"  # not bytes of any file's name
    assert list(tmp_path.iterdir()) == []


def test_an_ordinary_name_is_not_quoted():
    plain = "runs/nine-20260101-120000/checkpoints/best.ckpt"
    assert command("train", "--resume", Path(plain), "lr_max=0.1") == f"mslab train --resume {plain} lr_max=0.1"
    assert quoted(Path("-x")) == "./-x" and quoted(Path("a b")) == "'a b'" and quoted(Path()) == "."


def test_a_recorded_command_calls_nothing_but_mslab(tmp_path):
    hostile = ["mslab train x; touch EVIL", "mslab $(touch EVIL)", "mslab x\ntouch EVIL", "touch EVIL", "x' touch EVIL"]
    hostile += ["", "\n", "mslab 'a' > EVIL", "'mslab' a&touch EVIL", "mslab '", "'\n'touch EVIL", "mslab a \u2028\x1b"]
    for line in hostile:
        shown = recorded_command(line)
        shell(shown, tmp_path)
        assert escape_control(shown, safe="") == shown, line
    assert list(tmp_path.iterdir()) == []
    assert recorded_command("mslab train 'a b.yaml' lr_max=0.1") == "mslab train 'a b.yaml' lr_max=0.1"
    assert recorded_command("train.py --x 'a b'") == "# train.py --x 'a b'"


@pytest.mark.parametrize("name", NAMES)
def test_a_setting_copied_from_a_message_has_the_same_value(name):
    text = override("train_data", name)
    assert load_settings({"val_data": "b", "class_num": 3}, [text]).train_data == name


def test_control_direction_and_invisible_characters_are_escaped():
    hidden = [*map(chr, [*range(32), *range(0x7F, 0xA0)]), *"\u00ad\u061c\u115f\u180e\u200b\u200e\u200f\u2028\u2029"]
    hidden += [*"\u202a\u202b\u202c\u202d\u202e\u2060\u2064\u2066\u2067\u2068\u2069\u206f\u3164\ufeff\ufff9"]
    hidden += ["\U000e0041", "\ud800", "\udcff", "\u034f", "\U0001d173"]
    for c in hidden:
        text = escape_control(f"a{c}b", safe="")
        assert text.isascii() and text.startswith("a\\") and text.endswith("b") and text.isprintable(), ascii(c)
    assert escape_control("a\tb\nc\r\x1b[2J") == "a\tb\nc\\r\\x1b[2J"
    spoofs = [
        "pay\u200dpal",
        "a\u200c",
        "\u200d",
        "\u200cمهم",
        "蘑\u200d菇",
        "1\u200d2",
        "مهم\u200d\u200d",
        "👩\u200dx",
    ]
    for text in spoofs:
        assert "\\u200" in escape_control(text), ascii(text)


@pytest.mark.parametrize(
    "text",
    [
        "蘑菇 平菇 ＡＢ　Ｃ",
        "فطر السوق، ١٢٣",
        "می‌خواهم نیم‌فاصله",  # Persian writes a non-joiner inside words
        "پَی‌ها",  # after a vowel sign too
        "פטרייה ירוקה",
        "क्‍ष क्‌ष ശ്രീ ന്‍ র‍্য ක්‍ෂ",  # Indic scripts: joiners beside a virama
        "เห็ด 버섯 キノコ Šampiňon e\u0301",
        "👩‍🚀 👩🏽‍🚀 🏴‍☠️ ❤️‍🔥 👨‍👩‍👧‍👦 🙂‍↔️ 🇺🇳",  # emoji of several
        "nbsp\u00a0and\u202fthin\u3000wide",
    ],
)
def test_honest_text_in_any_script_stays_as_it_is(text):
    assert escape_control(text, safe="") == text


# --- no command in the source is built without quoting ----------------------------------------------------------------


def names_of(typer) -> set[str]:
    groups = {group.name for group in typer.registered_groups}
    return {str(job.name) for job in typer.registered_commands} | groups


JOBS = sorted(names_of(app)), sorted(names_of(data_app) | names_of(runs_app))
WORDS = r"(?:-{1,2}[\w-]+[ =]|[A-Z]\S* |\S*[/.=+]\S* )*"  # options, placeholders, paths, u+r: no prose
SHOWN = (
    rf"(?:\bmslab (?:{'|'.join(JOBS[0])}) (?:(?:{'|'.join(JOBS[1])}) )?|\b(?:chmod|mkdir|cd|rm|mv|tensorboard) ){WORDS}"
)
QUOTING = {"command", "quoted", "recorded_command", "cores"}  # the last is a number


def unquoted(tree: ast.AST):
    """Line numbers of texts in which something follows `mslab COMMAND …` without a call of escaping.py."""
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            before = ""
            for part in node.values:
                if isinstance(part, ast.Constant):
                    before += part.value
                    continue
                call = getattr(part.value, "func", None)
                called = getattr(call, "id", getattr(call, "attr", ""))
                if re.search(f"{SHOWN}$|COMMAND", before) and called not in QUOTING:
                    yield node.lineno
                before += "COMMAND" if called == "command" else "WORD"  # nothing raw may follow in the same line
        elif isinstance(node, ast.BinOp) and isinstance(node.left, ast.Constant) and isinstance(node.left.value, str):
            if re.search(f"{SHOWN}$", node.left.value):
                yield node.lineno
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            if re.search(rf"{SHOWN}(%[sr]|{{\w*}})", node.value):
                yield node.lineno
        elif isinstance(node, ast.Attribute) and node.attr == "quote" and getattr(node.value, "id", "") == "shlex":
            yield node.lineno


def test_every_command_that_is_shown_is_quoted():
    package = PROJECT / "mslab"
    for file in sorted(package.rglob("*.py")):
        if file.name != "escaping.py":
            lines = list(unquoted(ast.parse(file.read_text(encoding="utf-8"))))
            assert not lines, f"{file}, lines {lines}: use command() or quoted() of mslab/escaping.py"
    for file in sorted(package.rglob("*.html")):
        found = re.search(rf"{SHOWN}{{{{", file.read_text(encoding="utf-8"))
        assert not found, f"{file}: {found and found[0]}: let command() of mslab/escaping.py make it"


@pytest.mark.parametrize(
    "line",
    [
        'f"mslab train --resume {run}"', '"mslab train " + run', 'log.info("mslab check %s", run)', "shlex.quote(run)",
        'f"chmod u+r {path}"', 'f"{command(run)}    writes {out}"', '"fix: mslab data pack {}".format(run)',
        'f"{a}; mslab sweep --resume {quoted(b)} --out {c}"',
    ],
)  # fmt: skip
def test_a_new_command_without_quoting_is_noticed(line):
    assert list(unquoted(ast.parse(line)))
