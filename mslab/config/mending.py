"""Lines of a config that YAML does not read, or reads as text: what is wrong with each, and how to write it."""

import re

from mslab import files
from mslab.config.correcting import flow, instead
from mslab.config.naming import meant
from mslab.config.paths import ESCAPE
from mslab.config.rules import Problem
from mslab.safe_yaml import parse_yaml

LONGEST, MOST, MOST_LINES = 1000, 50, 1000  # characters of a line, problems, lines: more are not looked at
SPACES = r"[\u00a0\u1680\u2000-\u200b\u202f\u205f\u2060\u3000\ufeff]"  # look like a space, or like nothing
QUOTES = "“”„‟‘’‚«»「」『』＂＇"
TYPESET = (  # a character that YAML does not know -> what it is
    (r"\s*[\"']?\w+[\"']?\s*([：︰﹕∶])", "({}) is a wide colon; type ':' and a space"),
    (rf"\s*\w+ *:[ \t]*({SPACES})", "({}) looks like a space and is none; type a space"),
    (rf"\s*\w+ *({SPACES})+\s*:", "({}) looks like a space and is none; leave it out"),
    (rf"({SPACES})", "({}) looks like a space and is none; leave it out"),
    (rf"[^#]*\S({SPACES})+\s*$", "({}) looks like a space and is none; leave it out"),
    (rf"\s*\w+\s*:\s*([{QUOTES}])", '({}) is no quotation mark of YAML; type " or leave it out'),
    (r"\s*\w+\s*:\s*\[.*([，、；])", "({}) is a wide comma; type ','"),
    (r"\w+ *:[ ]*(\t)", "({}) is a tab; type a space"),
    (r"[a-z_]+(:)(?=[^\s:/\\])", "needs a space after it"),
    (r".*?([\x00-\x08\x0b-\x1f\x7f-\x84\x86-\x9f])", "is an invisible control character; leave it out"),
    (r".*?([\u2028\u2029\x85])", "({}) ends a line for YAML; press Enter there, or leave it out"),
)
WIDE = str.maketrans("：︰﹕∶＝﹦，、；［］｛｝（）" + QUOTES, "::::==,,;[]{}()" + '"' * len(QUOTES))
SETTING = re.compile(  # what stands in front of a name, the name, what stands between, the value
    rf"(?P<before>(?:[\s+•·*>$]|-(?=\W|-)|--(?=\w)|\d+[.): ]|export )*)"
    rf"[\"'{QUOTES}]?(?P<name>[A-Za-z][\w-]*)[\"'{QUOTES}]?"
    r"(?P<between>\s*(?::=|[=-]>|[:=：︰﹕∶＝﹦])\s*|\s+)(?P<value>\S.*|)"
)
PAIR = re.compile(r"(?:^|[{(,;]|\s(?=[\w-]+[=:]))\s*(?:\w+ *= *(?:\w+\()?\{)?\s*([\"']?)([A-Za-z][\w-]*)\1\s*[:=]\s*")
LEAVE_OUT = (  # lines that belong to other formats -> what they are
    (r"\[{1,2}[\w. -]+\]{1,2}$", "is a heading of TOML or INI; a config is flat"),
    (r"(---|\.\.\.)(\s|$)", "separates documents; a config is one"),
    (r"(```|~~~)", "is a fence of Markdown"),
    (r"(<{7}|={7}|>{7}|\|{7})", "is a mark of git between two versions; keep the lines of one"),
    (r"(import|from|def|class|print|return|if)\b", "is Python"),
    (r"(\w+\s*=\s*)?(\w+\s*\(\s*)*[\[{(]+$|[\]})]+[,;]?$", "is a bracket of Python or JSON"),
    (r"<\W?\w+.*>$", "is HTML"),
    (r"[$>]?\s*(mslab|python3?|pip)\s(?!.*\w=)", "is a command"),
)
OUT = "; leave this line out"


def typeset(text: str) -> list[Problem]:
    """The lines in which colons, spaces or quotation marks are none for YAML, which would read them as text.

    With them, all that is wrong in other lines.
    """
    problems: list[Problem] = []
    lines = text.split("\n")
    for number, line in enumerate([*lines], 1):
        if len(line) > LONGEST or len(problems) >= MOST:
            continue
        for pattern, problem in TYPESET:
            if found := re.match(pattern, line):
                said = f"{found[1]!r} {problem.format(ascii(found[1])[1:-1])}"
                problems.append((f"line {number}", f"{said}{shown(line, mended(line))}"))
                lines[number - 1] = mended(line).partition("\n")[0]
    rest = "\n".join(lines)
    if problems and not is_yaml(rest):
        problems += [row for row in wrong_lines(rest) if row[0] not in dict(problems)]
    return sorted(problems, key=lambda row: int(row[0].split()[1]))


def escapes(text: str) -> list[Problem]:
    """The lines in which a Windows path stands in double quotes: "C:\\new" would have a line break in it."""
    lines = [(n, line) for n, line in enumerate(text.split("\n"), 1) if len(line) <= LONGEST]
    windows = re.compile(r'\s*[\w"\']+\s*:\s*"([A-Za-z]:\\(?!\\)|\\\\\w+\\\w)')
    return [(f"line {n}", f"{ESCAPE}{shown(line, mended(line))}") for n, line in lines if windows.match(line)]


def wrong_lines(text: str) -> list[Problem]:
    """Every line that is no setting in YAML, with the reason and how to write it."""
    lines, table, begun = text.split("\n"), False, False
    problems: list[Problem] = []
    if re.match(r"\s*(#.*\n\s*)*\{(?!\{)", text):
        return in_json(lines[:MOST_LINES])
    python = re.search(r"^stages *= *(\[[^=]{,9999}?^\])", text, re.IGNORECASE | re.MULTILINE)
    if python and (better := instead("stages", re.sub("#.*", "", python[1]))):
        first, last = (text.count("\n", 0, place) for place in python.span())
        said = f"it is Python; instead of it, up to line {last + 1}, write stages: {better}"
        problems.append((f"line {first + 1}", said))
        lines[first : last + 1] = [""] * (last + 1 - first)
    for number, line in enumerate(lines, 1):
        word = line.strip()
        if not word or word.startswith("#") or len(line) > LONGEST:
            continue
        if len(problems) >= MOST or number > MOST_LINES:
            break
        reason = wrong(line, table, begun)
        if reason:
            whole = reason.endswith(OUT)
            problems.append((f"line {number}", reason if whole else reason + shown(line, mended(line))))
        elif not line[0].isspace():
            table = re.match(r"[\w\"']+\s*:\s*(#.*)?$", line) is not None
        begun = begun or word != "---"
    return problems


def in_json(lines: list[str]) -> list[Problem]:
    """The lines of a table in braces that lack a comma or a quotation mark, or are comments of another language."""
    problems: list[Problem] = []
    for number, line in enumerate(lines, 1):
        if len(line) > LONGEST or len(problems) >= MOST:
            continue
        if lacks_comma(lines[number - 1 :]):
            better = line.strip().rstrip(";；，、") + ","
            problems.append((f"line {number}", f"it lacks a comma at its end{shown(line, better)}"))
        elif re.match(r"\s*(//|/\*)", line):
            problems.append((f"line {number}", f"a comment begins with #{shown(line, mended(line))}"))
        elif line.replace('\\"', "").count('"') % 2:
            problems.append((f"line {number}", f'" has no second one{shown(line, "")}'))
    return problems


def lacks_comma(lines: list[str]) -> bool:
    """Whether the first of these lines is a pair in braces, without the comma that the pair after it needs."""
    if not re.match(r"\s*[\"']\w+[\"']\s*:\s*(\S.*)?[^,\s{\[]\s*$", lines[0]):
        return False
    following = next((line.strip() for line in lines[1:] if line.strip()), "")
    return re.match(r"[\"']\w+[\"']\s*:", following) is not None


def wrong(line: str, table: bool, begun: bool) -> str:
    """What is wrong with a line, "" if nothing is known. `table`: whether it belongs to a name without a value."""
    word = line.strip()
    for pattern, what in LEAVE_OUT:
        if re.match(pattern, word) and (begun or not word.startswith("---")):
            return f"{word[:40]} {what}{OUT}"
    if re.match(r"//|/\*|;|--\s|%\s", word):
        return "a comment begins with #"
    if re.match(r" *\t", line):
        return "it begins with a tab; type spaces" if table else "it begins with a tab; settings begin at the left"
    if len(pairs(line)) > 1 and not alone(word):
        return "it has several settings"
    found = SETTING.match(line)
    if not found or not meant(found["name"]):
        return ""
    if mark := found["before"].strip():
        return f"{mark} does not belong in front of a name"
    if found["before"] and not table:
        return "it is indented; settings begin at the left"
    if not (between := found["between"].strip()):
        return "it lacks the colon after the name"
    if between != ":":
        return f"YAML has ': ' between a name and its value, not {between}"
    if alone(line.strip()):
        return ""
    return wrong_value(found["value"])


def wrong_value(value: str) -> str:
    """Why YAML does not take this value."""
    if value[0] == '"' and "\\" in value:
        return ESCAPE
    if value[0] == "!":
        return "a word that begins with ! is a type, which no value here has"
    if value[0] in "\"'":
        return f"{value[0]} has no second one"
    if value[0] in "[{(":
        return (
            "a bracket is open"
            if not re.match(r"\{\{", value)
            else "{{ }} is a placeholder of a template; write the value itself"
        )
    if re.search(r":(\s|$)", value):
        return "a value with ': ' in it needs quotation marks"
    return f"a value that begins with {value[0]} needs quotation marks"


def mended(line: str) -> str:
    """The line as YAML, several lines if it has several settings; "" if there is no way to tell."""
    # mended("class_num = 9") -> "class_num: 9"; mended("'flip': True, 'epochs': 3}") -> "flip: true\nepochs: 3"
    if len(found := pairs(line)) > 1:
        return "\n".join(f"{name}: {cleaned(value)}" for name, value in found)
    word = re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", "", re.sub(SPACES, " ", line).replace("\t", " ")).strip()
    if "{{" in word or re.search(r"[\u2028\u2029\x85]", line):
        return ""
    if re.match(r"//|/\*|;|--\s|%\s", word):
        return "# " + word.lstrip("/*;-% ").removesuffix("*/").strip()
    match = SETTING.match(word)
    if not match or not (match["between"].strip() or meant(match["name"])):
        return ""
    return f"{match['name']}: {cleaned(match['value'])}"


def pairs(line: str) -> list[tuple[str, str]]:
    """(name, value) of each setting in a line."""
    line = re.sub(r"\s#.*", "", line)
    found = [match for match in PAIR.finditer(line) if meant(match[2])]
    ends = [*(match.start() for match in found[1:]), len(line)]
    return [(match[2], line[match.end() : end]) for match, end in zip(found, ends, strict=False)]


def cleaned(value: str) -> str:
    """A value as YAML takes it."""
    # cleaned("'a',") -> "a"; cleaned('"C:\\data"') -> "C:\\data"; cleaned("“0.1”") -> "0.1"; cleaned("None") -> "null"
    value = re.sub(r"\s\\$", "", value.strip())  # a command's line that goes on
    text, comment = re.fullmatch(r"(.*?)(\s*(?:\s#|\s//).*)?", value.strip(), re.DOTALL).groups()  # type: ignore[union-attr]
    comment = f"  # {comment.strip().lstrip('#/ ')}" if comment else ""
    text = re.sub(r"^!\S+\s+", "", text)
    quote = text[:1].translate(WIDE)
    if quote in tuple("\"'"):
        inner = re.sub(rf"[\"'{QUOTES}][,;\s}})]*$", "", text[1:])
        number = re.fullmatch(r"[-+.\de]+|true|false", inner)
        return (inner if number else flow(inner) if "\\" not in inner else single(inner)) + comment
    text = text.rstrip(",; ")
    if text[:1].translate(WIDE) in tuple("[("):
        text = text.translate(WIDE)
        text = re.sub(r"^\(|\)$", lambda bracket: "[" if bracket[0] == "(" else "]", text)
        return text + "]" * (text.count("[") - text.count("]")) + comment
    if len(text) - len(text.translate({ord(c): None for c in "{(["})) < len(re.findall(r"[})\]]", text)):
        text = text.rstrip("})] ")  # the end of what began in another line
    word = {"True": "true", "False": "false", "None": "null"}.get(text, text)
    return (word if alone(f"a: {word}") else flow(word)) + comment


def single(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def alone(line: str) -> bool:
    """Whether YAML reads a line as one name with a value."""
    try:
        table = parse_yaml(line)
    except files.FormatError:
        return False
    return isinstance(table, dict) and len(table) == 1


def is_yaml(text: str) -> bool:
    """Whether YAML reads the text."""
    try:
        parse_yaml(text)
    except files.FormatError:
        return False
    return True


def shown(line: str, better: str) -> str:
    """The line as it is, and as it is written."""
    line, rows = line.strip(), better.split("\n")
    if better and better != line:
        return f"; instead of {line[:200]} write {', '.join(rows)}{', each on a line of its own' * (len(rows) > 1)}"
    return f": {line[:200]}"
