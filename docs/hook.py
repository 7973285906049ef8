"""Adds to the site what lies outside docs/: files of the repository that pages link to, and pages of other folders.

Pages are written for the repository, where `../configs/rubric.yaml` leads out of docs/. The site gets a copy of such a
file, and the link leads there. A link to a file that does not exist is left alone, so `mkdocs build --strict` fails.
"""

import re
from pathlib import Path

from mkdocs.structure.files import File

PROJECT = Path(__file__).parent.parent
PAGES = ["datasets/README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"]
LINK = re.compile(r"\]\(((?:\.\./)*)([^)#:]+)(?=[)#])")  # to a file, not https:

SHIM = "https://unpkg.com/iframe-worker/shim"


def target(page, up, path):
    """The file of the repository that a link on a page leads to, if it is outside of docs/; else None."""
    folder = PROJECT / page if page in PAGES else PROJECT / "docs" / page
    file = (folder.parent / up / path).resolve()
    outside = file.is_relative_to(PROJECT) and not file.is_relative_to(PROJECT / "docs")
    return file.relative_to(PROJECT) if outside and file.is_file() else None


def on_files(files, config):
    """Add the pages, and every file that a page links to."""
    linked = set()
    for page in [*PAGES, *(file.src_uri for file in files.documentation_pages())]:
        source = PROJECT / page if page in PAGES else PROJECT / "docs" / page
        linked |= {target(page, *link) for link in LINK.findall(source.read_text(encoding="utf-8"))}
    for path in sorted({*map(Path, PAGES), *linked} - {None}):
        files.append(File.generated(config, path.as_posix(), abs_src_path=str(PROJECT / path)))
    return files


def on_post_page(output, page, config):
    """The theme loads a script for offline search from another host; the site brings its own copy."""
    return output.replace(SHIM, f"{'../' * page.file.src_uri.count('/')}iframe-worker.js")


def on_page_markdown(markdown, page, config, files):
    """Links that lead out of docs/ lead to the added files."""
    name = page.file.src_uri
    depth = "../" * name.count("/")

    def moved(match):
        path = target(name, *match.groups())
        if path:
            return f"]({depth}{path.as_posix()}"
        if name in PAGES:  # back into docs/, which is the site's top
            return f"]({depth}{match[2].removeprefix('docs/')}"
        return match[0]

    return LINK.sub(moved, markdown)
