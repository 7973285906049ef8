"""Tables of labels: what they look like where they come from, what is wrong with them, and data import --labels."""

import codecs
import shutil
import zipfile

import pytest
from helpers import cli, draw

from mslab.check.folder_names import folder_name, folder_names
from mslab.check.labels import read_labels
from mslab.errors import DatasetError

CLASSES = {"0001.png": "cat", "0002.png": "dog", "0003.png": "cat"}


@pytest.fixture
def flat(tmp_path):
    """A folder of images whose names are all that a table needs."""
    return touch(tmp_path, *(f"images/{name}" for name in CLASSES))


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def read(folder, text, name="labels.csv", encoding="utf-8", **options):
    content = text if isinstance(text, bytes) else text.encode(encoding)
    (folder / name).write_bytes(content)
    return read_labels(folder / name, **options)


def classes(labels):
    return {path.name: name.partition("/")[0] for name, path in labels.files.items()}


def problem(folder, text, name="labels.csv", **options):
    with pytest.raises(DatasetError) as caught:
        read(folder, text, name, **options)
    assert caught.value.expected and caught.value.fix
    return str(caught.value)


@pytest.mark.parametrize("text", [
    "image,label\n0001.png,cat\n0002.png,dog\n0003.png,cat\n",
    "0001.png,cat\n0002.png,dog\n0003.png,cat",  # without a header
    "id,breed\r\n0001,cat\r\n0002,dog\r\n0003,cat\r\n",  # Kaggle: without a suffix
    ";image;label;\n0;0001.png; cat ;\n1;0002.png;dog;\n2;0003.png;cat;\n;;;\n",  # Excel, with pandas' index
    "label\tfile\ncat\t0001.PNG\ndog\t0002.PNG\ncat\t0003.PNG\n",
    'file,label\n"images\\0001.png","cat"\n"images\\0002.png","dog"\n"images\\0003.png","cat"\n',
    "images/0001.png cat\nimages/0002.png dog\n./images/0003.png cat\n",  # torchvision's and Paddle's lists
    "file,y\n/kaggle/input/x/images/0001.jpg,cat\n/kaggle/input/x/images/0002.jpg,dog\nhttps://a/b/0003.jpg,cat\n",
    "id,class\n1,cat\n2.0,dog\n3,cat\n",  # a spreadsheet took the names for numbers
    "id,cat,dog\n0001,1,0\n0002,0.0,1.0\n0003,1,0\n",  # one-hot
    "id,cat,dog\n0001,True,False\n0002,False,True\n0003,True,False\n",  # pandas' get_dummies
    "id,age,class_id,class_name\n0001,5,0,cat\n0002,7,1,dog\n0003,8,0,cat\n",
    "sep=|\nid|label\n0001|cat\n0002|dog\n0003|cat\n",
    "id,label\n0001,cat\n0001,cat\n0002,dog\n0003,cat\n",  # a row twice
], ids=range(14))  # fmt: skip
def test_every_usual_form_gives_the_same_classes(flat, text):
    assert classes(read(flat, text)) == CLASSES


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "gbk", "cp1252"])
def test_every_usual_encoding_is_read(flat, encoding):
    label = "毒蝇伞" if encoding != "cp1252" else "Röhrling"
    labels = read(flat, f"image,label\n0001.png,{label}\n0002.png,dog\n0003.png,{label}\n", encoding=encoding)
    assert labels.class_names == sorted(["dog", label])
    assert any("cp1252" in text for _, text in labels.notes) == (encoding == "cp1252")


def test_numbers_get_their_names_from_the_list_beside_the_table(flat):
    numbers = "images/0001.png 0\nimages/0002.png 1\nimages/0003.png 0\n"
    assert set(read(flat, numbers, "train_list.txt").class_names) == {"0", "1"}
    for names in ("cat\ndog\n", "0 cat\n1 dog\n", "0: cat\n1: dog\n"):
        (flat / "labels.txt").write_text(names)
        labels = read(flat, numbers, "train_list.txt")
        assert classes(labels) == CLASSES and ("labels", "labels.txt names them: 0 cat, 1 dog") in labels.notes
    (flat / "labels.txt").write_text("cat\n")
    labels = read(flat, numbers.replace(" 1", " 1.0"), "train_list.txt")
    assert labels.class_names == ["0", "1"]
    assert ("labels", "labels.txt has no name for 1: the numbers stay") in labels.notes


def test_train_csv_is_about_train_and_not_about_test(tmp_path):
    touch(tmp_path, *(f"{split}/{n}.png" for split in ("train", "test") for n in range(4)), "sample_submission.csv")
    labels = read(tmp_path, "id,label\n0,a\n1,b\n2,a\n3,b\n", "train.csv")
    assert {path.parent.name for path in labels.files.values()} == {"train"}
    assert ("image-without-row", "4 images without a row (4 in test/), such as test/0.png") in labels.notes
    (tmp_path / "train/3.png").unlink()  # test/3.png is another image
    labels = read(tmp_path, "id,label\n0,a\n1,b\n2,a\n3,b\n", "train.csv")
    assert len(labels.files) == 3 and ("row-without-image", "1 row whose image is not there: 3") in labels.notes
    assert len(read(tmp_path, "id,label\n0,a\n1,b\n2,a\ntest/3.png,b\n", "train.csv").files) == 4
    text = problem(touch(tmp_path / "two", "a/1.png", "b/1.png", "a/2.png"), "id,label\n1,x\n2,y\n")
    assert (
        "two images  line 2: 1 may be a/1.png or b/1.png" in text
        and "write the name with its folder and suffix" in text
    )
    assert len(read(tmp_path / "two", "id,label\na/1.png,x\nb/1.png,x\n2,y\n").files) == 3


def test_equal_names_in_two_folders_stay_two_images(tmp_path):
    touch(tmp_path, "a/1.png", "b/1.png", "b/2.png")
    labels = read(tmp_path, "id,label\na/1.png,x\nb/1.png,x\nb/2.png,y\n")
    assert list(labels.files) == ["x/a-1.png", "x/b-1.png", "y/2.png"]
    touch(tmp_path, "a-1.png")  # the very name that one of them gets
    labels = read(tmp_path, "id,label\na/1.png,x\nb/1.png,x\nb/2.png,y\na-1.png,x\n")
    assert list(labels.files) == ["x/2-a-1.png", "x/a-1.png", "x/b-1.png", "y/2.png"]


def test_what_is_left_out_is_counted_and_named(flat):
    text = "id,label\n0001,cat\n0002,\n0003,NaN\n0002,dog\n0009,dog\n0002,dog\n"
    labels = read(flat, text)
    assert list(labels.files) == ["cat/0001.png", "dog/0002.png"]
    assert labels.notes == [
        ("labels", "images from column id, labels from column label"),
        ("no-label", "2 rows without a label: 0002, 0003"),
        ("row-without-image", "1 row whose image is not there: 0009"),
        ("duplicate-row", "1 row for images that an earlier row names with the same label: 0002"),
        ("image-without-row", "1 image without a row (1 in images/), such as images/0003.png"),
    ]  # fmt: skip


def test_all_problems_of_a_table_are_one_message(flat):
    touch(flat, *(f"images/{n:04}.png" for n in range(4, 9)))
    text = problem(flat, "id,label\n0001,cat\n0001,dog\n0002,Dog\n0003,dog\n0004,a,b\n0005,dog\n")
    assert "labels.csv does not say which image has which label." in text
    assert "two labels  0001: cat in line 2, dog in line 3" in text and "keep the row with the right label" in text
    assert "spelling    'Dog' (1 images) and 'dog' (2 images)" in text and "spell each label in one way" in text
    assert "cells       line 6 has 3 cells, the others 2" in text and "between double quotes" in text


@pytest.mark.parametrize("text, said, fix", [
    ("", "labels.csv is empty.", "write the names and classes into it"),
    ("id,label\n", "labels.csv has a header and no rows.", "write the rows into it"),
    ("id,label\nx,cat\ny,dog\n", "labels.csv names no image that is there.", "--image-column NAME"),
    ("id,label\n0001,cat\nx,dog\ny,dog\nz,dog\n", "no image  x", "give the folder of these images"),
    ("id\n0001\n0002\n", "labels.csv has no labels.", "write the label beside the name"),
    ("id,red,size\n0001,1,a\n0002,0,b\n", "several columns that may be the labels: red, size", "--label-column red"),
    ("id,cat,dog\n0001,1,0\n0002,1,1\n", "line 3 has 1 in cat, dog; here each image has one class", "--label-column"),
    (b"PK\3\4xx", "labels.csv is an Excel file or an archive, not a table of text.", "save it as CSV (UTF-8)"),
    (b"id\0\xff\0\xfe\n\xff", "cannot be read", "save it as CSV (UTF-8)"),
])  # fmt: skip
def test_a_table_that_is_none_is_refused_in_three_parts(flat, text, said, fix):
    message = problem(flat, text)
    assert said in message and fix in message


def test_a_column_of_measurements_is_none_of_labels(tmp_path):
    touch(tmp_path, *(f"{n}.png" for n in range(20)))
    text = problem(tmp_path, "id,target\n" + "".join(f"{n},{n / 7}\n" for n in range(20)))
    assert "labels    20 different ones for 20 images" in text and "--label-column NAME" in text


def test_columns_can_be_named_and_counted(flat):
    text = "a,b,c\n0001,x,cat\n0002,y,dog\n0003,x,cat\n"
    assert classes(read(flat, text, label_column="C", image_column="1")) == CLASSES
    assert classes(read(flat, text, label_column="3")) == CLASSES
    message = problem(flat, text, label_column="cc")
    assert "labels.csv has no column 'cc'." in message and "a, b, c; or a number from 1 to 3" in message
    assert "--label-column c" in message


def test_every_label_becomes_a_folder_that_every_system_can_have():
    names = {"cats/dogs": "cats_dogs", "CON": "CON_", "nul.txt": "nul.txt_", "..": "_", " a. ": "a", ".git": "_.git"}
    names |= {"毒蝇伞": "毒蝇伞", "rank_0": "rank_0_", "-x": "_-x", "a\nb": "a_b", "é": "é", "None": "None"}
    assert {label: folder_name(label) for label in names} == names
    assert len(folder_name("蘑" * 200).encode()) <= 100 and folder_name("蘑" * 200)
    assert folder_names(["a_b", "a/b", "a:b"]) == {"a_b": "a_b", "a/b": "a_b_2", "a:b": "a_b_3"}


# --- data import --labels --------------------------------------------------------------------------------------------


@pytest.fixture
def kaggle(tmp_path):
    """train/ and test/ with images, train.csv, sample_submission.csv; and the same as k.zip."""
    drawn = draw(tmp_path / "drawn", ["a", "b"], 4)
    for number, image in enumerate(sorted(drawn.rglob("*.png"))):
        (tmp_path / "k/train").mkdir(parents=True, exist_ok=True)
        image.rename(tmp_path / f"k/train/{number:03}.png")
    touch(tmp_path, "k/test/000.png")
    rows = "".join(f"{number:03},{'a/1' if number < 4 else 'b'},{number // 2}\n" for number in range(8))
    (tmp_path / "k/train.csv").write_text(f"id,label,patient\n{rows}")
    (tmp_path / "k/sample_submission.csv").write_text("id,label\n000,b\n")
    with zipfile.ZipFile(tmp_path / "k.zip", "w") as file:
        for path in sorted((tmp_path / "k").rglob("*.*")):
            file.write(path, path.relative_to(tmp_path).as_posix())
    return tmp_path


def test_a_flat_folder_and_its_table_become_classes(kaggle):
    done = cli("data", "import", "k", "--labels", "train.csv", cwd=kaggle)
    assert done.returncode == 0 and "a_1 4, b 4" in done.stdout, done.stderr
    assert "datasets/k-sorted: 8 images in 2 classes, as k/train.csv says" in done.stderr
    assert "the class of 'a/1' is called a_1" in done.stderr
    assert (kaggle / "k/train/000.png").is_file() and (kaggle / "datasets/k-sorted/a_1/000.png").is_file()
    done = cli("data", "import", "k", "--labels", "train.csv", cwd=kaggle)
    assert done.returncode == 1 and "datasets/k-sorted already exists" in done.stderr


def test_a_flat_archive_says_that_its_table_has_the_labels_and_the_fix_works(kaggle):
    done = cli("data", "import", "k.zip", cwd=kaggle)
    assert done.returncode == 1 and "k.zip has 9 images in no folders of classes: in " in done.stderr
    assert "mslab data import k.zip --labels k/train.csv" in done.stderr and "submission" not in done.stderr
    assert not (kaggle / "datasets").exists()
    shutil.rmtree(kaggle / "k")
    done = cli("data", "import", "k.zip", "--labels", "k/train.csv", cwd=kaggle)
    assert done.returncode == 0 and "as k.zip: k/train.csv says" in done.stderr
    assert sorted(path.name for path in (kaggle / "datasets/k").iterdir()) == ["a_1", "b"]


def test_a_table_beside_flat_images_is_what_every_command_proposes(kaggle):
    for words in (["data", "import", "k"], ["check", "k"], ["check", "k/train"]):
        done = cli(*words, cwd=kaggle)
        assert done.returncode == 1, words
        assert "mslab data import k --labels k/train.csv" in (done.stdout + done.stderr), words
    assert cli("data", "import", "k", "--labels", "k/train.csv", cwd=kaggle).returncode == 0


def test_wrong_options_of_an_import_leave_nothing(kaggle):
    done = cli("data", "import", "k", "--labels", "nope.csv", "--out", "x", cwd=kaggle)
    assert done.returncode == 1 and "nope.csv: there is no such file, neither here nor in k." in done.stderr
    assert "--labels with one of train.csv" in done.stderr
    done = cli("data", "import", "k.zip", "--labels", "nope.csv", "--out", "x", cwd=kaggle)
    assert done.returncode == 1 and "k.zip has no file nope.csv in it" in done.stderr
    done = cli("data", "import", "k", "--label-column", "label", cwd=kaggle)
    assert done.returncode == 2 and "--labels TABLE" in done.stderr
    touch(kaggle, "k/train.xlsx")
    done = cli("check", "k/train.xlsx", cwd=kaggle)
    assert done.returncode == 1 and "save k/train.xlsx as CSV, and give that" in done.stderr
    done = cli("data", "import", "none", "--labels", "train.csv", cwd=kaggle)
    assert done.returncode == 1 and "There is no archive none" in done.stderr
    assert sorted(path.name for path in kaggle.iterdir()) == ["drawn", "k", "k.zip"]


def test_no_path_in_a_table_leads_out_of_the_archive(kaggle):
    touch(kaggle, "secret.png")
    rows = f"id,label\n{kaggle}/secret.png,a\n../secret.png,a\nk/train/000.png,a\nk/train/005.png,b\nk/train/6.png,b\n"
    with zipfile.ZipFile(kaggle / "k.zip", "a") as file:
        file.writestr("evil.csv", codecs.BOM_UTF8 + rows.encode())
    done = cli("data", "import", "k.zip", "--labels", "evil.csv", cwd=kaggle)
    assert done.returncode == 0 and "2 rows whose image is not there" in done.stderr, done.stderr
    assert sorted(path.name for path in (kaggle / "datasets/k").rglob("*.png")) == ["000.png", "005.png", "006.png"]
