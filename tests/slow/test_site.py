"""The site of the pages: no dead link, and its search works from a folder without a network."""

import shutil
import subprocess
import sys
from importlib.util import find_spec

import pytest
from helpers import PROJECT

pytestmark = pytest.mark.skipif(not find_spec("mkdocs"), reason="needs the extra docs: pip install -e '.[docs]'")


def build(project, site):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(site)]
    return subprocess.run(command, cwd=project, capture_output=True, text=True)


def test_search_from_a_folder_without_a_network(tmp_path, page):
    done = build(PROJECT, tmp_path / "site")
    assert done.returncode == 0, done.stderr
    page.context.set_offline(True)
    page.goto((tmp_path / "site" / "index.html").as_uri())
    page.get_by_label("Search", exact=True).first.fill("on_nan")
    page.wait_for_selector(".md-search-result__link")
    found = page.locator(".md-search-result__link").evaluate_all("links => links.map(link => link.href)")
    assert any("controls.html" in link for link in found), found
    page.goto(next(link for link in found if "controls.html" in link))
    assert "Guards" in page.inner_text("article")
    assert [url for url in page.requested if not url.startswith(("file:", "data:", "blob:"))] == []
    assert page.complaints == []


def test_a_dead_link_fails(tmp_path):
    copy = tmp_path / "copy"
    for name in ("docs", "configs", "cluster"):
        shutil.copytree(PROJECT / name, copy / name)
    (copy / "datasets").mkdir()
    for name in ("mkdocs.yml", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "datasets/README.md"):
        shutil.copy(PROJECT / name, copy / name)
    assert build(copy, tmp_path / "site").returncode == 0
    index = copy / "docs" / "index.md"
    index.write_text(index.read_text().replace("(controls.md#guards)", "(controls.md#guides)") + "\n[x](../none.md)\n")
    done = build(copy, tmp_path / "site")
    assert done.returncode == 1
    assert "'../none.md'" in done.stderr and "'#guides'" in done.stderr
