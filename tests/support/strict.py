"""Checks of HTML: pages, and what notebooks show."""

import unicodedata
from html.parser import HTMLParser

HOSTILE = "\u202egnp.exe\u2066\u200b\x1b[31m\x85\u2028\u061c\x00\udcff"  # reverses, hides, colours


def hidden(text: str) -> set[str]:
    """Return the control, direction and invisible characters in a text, without line breaks and tabs."""
    kinds = ("Cc", "Cf", "Cs", "Zl", "Zp")
    return {c for c in set(text) if c not in "\n\t" and unicodedata.category(c) in kinds}


class Strict(HTMLParser):
    """Parse HTML and assert that every element is closed, nothing is fetched, and no script runs."""

    def __init__(self, text):
        super().__init__()
        self.open, self.text = [], ""
        self.feed(text)
        assert not self.open, self.open

    def handle_starttag(self, tag, attributes):
        if tag != "img":
            self.open.append(tag)
        assert tag not in ("script", "link", "iframe", "object")
        for name, value in attributes:
            assert not name.startswith("on"), name
            assert name not in ("src", "href") or value.startswith("data:image/"), value[:60]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data
