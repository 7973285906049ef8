"""Parts of pages: HTML tables, and a run's figures as JSON for scripts that read the page."""

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from mslab.escaping import is_hidden
from mslab.files import finite
from mslab.runs.folder import RunFolder


def shaded(count: int, strength: float) -> Markup:
    """A number on a coloured background. `strength`: 0 to 1, the depth of the colour. The number 0 is left empty."""
    style = "display:block;text-align:right;padding:0 .4em;background:rgba(53,132,228,{:.2f})"
    return Markup(f'<span style="{style}">{{}}</span>').format(0.7 * strength, count or "")


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> Markup:
    """An HTML table. Texts are escaped, Markup is not."""

    def line(tag: str, cells: Iterable[str]) -> Markup:
        inside = Markup("").join(Markup("<{0}>{1}</{0}>").format(Markup(tag), text) for text in cells)
        return Markup("<tr>{}</tr>").format(inside)

    body = Markup("").join(line("td", row) for row in rows)
    return Markup('<div style="overflow-x:auto"><table><thead>{}</thead><tbody>{}</tbody></table></div>').format(
        line("th", head), body
    )


def without_nan(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rows with None instead of NaN, which JSON does not have."""
    return [{k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()} for row in rows]


def figures_of(run: RunFolder, result: Mapping[str, Any]) -> dict[str, Any]:
    """A run's entry in the page's JSON. `result`: the content of its eval.json."""
    content = {"path": str(run.path), "config": run.settings.model_dump(), "manifest": run.manifest}
    return content | {"history": without_nan(run.history), "eval": result}


def embedded(content: Mapping[str, Any]) -> Markup:
    """JSON for scripts that read the page, escaped so that it neither ends its element nor hides anything."""
    try:
        text = json.dumps(content, ensure_ascii=False, allow_nan=False)
    except ValueError:  # a loss that is not finite, which JSON cannot hold
        text = json.dumps(finite(content), ensure_ascii=False)
    special = "".join(c for c in set(text) if c in "<>&" or is_hidden(c))
    return Markup(re.sub(f"[{re.escape(special)}]", lambda match: escaped(match[0]), text) if special else text)


def escaped(c: str) -> str:
    """A character as JSON's \\uXXXX, two of them for one beyond U+FFFF."""
    # escaped("<") -> "\\u003c"
    units = c.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{high:02x}{low:02x}" for high, low in zip(units[::2], units[1::2], strict=True))
