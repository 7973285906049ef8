"""Which installed font covers a text: class names in pictures are in any script, and none appears as boxes.

A word is drawn in the first font that has all its characters. Where none has, drawn_names() puts "class 2" in place of
the name and says so in a note.
"""

import functools
import re
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from PIL import ImageDraw, ImageFont, features

# the usual fonts for Chinese, Japanese and Korean of Linux, macOS and Windows, then some with many scripts
PREFERRED = (
    *("dejavusans", "notosanscjk", "notosanssc", "notosanstc", "notosansjp", "notosanskr", "sourcehansans"),
    *("wqy-microhei", "wqy-zenhei", "pingfang", "hiragino", "stheiti", "applesdgothic", "arial unicode"),
    *("msyh", "simhei", "msjh", "yugoth", "meiryo", "malgun", "simsun", "droidsansfallback", "notosans", "unifont"),
)
STYLED = re.compile("bold|black|heavy|light|thin|italic|oblique|condensed|mono|serif", re.IGNORECASE)
MOST = 1000  # fonts that are looked into
JOINED = ((0x0900, 0x0E00), (0x1000, 0x10A0), (0x1780, 0x1800))  # Indic, Myanmar, Khmer: letters change beside others


@functools.cache
def font_files() -> list[Path]:
    """The font files of this system and matplotlib's own, best first."""
    from matplotlib import font_manager, get_data_path

    paths = [Path(path) for path in font_manager.findSystemFonts()]
    paths.append(Path(get_data_path()) / "fonts/ttf/DejaVuSans.ttf")

    def rank(path: Path) -> tuple[bool, int, str]:
        name = path.name.lower()
        place = next((n for n, start in enumerate(PREFERRED) if name.startswith(start)), len(PREFERRED))
        return bool(STYLED.search(name)), place, str(path)

    return sorted(paths, key=rank)[:MOST]


@functools.cache
def face(path: Path) -> Any:
    """matplotlib's reader of a font file, of the first font in a collection; None for one that it cannot draw."""
    from matplotlib.ft2font import FT2Font

    try:
        ImageFont.truetype(str(path), 13)  # fonts of coloured bitmaps have other sizes only
        return FT2Font(str(path))
    except Exception:  # whatever is wrong with a file of the system, another font may do
        return None


@functools.cache
def font_of(text: str) -> Path | None:
    """The first font file with every character of a text, or None."""
    codes = {ord(c) for c in text if not c.isspace()}
    if not features.check("raqm") and any(needs_shaping(c) for c in text):
        return None
    for path in font_files():
        if (font := face(path)) and all(font.get_char_index(code) for code in codes):
            return path
    return None


def needs_shaping(c: str) -> bool:
    """Whether a letter is drawn from right to left or changes beside others, which Pillow does with raqm only."""
    return unicodedata.bidirectional(c) in ("R", "AL") or any(low <= ord(c) < high for low, high in JOINED)


def plain(text: str) -> str:
    """The text as it is drawn: composed letters (macOS names files in parts), no variation selectors."""
    # plain("cafe\u0301") -> "café"
    return re.sub("[\ufe00-\ufe0f]", "", unicodedata.normalize("NFC", text))


def drawn_names(names: Sequence[str], noun: str = "class") -> tuple[list[str], str]:
    """Names for a picture, and a note: without a font for a name it is "class 2", by its index from 0."""
    drawn = [
        name if all(can_draw(word) for word in plain(name).split()) else f"{noun} {n}" for n, name in enumerate(names)
    ]
    missing = [f"{noun} {n} = {name}" for n, name in enumerate(names) if drawn[n] != name]
    note = f"note: no installed font has the characters of {', '.join(missing)}" if missing else ""
    return drawn, f"{note}; fonts-noto-cjk has Chinese, Japanese and Korean" if missing else ""


def can_draw(word: str) -> bool:
    return word.isascii() or font_of(word) is not None


def pieces(text: str, size: float) -> Iterator[tuple[str, Any]]:
    """Yield (part, Pillow font for it): the whole text if one font covers it, else its words, or their escapes."""
    text = plain(text)
    whole = text.isascii() or font_of(text)  # several words in Arabic run from right to left together
    for word in [text] if whole else re.findall(r"\S+\s*|\s+", text):
        if word.isascii():
            yield word, ImageFont.load_default(size)
        elif path := font_of(word.rstrip()):
            yield word, ImageFont.truetype(str(path), size)
        else:
            yield word.encode("ascii", "backslashreplace").decode(), ImageFont.load_default(size)


def width(text: str, size: float) -> float:
    """Pixels that a line of text takes."""
    return sum(font.getlength(word) for word, font in pieces(text, size))


def write(draw: ImageDraw.ImageDraw, at: tuple[float, float], text: str, size: float, fill: Any, edge: int = 0) -> None:
    """Draw a line of text; `at`: its upper left corner; `edge`: pixels of black around it."""
    x, y = at
    fonts = list(pieces(text, size))
    base = y + max((font.getmetrics()[0] for _, font in fonts), default=0)
    for word, font in fonts:
        draw.text(
            (x, base), word, fill, font, anchor="ls", stroke_width=edge, stroke_fill=(0, 0, 0) if edge else None
        )  # all words on one line
        x += font.getlength(word)
