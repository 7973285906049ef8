"""README is a door: short, and every link of it and of the pages beside it leads somewhere.

The links of docs/ are followed by `mkdocs build --strict` in .ci/run.
"""

import re

import pytest
from helpers import PROJECT

PAGES = ["README.md", "README.zh-CN.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "datasets/README.md"]
LINK = re.compile(r"\]\((?!https?:)([^)#]*)(?:#([^)]+))?\)")


def anchors(file):
    """A page's headings as links name them: "What it writes" -> "what-it-writes"."""
    headings = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files_and_headings(page):
    source = PROJECT / page
    for path, anchor in LINK.findall(source.read_text(encoding="utf-8")):
        target = source.parent / path if path else source
        assert target.exists(), f"{page}: {path}"
        assert not anchor or anchor in anchors(target), f"{page}: {path}#{anchor}"


def test_readme_has_at_most_150_lines():
    for name in ("README.md", "README.zh-CN.md"):
        assert len((PROJECT / name).read_text(encoding="utf-8").splitlines()) <= 150, name


def test_every_page_is_in_the_index_and_the_sites_menu():
    pages = {path.name for path in (PROJECT / "docs").glob("*.md")} - {"index.md"}
    index = (PROJECT / "docs" / "index.md").read_text(encoding="utf-8")
    menu = (PROJECT / "mkdocs.yml").read_text(encoding="utf-8")
    assert [name for name in sorted(pages) if f"]({name}" not in index] == []
    assert [name for name in sorted(pages) if not re.search(rf"[\[ ]{re.escape(name)}[],]", menu)] == []
