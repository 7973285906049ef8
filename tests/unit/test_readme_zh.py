"""README.zh-CN.md is README.md in Chinese: block by block the same code, figures, links and images."""

import re
from itertools import zip_longest

from helpers import PROJECT

ENGLISH, CHINESE = ((PROJECT / name).read_text(encoding="utf-8") for name in ("README.md", "README.zh-CN.md"))
LANGUAGES = 1  # the second block of either: the link to the other language, and what the Chinese one says about it


def blocks(text):
    """Headings, paragraphs, list items, tables and code, each one string; they are parted by blank lines."""
    found, fenced = [[]], False
    for line in text.splitlines():
        if line.strip() or fenced:
            found[-1].append(line)
        elif found[-1]:
            found.append([])
        fenced ^= line.startswith("```")
    return ["\n".join(lines) for lines in found if lines]


def kept(text):
    """What no translation changes: inline code, images, links, figures. Sorted, since word order is the language's."""
    code, text = re.findall(r"`([^`]+)`", text), re.sub(r"`[^`]+`", "", text)
    links, text = re.findall(r"(!?)\[[^]]*\]\(([^)]+)\)", text), re.sub(r"\]\([^)]+\)", "", text)
    return sorted(code), sorted(links), sorted(re.findall(r"[+-]?\d+(?:[.,]\d+)*", text))


def shape(block):
    """What the block of the other language must have as well."""
    if not block:  # the other language has no such block
        return "nothing", ""
    if block.startswith(("```", "    ")):
        return "code", block
    if block.startswith("#"):
        return "heading", block.index(" "), kept(block)
    if block.startswith("|"):
        rows = [line.strip().removeprefix("|").removesuffix("|").split("|") for line in block.splitlines()]
        return "table", [[("**" in cell, kept(cell)) for cell in row] for row in rows]
    return "text", kept(block)


def difference(english, chinese):
    """The first blocks that do not agree, or ""."""
    pairs = zip_longest(blocks(english), blocks(chinese), fillvalue="")
    for number, (ours, theirs) in enumerate(pairs):
        if number != LANGUAGES and shape(ours) != shape(theirs):
            return f"README.md:\n{ours or 'nothing'}\n\nREADME.zh-CN.md:\n{theirs or 'nothing'}"
    return ""


def test_both_readmes_have_the_same_code_tables_figures_links_and_images():
    assert not (found := difference(ENGLISH, CHINESE)), found


def test_each_readme_links_to_the_other():
    assert blocks(ENGLISH)[LANGUAGES] == "[中文](README.zh-CN.md)"
    assert blocks(CHINESE)[LANGUAGES].startswith("[English](README.md)")


def test_no_paragraph_is_left_in_english():
    title, *rest = (block for block in blocks(CHINESE) if shape(block)[0] != "code")
    assert title == "# mslab" and [block for block in rest if not re.search("[\u4e00-\u9fff]", block)] == []
