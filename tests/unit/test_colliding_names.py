"""`mslab data import`: two names that are one file on macOS or Windows, in either order."""

import io
import unicodedata
import zipfile

import pytest
from PIL import Image

from mslab.data.unpacking import import_archive
from mslab.errors import DatasetError

IMAGE = io.BytesIO()
Image.new("RGB", (8, 8), "red").save(IMAGE, "PNG")


@pytest.mark.parametrize(
    "names",
    [
        ["a/x.png", "a/X.png"],
        ["a/X.png", "a/x.png"],
        ["A/x.png", "a/x.png"],
        ["a/é.png", unicodedata.normalize("NFD", "a/é.png")],
        [unicodedata.normalize("NFD", "a/é.png"), "a/é.png"],
    ],
    ids=ascii,
)
def test_two_names_of_one_file_stop_the_import_in_either_order(tmp_path, names):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as file:
        for name in ["b/0.png", *names]:
            file.writestr(name, IMAGE.getvalue())
    with pytest.raises(DatasetError) as caught:
        import_archive(tmp_path / "x.zip", tmp_path / "out")
    assert f"contains {names[0]} and {names[1]}, which are the same file on some systems" in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["x.zip"]
