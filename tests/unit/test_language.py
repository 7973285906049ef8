"""Messages that have a code speak the language of who reads them: of --lang, or of the locale. Documents do not."""

import functools
import json
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import fixes
import pytest
from helpers import cli, draw

import mslab.check.zh
import mslab.check.zh_fixes
import mslab.check.zh_labels
import mslab.doctor.zh
import mslab.grade.zh
import mslab.inference.serve.zh
import mslab.training.zh
from mslab.check import label_rules, labelled
from mslab.check.records import Finding
from mslab.cli import options
from mslab.config import language
from mslab.grade.words import shown as shown_item

LOCALES = ("LANGUAGE", "LC_ALL", "LC_MESSAGES", "LANG", "MSLAB_LANG")
TABLES = {  # room -> its tables
    "check": [
        *mslab.check.zh.MESSAGES.values(),
        mslab.check.zh.PHRASES,
        *mslab.check.zh_labels.MESSAGES.values(),
        mslab.check.zh_labels.PHRASES,
        mslab.check.zh_labels.MORE,
        mslab.check.zh_labels.FIXES,
        mslab.check.zh_fixes.FIXES,
        mslab.check.zh_fixes.FRAME,
    ],
    "doctor": [*mslab.doctor.zh.TEXTS.values(), mslab.doctor.zh.FRAME],
    "grade": [*mslab.grade.zh.ITEMS.values(), mslab.grade.zh.NETWORK, mslab.grade.zh.WORTH, mslab.grade.zh.ANY],
    "inference/serve": [
        *mslab.inference.serve.zh.REFUSALS.values(),
        mslab.inference.serve.zh.FORM,
        mslab.inference.serve.zh.IMAGES,
    ],
    "training": [*mslab.training.zh.WARNINGS.values()],
}
COMPOSED = {  # of two texts
    "tensors of the backbone are equal to those of",
    "has no bin/nvcc that prints its release",
    "or take it out of classes or merge",
}
BESIDE = {"doctor": ["runtime"], "check": ["tasks"]}  # whose texts it shows, too


def is_chinese(text: str) -> bool:
    return re.search("[\u4e00-\u9fff]", text) is not None


@pytest.fixture
def no_locale(monkeypatch):
    for name in LOCALES:
        monkeypatch.delenv(name, raising=False)
    return monkeypatch.setenv


@pytest.fixture
def data(inside):
    draw(inside / "d", ["cat", "dog"], 3)
    (inside / "d" / ".checkpoint").mkdir()
    return Path("d")


# --- which language --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ("", "en"),
        ("LANG=zh_CN.UTF-8", "zh"),
        ("LANG=zh_CN.GBK", "zh"),
        ("LANG=zh_TW.UTF-8", "zh"),
        ("LANG=zh-Hans", "zh"),
        ("LANG=en_US.UTF-8", "en"),
        ("LANG=fr_FR.UTF-8", "en"),
        ("LANG=zh_CN.UTF-8 LC_MESSAGES=en_GB", "en"),
        ("LANG=en_US.UTF-8 LC_MESSAGES=zh_CN", "zh"),
        ("LANG=zh_CN.UTF-8 LC_ALL=C", "en"),
        ("LANG=zh_CN.UTF-8 LC_ALL=POSIX", "en"),
        ("LANG=zh_CN.UTF-8 LC_ALL=C.UTF-8", "en"),
        ("LANG=zh_CN.UTF-8 LC_ALL=", "zh"),
        ("LANGUAGE=zh_CN", "en"),  # gettext reads it under a locale only
        ("LANGUAGE=zh_CN:en LANG=en_US.UTF-8", "zh"),
        ("LANGUAGE=en:zh LANG=zh_CN.UTF-8", "en"),
        ("LANGUAGE=fr:zh_CN LANG=fr_FR.UTF-8", "zh"),
        ("LANGUAGE=zh LANG=C", "en"),
        ("MSLAB_LANG=zh LC_ALL=C", "zh"),
        ("MSLAB_LANG=en LANG=zh_CN.UTF-8", "en"),
        ("MSLAB_LANG=fr LANG=zh_CN.UTF-8", "zh"),
    ],
)
def test_the_language_is_that_of_the_locale_in_gettexts_order(no_locale, environment, expected):
    for pair in environment.split():
        no_locale(*pair.split("=", 1))
    assert language.current() == expected


@pytest.mark.parametrize(("encoding", "expected"), [("ascii", "en"), ("gbk", "zh")])
def test_where_chinese_cannot_be_written_the_locale_gets_english(data, encoding, expected):
    locale = {"MSLAB_LANG": "", "LANG": "zh_CN.UTF-8", "LC_ALL": "", "LANGUAGE": "", "PYTHONIOENCODING": encoding}
    code = "import sys; from mslab.config import language; print(language.current())"
    done = subprocess.run([sys.executable, "-c", code], env=os.environ | locale, capture_output=True, text=True)
    assert done.stdout == f"{expected}\n", done.stderr


def test_lang_stands_in_front_of_the_command_or_behind_it_and_wins_over_the_locale(data, no_locale):
    no_locale("LANG", "zh_CN.UTF-8")
    chinese = cli("check", data)
    assert (
        "错误  stray-folder  (1)\n    .checkpoint/  （空的；它不是图像类别。MindSpore 会把它当作第 0 类"
        in chinese.stdout
    )
    assert "    fix  mslab check d --fix    把它移到 d.quarantine/\n" in chinese.stdout and chinese.returncode == 1
    english = cli("check", data, "--lang", "en")
    assert not is_chinese(english.stdout) and "error  stray-folder  (1)" in english.stdout
    assert cli("--lang", "en", "check", data).stdout == cli("check", "--lang=en", data).stdout == english.stdout
    no_locale("LANG", "C")
    assert cli("check", data).stdout == english.stdout
    for words in (["--lang", "zh", "check"], ["check", "--lang", "zh_CN"], ["--lang", "en", "check", "--lang", "zh"]):
        assert cli(*words, data).stdout == chinese.stdout
    assert "MSLAB_LANG" not in os.environ


def test_another_language_is_refused_with_the_two_there_are(data):
    for words in (["check", data, "--lang", "fr"], ["--lang", "fr", "check", data], ["data", "make", "--lang", ""]):
        done = cli(*words)
        assert done.returncode == 2 and "expected en or zh" in done.stderr, done.stderr
    assert "--lang" in cli("check", "--help").stdout and "--lang" in cli("--help").stdout


def test_json_and_exit_codes_are_the_same_in_both_languages(data):
    english, chinese = (cli("check", data, "--json", "-", "--lang", name) for name in ("en", "zh"))
    assert english.stdout == chinese.stdout and english.returncode == chinese.returncode == 1
    assert json.loads(chinese.stdout)["findings"][0]["message"].startswith("(empty; not a class")


def test_the_page_of_the_check_is_chinese_with_every_code(data):
    assert cli("check", data, "--html", "zh.html", "--lang", "zh").returncode == 1
    text = Path("zh.html").read_text()
    assert '<html lang="zh-Hans">' in text and "训练会被阻止" in text and "6 张图像，2 个类别；1 个错误" in text
    assert '<span class="error">错误</span> stray-folder' in text and "把它移到" in text
    words = re.sub(
        r"<style>.*?</style>|<[^>]*>|mslab check d --fix|stray-folder|checkpoint|quarantine", "", text, flags=re.S
    )
    assert set(re.findall("[A-Za-z]{4,}", words)) <= {"MindSpore"}, words


def test_what_is_merged_left_out_and_taken_from_a_table_is_said_in_chinese(inside):
    for split in ("train", "val"):
        draw(inside / split, ["a", "b", "c", "d"], 3, seed=len(split))
        rows = "".join(f"{split}/{name}/{n:03}.png,{name}\n" for name in "abcd" for n in range(3))
        Path(f"{split}.csv").write_text(f"image,label\n{rows}")
    Path("c.yaml").write_text(
        "train_data: train.csv\nval_data: val.csv\nclass_num: 2\nmerge: {x: [a, b]}\nclasses: [x, c]\n"
    )
    done = cli("check", "c.yaml", "--lang", "zh")
    assert done.returncode == 0, done.stderr
    assert "\n  x 由 a, b 组成\n  略过：d\n" in done.stdout and "（图像取自列 image，标签取自列 label）" in done.stdout


def test_a_training_that_the_check_stops_says_why_in_chinese(data):
    words = ["train_data=d", "val_data=v", "class_num=3", "--lang", "zh"]
    draw(Path("v"), ["cat", "dog"], 1, seed=5)
    Path("x.yaml").write_text("epochs: 3\nwarmup_epochs: 1\nbatch_size: 2\n")
    done = cli("train", "x.yaml", *words)
    assert done.returncode == 1 and "DatasetError: d 有 3 个类别文件夹" in done.stderr, done.stderr
    assert "每个类别一个文件夹" in done.stderr and "（空的；它不是图像类别" in done.stderr


def test_a_terminal_of_gbk_gets_chinese_and_one_of_ascii_gets_escapes_without_a_crash(data):
    for encoding, text in (("gbk", "错误  stray-folder"), ("ascii", r"\u9519\u8bef  stray-folder")):
        done = process_bytes("check", data, "--lang", "zh", env={"PYTHONIOENCODING": encoding})
        assert done.returncode == 1 and text in done.stdout.decode(encoding) and done.stderr == b""


def process_bytes(*words, env):
    words = [sys.executable, "-m", "mslab", *map(str, words)]
    return subprocess.run(words, env=os.environ | env, capture_output=True)


# --- the tables ------------------------------------------------------------------------------------------------------


def test_the_variable_of_the_command_line_is_that_of_the_language():
    assert options.LANGUAGE == language.CHOSEN


def test_both_languages_have_the_same_placeholders():
    for tables in TABLES.values():
        for english, chinese in (pair for table in tables for pair in table.items()):
            assert language.placeholders(english) == language.placeholders(chinese), english
            assert is_chinese(chinese) or re.search("[，；]", chinese), english


@cache
def texts_of(room: str) -> str:
    """Every text of a room's modules, in their order, with § for what is inserted."""
    rooms = tuple(f"{name}/" for name in (room, *BESIDE.get(room, ())))
    found = [text for module, _, text in fixes.texts() if module.startswith(rooms)]
    pages = [path.read_text() for path in sorted((fixes.PACKAGE / room).glob("*.html"))]
    return "".join([*(re.sub(r"\{[^{}]*\}", "§", text) for text in found), *pages])


@pytest.mark.parametrize("room", TABLES)
def test_every_english_text_of_a_table_is_one_of_the_room(room):
    """A text that was changed in one place only would be shown in English."""
    stale = []
    for english in (text for table in TABLES[room] for text in table):
        pieces = [piece.strip() for piece in re.split(r"\{\w+\}|[;:,()]", english)]
        # short ones may be put together from several texts
        stale += [piece for piece in {*pieces} - COMPOSED if len(piece) > 28 and piece not in texts_of(room)]
    assert stale == []


def test_names_are_inserted_as_they_are_even_if_they_look_like_a_phrase_or_a_format():
    message = "(the same pixels as empty/{x}.png: it counts twice)"
    finding = Finding("duplicate", "warning", "a", message, "mslab check d --fix    moves it to 'moves it to'/")
    shown = finding.shown("zh")
    assert shown.message == "（与 empty/{x}.png 像素相同：它被算了两次）"
    assert shown.fix == "mslab check d --fix    把它移到 'moves it to'/"
    assert finding.shown("en") == finding and Finding("new", "info", "a", "text", "do").shown("zh").message == "text"


def test_every_code_of_the_check_has_chinese_texts():
    sources = "".join(path.read_text() for path in (fixes.PACKAGE / "check").glob("*.py"))
    codes = set(re.findall(r'(?:Finding\(|UnusableImage\(|per_image\(|"code": )\s*"([a-z-]+)"', sources))
    codes |= {"labels", *labelled.FIXES}  # of tables
    codes |= label_rules.FIXES.keys()
    assert codes <= mslab.check.zh.MESSAGES.keys() | mslab.check.zh_labels.MESSAGES.keys() and len(codes) > 80


def test_every_warning_of_the_monitor_has_a_chinese_text():
    source = (fixes.PACKAGE / "training" / "monitor.py").read_text()
    codes = set(re.findall(r'self\.warn\(\s*"([a-z-]+)"', source))
    assert codes == mslab.training.zh.WARNINGS.keys() and len(codes) > 8


def test_every_line_of_the_doctor_has_chinese_texts():
    source = (fixes.PACKAGE / "doctor" / "rules.py").read_text()
    names = set(re.findall(r'Verdict\([^"\n]*(?:"(?:ok|error|warning)"[^",\n]*)*, "(\w+)", ', source))
    assert names <= mslab.doctor.zh.TEXTS.keys() and len(names) > 10


def test_every_kind_of_item_and_every_status_of_a_refusal_has_chinese_texts():
    source = (fixes.PACKAGE / "grade" / "items.py").read_text()
    kinds = set(re.findall(r'^    "(\w+)": \w+,$', source, re.MULTILINE)) | {"manual"}
    assert kinds == mslab.grade.zh.ITEMS.keys()
    sources = "".join(path.read_text() for path in (fixes.PACKAGE / "inference" / "serve").glob("*.py"))
    codes = set(map(int, re.findall(r"HTTPError\(\s*(\d+)", sources))) | {500}
    assert codes == mslab.inference.serve.zh.REFUSALS.keys()


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("", "en"),
        ("*", "en"),
        ("zh", "zh"),
        ("zh-CN,zh;q=0.9,en;q=0.8", "zh"),
        ("en-US,en;q=0.9,zh-CN;q=0.8", "en"),
        ("fr, zh-TW;q=0.5", "zh"),
        ("en;q=0.1, zh;q=0.9", "zh"),
        ("zh;q=0", "en"),
        (";;;,q=,zh;q=x", "zh"),
        ("é" * 5000, "en"),
    ],
)
def test_a_client_gets_chinese_if_its_header_asks_for_it(header, expected):
    assert language.of_header(header) == expected


def test_a_refusal_and_the_reason_of_an_image_are_in_the_language_of_the_client():
    zh = mslab.inference.serve.zh
    content = {"error": "The request is larger than 64 MiB.", "expected": "at most 64 MiB for all images together"}
    assert zh.refusal(content, 413, "zh") == {"error": "请求超过 64 MiB。", "expected": "所有图像合计至多 64 MiB"}
    assert zh.refusal(content, 413, "en") == content
    images = [
        {"error": "zero-byte: the file is empty"},
        {"error": "unreadable: not one of JPEG, PNG, but PDF"},
        {"class": "a"},
    ]
    assert zh.answers(images, "zh")[0]["error"] == "zero-byte: 文件是空的"
    assert zh.answers(images, "zh")[1]["error"] == "unreadable: 不是 JPEG, PNG 之一，而是 PDF"
    assert zh.answers(images, "en") == images


def test_the_rules_of_settings_are_translated_one_by_one():
    shown = functools.partial(shown_item, SimpleNamespace(kind="config"), lang="zh")
    assert shown("two/config.yaml: epochs at least 2, at most 5; seed equals 3") == (
        "two/config.yaml: epochs 至少 2，至多 5；seed 等于 3"
    )
    text = (
        "1 of 3 settings are as required; epochs is 1; required: at least 2; seed is not set; required: one of [1, 2]"
    )
    assert shown(text) == "3 项设置中有 1 项符合要求；epochs 为 1，要求：至少 2；seed 为 （未设置），要求：[1, 2] 之一"
