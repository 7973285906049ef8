"""Which language a person reads, and the translation of messages: English or Chinese.

Messages are written in English where they belong, and stay English in every JSON, CSV and manifest. Where one is shown,
translated() looks it up in the table of its room (zh.py), whose texts have {name} for what is inserted.
"""

import functools
import os
import re
import string
import sys
from collections.abc import Mapping

CHOSEN = "MSLAB_LANG"  # environment variable, which processes that this one starts inherit: what --lang says
NAMES = "en or zh"


def current() -> str:
    """en or zh: what --lang says, or else the locale, in gettext's order; English where Chinese cannot be written."""
    if chosen := known(os.environ.get(CHOSEN, "")):
        return chosen
    return "zh" if of_locale() == "zh" and can_show_chinese() else "en"


def choose(name: str | None) -> None:
    """Let this process, and those that it starts, speak a language; None: that of the locale."""
    os.environ.pop(CHOSEN, None)
    if name:
        os.environ[CHOSEN] = name


def known(text: str) -> str:
    """The language that a name or a locale stands for; "" if it is none of the two."""
    # known("zh_CN.UTF-8") -> "zh"; known("en-GB") -> "en"; known("fr") -> ""
    word = re.split(r"[^a-z]", text.strip().lower())[0]
    return {"zh": "zh", "chinese": "zh", "cn": "zh", "en": "en", "english": "en"}.get(word, "")


def of_locale() -> str:
    """The language of the environment, as gettext finds it: LC_ALL, LC_MESSAGES, LANG; LANGUAGE goes before them."""
    names = (os.environ.get(name, "") for name in ("LC_ALL", "LC_MESSAGES", "LANG"))
    locale = next(filter(None, names), "") or of_windows()
    if locale.partition(".")[0] in ("", "C", "POSIX"):  # then gettext does not look at LANGUAGE
        return "en"
    several = os.environ.get("LANGUAGE", "").split(":")
    return next(filter(None, map(known, [*several, locale])), "en")


def of_header(text: str) -> str:
    """The language that an Accept-Language header prefers: en, unless it asks for Chinese."""
    # of_header("zh-CN,zh;q=0.9,en;q=0.8") -> "zh"; of_header("") -> "en"
    wanted = []
    for part in text[:200].split(","):
        name, _, weight = part.partition(";")
        number = re.fullmatch(r"q=([01](?:\.\d{0,3})?)", weight.strip())
        wanted.append((-float(number[1]) if number else -1.0, known(name)))
    return next((name for weight, name in sorted(wanted, key=lambda row: row[0]) if name and weight), "en")


def of_windows() -> str:
    """The locale that Windows shows its own texts in, such as zh_CN; "" elsewhere."""
    if sys.platform != "win32":
        return ""
    import ctypes
    import locale

    return locale.windows_locale.get(ctypes.windll.kernel32.GetUserDefaultUILanguage(), "")


def can_show_chinese() -> bool:
    """Whether standard output and error take Chinese characters; a terminal without them would show \\u7c7b."""
    for stream in (sys.stdout, sys.stderr):
        try:
            "类别".encode(getattr(stream, "encoding", None) or "utf-8")
        except (UnicodeError, LookupError):
            return False
    return True


# --- translation -----------------------------------------------------------------------------------------------------


def translated(text: str, *tables: Mapping[str, str], lang: str = "") -> str:
    """The text in the language of the person who reads it (or `lang`); English where no table has its pattern.

    What stands for {name} is inserted as it is, a file's name for example; {_name} is a phrase, and translated itself.
    """
    # translated("3 entries", {"{n} entries": "{n} 项"}, lang="zh") -> "3 项"
    if (lang or current()) != "zh":
        return text
    for table in tables:
        for english, chinese in table.items():
            if found := pattern(english).fullmatch(text):
                values = found.groupdict()
                inner = {k: translated(v, *tables, lang="zh") if k[0] == "_" else v for k, v in values.items()}
                return chinese.format(**inner)
    return text


@functools.cache
def pattern(english: str) -> re.Pattern[str]:
    """The regular expression for a text with {names}."""
    parts, seen = [], set()
    for literal, name, _, _ in string.Formatter().parse(english):
        parts.append(re.escape(literal))
        if name is not None:
            parts.append(f"(?P={name})" if name in seen else f"(?P<{name}>.+?)")
            seen.add(name)
    return re.compile("".join(parts), re.DOTALL)


def placeholders(text: str) -> list[str]:
    """The names in a text: what both languages have to agree in."""
    return sorted({name for _, name, _, _ in string.Formatter().parse(text) if name is not None})
