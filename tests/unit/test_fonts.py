"""Class names of any script in pictures: drawn in a font that has them, else by their index; never as boxes."""

from pathlib import Path

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from fontTools.ttLib import TTCollection
from matplotlib import get_data_path
from PIL import Image, features

from mslab.report import show
from mslab.tasks import fonts

DEJAVU = Path(get_data_path()) / "fonts/ttf/DejaVuSans.ttf"


def font_with(text: str):
    """A font in which each of these characters is a triangle, and every other one a box."""

    def glyph(points):
        pen = TTGlyphPen(None)
        pen.moveTo(points[0])
        for point in points[1:]:
            pen.lineTo(point)
        pen.closePath()
        return pen.glyph()

    names = {ord(c): f"u{ord(c)}" for c in text}
    order = [".notdef", *names.values()]
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder(order)
    builder.setupCharacterMap(names)
    triangle, box = [(0, 0), (500, 800), (1000, 0)], [(0, 0), (0, 800), (1000, 800), (1000, 0)]
    builder.setupGlyf({name: glyph(box if name == ".notdef" else triangle) for name in order})
    builder.setupHorizontalMetrics(dict.fromkeys(order, (1000, 0)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": "Try", "styleName": "Regular"})
    builder.setupOS2(), builder.setupPost()
    return builder.font


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """installed(*files) -> from now on, only these fonts are."""

    def only(*files):
        monkeypatch.setattr(fonts, "font_files", lambda: list(files))
        fonts.font_of.cache_clear()

    collection = TTCollection()
    collection.fonts = [font_with("蘑菇"), font_with("蘑菇")]
    collection.save(tmp_path / "chinese.ttc")
    font_with("きのこ").save(tmp_path / "japanese.ttf")
    (tmp_path / "broken.ttf").write_bytes(b"no font")
    only(tmp_path / "broken.ttf", DEJAVU, tmp_path / "chinese.ttc", tmp_path / "japanese.ttf")
    yield only
    fonts.font_of.cache_clear()


def test_the_first_font_with_every_character_is_chosen(installed, tmp_path):
    found = {text: fonts.font_of(text) for text in ("蘑菇", "きのこ", "café", "蘑きの", "🍄")}
    assert {text: path and path.name for text, path in found.items()} == {
        "蘑菇": "chinese.ttc",
        "きのこ": "japanese.ttf",
        "café": "DejaVuSans.ttf",
        "蘑きの": None,
        "🍄": None,
    }
    assert fonts.plain("cafe\u0301 ❤\ufe0f") == "café ❤"  # as macOS names files; a selector has no look of its own
    if not features.check("raqm"):
        assert fonts.font_of("فطر") is None  # without it letters would stand apart, from left to right


def test_a_name_that_no_font_covers_becomes_its_index_and_a_note(installed):
    names, note = fonts.drawn_names(["蘑菇", "b", "เห็ด", "きのこ 2"])
    assert names == ["蘑菇", "b", "class 2", "きのこ 2"]
    assert note.startswith("note: no installed font has the characters of class 2 = เห็ด; ")
    assert fonts.drawn_names(["a", "café"]) == (["a", "café"], "")


def pixels(caption: str) -> np.ndarray:
    return np.asarray(show.tiles([Image.new("RGB", (8, 8), "white")], [caption], [True], 1))[113:]


def test_a_sheet_has_the_glyphs_and_never_boxes(installed):
    triangles = pixels("蘑菇")
    assert (triangles < 128).any() and not np.array_equal(triangles, pixels("蘑"))
    parts = [text for text, _ in fonts.pieces("蘑菇 0.7 + きのこ 🍄", 13)]
    assert parts == ["蘑菇 ", "0.7 ", "+ ", "きのこ ", "\\U0001f344"]
    installed(DEJAVU)
    assert np.array_equal(pixels("蘑菇"), pixels(r"\u8611\u83c7"))  # tiles() itself escapes what it cannot draw


def test_chinese_fonts_come_before_others_and_upright_ones_before_styled(monkeypatch):
    names = ["Zapf.ttf", "NotoSansCJK-Bold.ttc", "msyh.ttc", "NotoSansCJK-Regular.ttc", "wqy-zenhei.ttc"]
    monkeypatch.setattr("matplotlib.font_manager.findSystemFonts", lambda: [f"/fonts/{name}" for name in names])
    ordered = [path.name for path in fonts.font_files.__wrapped__()]
    assert ordered == ["DejaVuSans.ttf", names[3], names[4], names[2], names[0], names[1]]
