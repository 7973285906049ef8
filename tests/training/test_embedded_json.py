"""The JSON in a report's page, for scripts."""

import json
from html.parser import HTMLParser

import pytest

from mslab.report.markup import embedded


class Parsed(HTMLParser):
    """The elements of a page, and the text of its script."""

    def __init__(self, page):
        super().__init__()
        self.elements, self.text = [], ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.elements.append(tag)

    def handle_data(self, data):
        self.text += data


@pytest.mark.parametrize(
    "name",
    [
        "</script><img src=x onerror=alert(1)>",
        "</SCRIPT >",
        "<!-- <script>",  # after it, the next </script> does not end the element
        "-->",
        "]]> &lt; &amp;",
        "\u2028\u2029",
    ],
    ids=ascii,
)
def test_no_name_ends_the_element_that_contains_the_json(name):
    content = {"class_names": [name, "plain"], name: 1}
    text = embedded(content)
    assert json.loads(text) == content
    assert [c for c in "<>&\u2028\u2029" if c in text] == []
    parsed = Parsed(f'<script type="application/json">{text}</script><p></p>')
    assert parsed.elements == ["script", "p"] and json.loads(parsed.text) == content
