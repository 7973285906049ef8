"""A check of HTML for notebooks."""

from html.parser import HTMLParser


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
