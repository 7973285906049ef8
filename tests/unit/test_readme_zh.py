"""README.zh-CN.md is README.md in Chinese: block by block the same code, figures, links and images."""

import re
from itertools import zip_longest

from helpers import PROJECT

ENGLISH, CHINESE = ((PROJECT / name).read_text(encoding="utf-8") for name in ("README.md", "README.zh-CN.md"))
LANGUAGES = 1  # the second block of each file: the link to the other language


def blocks(text):
    """Headings, paragraphs, list items, tables and code, each as one string; they are separated by blank lines."""
    parts, fenced = [[]], False
    for line in text.splitlines():
        if line.strip() or fenced:
            parts[-1].append(line)
        elif parts[-1]:
            parts.append([])
        fenced ^= line.startswith("```")
    return ["\n".join(lines) for lines in parts if lines]


def untranslated(text):
    """Inline code, images, links and figures, which no translation changes. Sorted, because word order may differ."""
    code, text = re.findall(r"`([^`]+)`", text), re.sub(r"`[^`]+`", "", text)
    links, text = re.findall(r"(!?)\[[^]]*\]\(([^)]+)\)", text), re.sub(r"\]\([^)]+\)", "", text)
    return sorted(code), sorted(links), sorted(re.findall(r"[+-]?\d+(?:[.,]\d+)*", text))


def shape(block):
    """The properties that a block and its translation have in common."""
    if not block:  # the other language has no such block
        return "nothing", ""
    if block.startswith(("```", "    ")):
        return "code", block
    if block.startswith("#"):
        return "heading", block.index(" "), untranslated(block)
    if block.startswith("|"):
        rows = [line.strip().removeprefix("|").removesuffix("|").split("|") for line in block.splitlines()]
        return "table", [[("**" in cell, untranslated(cell)) for cell in row] for row in rows]
    return "text", untranslated(block)


def difference(english, chinese):
    """The first pair of blocks that differ, or ""."""
    pairs = zip_longest(blocks(english), blocks(chinese), fillvalue="")
    for number, (block, translation) in enumerate(pairs):
        if number != LANGUAGES and shape(block) != shape(translation):
            return f"README.md:\n{block or 'nothing'}\n\nREADME.zh-CN.md:\n{translation or 'nothing'}"
    return ""


def test_both_readmes_have_the_same_code_tables_figures_links_and_images():
    assert not (pair := difference(ENGLISH, CHINESE)), pair


def test_each_readme_links_to_the_other():
    assert blocks(ENGLISH)[LANGUAGES] == "[中文](README.zh-CN.md)"
    assert blocks(CHINESE)[LANGUAGES].startswith("[English](README.md)")


def test_no_paragraph_is_left_in_english():
    title, *rest = (block for block in blocks(CHINESE) if shape(block)[0] != "code")
    assert title == "# mslab" and [block for block in rest if not re.search("[\u4e00-\u9fff]", block)] == []
