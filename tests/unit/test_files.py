"""Files are written atomically and never through a link; texts are read with bounds and without waiting."""

import errno
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import full_after, within

from mslab import files
from mslab.errors import MslabError
from mslab.files import FormatError, open_regular, parse_json, read_text, write_text
from mslab.safe_yaml import parse_yaml

# --- writing ---------------------------------------------------------------------------------------------------------


def test_a_text_that_cannot_be_written_completely_leaves_the_earlier_one(tmp_path):
    file = tmp_path / "history.csv"
    write_text(file, "epoch\n1\n")
    with full_after(20_000), pytest.raises((MslabError, OSError)) as caught:
        write_text(file, "epoch\n" + "2\n" * 50_000)
    assert file.read_text() == "epoch\n1\n" and list(tmp_path.iterdir()) == [file]
    assert isinstance(caught.value, MslabError)
    assert f"{file} could not be written: File too large." in str(caught.value)
    assert "the earlier file is unchanged" in str(caught.value)


def test_the_reason_why_a_folder_takes_no_file_decides_what_is_said(tmp_path):
    tmp_path.chmod(0o555)
    said = {code: files.obstacle(OSError(code, ""), tmp_path) for code in (errno.EACCES, errno.ENOSPC, errno.EROFS)}
    tmp_path.chmod(0o755)
    assert said[errno.EACCES] == ("a folder that you may write into", f"chmod u+w {tmp_path}")
    assert said[errno.ENOSPC] == ("free space on the disk", "free some space")
    assert "mounted read-only" in said[errno.EROFS][0] and "space" not in "".join(said[errno.EROFS])
    for folder in (tmp_path, tmp_path / "gone"):  # its mode is not the reason, or cannot be known
        assert files.obstacle(OSError(errno.EACCES, ""), folder)[1] == "ask its owner for the right"


def test_a_reader_with_an_open_text_reads_the_earlier_one_to_its_end(tmp_path):
    file = tmp_path / "history.csv"
    write_text(file, "earlier\n")
    with file.open() as opened:
        write_text(file, "a later one, which is longer\n")
        assert opened.read() == "earlier\n"
    assert file.read_text() == "a later one, which is longer\n" and list(tmp_path.iterdir()) == [file]


def test_a_kill_at_any_byte_leaves_the_earlier_file(tmp_path):
    """One process; its children are killed while they write."""
    file = tmp_path / "net.ckpt"
    file.write_bytes(b"the earlier one" * 1000)
    script = f"""
import os, signal
from pathlib import Path
from mslab import files
file = Path({str(file)!r})
for stop in (0, 1, 4096):
    def write(out):
        out.write(b"x" * stop)
        out.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    child = os.fork()
    if child == 0:
        files.replace_atomically(file, write)
        os._exit(0)
    print(os.waitpid(child, 0)[1], file.read_bytes() == b"the earlier one" * 1000)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout == "9 True\n" * 3, done.stderr


def test_links_of_every_predictable_name_receive_nothing(tmp_path):
    secret, folder = tmp_path / "authorized_keys", tmp_path / "run"
    secret.write_text("mine\n")
    secret.chmod(0o600)
    folder.mkdir()
    for number in range(os.getpid() - 2, os.getpid() + 3):
        for name in (f".report.html.{os.uname().nodename}-{number}.tmp", f".report.html.{number}.tmp"):
            (folder / name).symlink_to(secret)
    for name in (".report.html.tmp", "report.html.tmp", ".report.html.partial", "report.html"):
        (folder / name).symlink_to(secret)
    write_text(folder / "report.html", "a student's text\n")
    assert secret.read_text() == "mine\n" and stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert not (folder / "report.html").is_symlink()
    assert (folder / "report.html").read_text() == "a student's text\n"


def test_a_folder_that_is_exchanged_for_a_link_while_a_file_is_written_receives_nothing(tmp_path):
    run, private = tmp_path / "run", tmp_path / "private"
    run.mkdir()
    private.mkdir()

    def write(file):
        run.rename(tmp_path / "aside")
        run.symlink_to(private)
        for name in (tmp_path / "aside").iterdir():  # and the new file for a link
            name.unlink()
            name.symlink_to(private / "key")
        file.write(b"text")

    files.replace_atomically(run / "report.html", write)
    assert list(private.iterdir()) == []


def test_the_umask_decides_who_reads_a_new_file(tmp_path):
    for mask, mode in ((0o022, 0o644), (0o077, 0o600), (0o002, 0o664)):
        before = os.umask(mask)
        try:
            write_text(tmp_path / "grades.csv", "1")
        finally:
            os.umask(before)
        assert stat.S_IMODE((tmp_path / "grades.csv").stat().st_mode) == mode


@pytest.mark.parametrize("linked", [False, True])
def test_a_device_or_a_fifo_is_never_replaced_by_a_file(tmp_path, linked):
    for name, target in (("null", Path("/dev/null")), ("fifo", tmp_path / "pipe")):
        if name == "fifo":
            os.mkfifo(target)
        path = tmp_path / name if linked else target
        if linked:
            path.symlink_to(target)
        with pytest.raises(MslabError, match="it is not a regular file"):
            write_text(path, "text")
        assert not target.is_file() and path.is_symlink() == linked


def test_a_file_with_the_longest_name_of_a_disk_can_be_written(tmp_path):
    file = tmp_path / ("x" * 255)
    write_text(file, "text")
    assert file.read_text() == "text" and list(tmp_path.iterdir()) == [file]


def test_a_folder_without_read_permission_can_be_written_to(tmp_path):
    tmp_path.chmod(0o300)
    try:
        write_text(tmp_path / "x", "text")
    finally:
        tmp_path.chmod(0o700)
    assert (tmp_path / "x").read_text() == "text"


@pytest.mark.parametrize("mode", ["ab", "wb", "r+b"])
def test_no_link_and_no_second_name_of_a_file_is_changed(tmp_path, mode):
    secret = tmp_path / "secret"
    secret.write_text("mine")
    (tmp_path / "link").symlink_to(secret)
    (tmp_path / "hard").hardlink_to(secret)
    (tmp_path / "dangling").symlink_to(tmp_path / "new")
    for name in ("link", "hard", "dangling"):
        with pytest.raises(OSError):
            open_regular(tmp_path / name, mode)
    assert secret.read_text() == "mine" and not (tmp_path / "new").exists()


# --- reading ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["rb", "ab", "wb"])
def test_a_fifo_a_socket_a_device_and_a_folder_are_refused_at_once(tmp_path, monkeypatch, mode):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("fifo")
    Path("folder").mkdir()
    Path("zero").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        for name in ("fifo", "folder", "zero", "socket"):
            with pytest.raises(OSError):
                open_regular(Path(name), mode).read(1)


def test_a_file_beyond_its_bound_is_refused(tmp_path):
    (tmp_path / "x").write_text("12345")
    assert read_text(tmp_path / "x", 5) == "12345"
    with pytest.raises(FormatError, match="it has more than 4 bytes"):
        read_text(tmp_path / "x", 4)


@pytest.mark.parametrize(
    "text,message",
    [
        ("[" * 200_000, "nested too deeply"),
        ('{"a":' * 200_000, "nested too deeply"),
        ("[" + "[]," * 3_000_000 + "[]]", "more than 3,000,000 values"),
        ("[" + "{}," * 3_000_000 + "{}]", "more than 3,000,000 values"),
        ("1" * 5000, "4300 digits"),
        (b"\xff", "not UTF-8"),
        ("{]", "it is not valid JSON"),
        ("", "it is not valid JSON"),
    ],
    ids=str,
)
def test_a_json_text_that_would_cost_too_much_is_refused(text, message):
    with pytest.raises(FormatError, match=message):
        parse_json(text)


def test_json_within_the_bounds_is_read():
    assert parse_json('{"a": [1, 2.5, "x", null, true, {"b": "ü,[{"}]}') == {
        "a": [1, 2.5, "x", None, True, {"b": "ü,[{"}]
    }
    assert len(parse_json("[" + "1," * 1_000_000 + "1]")) == 1_000_001  # the confusion matrix of 1,000 classes


def bomb(levels: int, width: int = 9) -> str:
    """Each level lists the one before it so many times: width ** levels values."""
    lines = ["a0: &a0 [x]"]
    for level in range(1, levels + 1):
        lines.append(f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * width)}]")
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    "text,message",
    [
        (bomb(9), "more than 20,000 values"),
        ("a: &a {x: 1}\nb: [" + "{<<: *a}," * 9000 + "]", "more than 20,000 values"),
        ("a: &a [*a]", "alias \\*a contains itself"),
        ("a: &a {b: {c: *a}}", "alias \\*a contains itself"),
        ("a: *nowhere", "undefined alias"),
        ("[" * 30_000, "nested deeper than 20 levels"),
        ("- " * 30_000, "nested deeper than 20 levels"),
        ("? " * 30_000, "nested deeper than 20 levels"),
        ("{a: " * 30 + "1" + "}" * 30, "nested deeper than 20 levels"),
        ("[" + "1," * 21_000 + "1]", "more than 20,000 values"),
        ("a: " + "x" * 300_000, "more than 262,144 characters"),
        ("a: " + "9" * 5000, "4300 digits"),
        ("a: 2001-99-99", "it is not valid YAML"),
        ("? [a]\n: 1\n? {b: 1}\n: 2", "it is not valid YAML"),
        ("a: !!python/object/apply:os.system [id]", "it is not valid YAML"),
        ("a: 1\na: 2", "duplicate key"),
        ("a: \x01", "it is not valid YAML"),
    ],
    ids=lambda text: text[:20],
)
def test_a_yaml_text_that_would_cost_too_much_is_refused(text, message):
    with pytest.raises(FormatError, match=message):
        parse_yaml(text)


def test_yaml_with_a_few_aliases_is_read():
    text = "base: &base {lr: 1e-4, no: no}\nfirst: {<<: *base, lr: 2}\nlist: &l [1, 2]\nagain: [*l, *l]\n"
    assert parse_yaml(text)["first"] == {"lr": 2, "no": "no"} and parse_yaml(text)["again"] == [[1, 2], [1, 2]]
    assert parse_yaml(bomb(3)) and parse_yaml("epochs: 12\n") == {"epochs": 12} and parse_yaml("") is None


@pytest.mark.parametrize(
    "text,content",
    [
        ("a: b\t\nc: 1 \t \n", {"a": "b", "c": 1}),
        ("a: 'x\t#'\t# y\n\t\nc: \"d\t#\"\t", {"a": "x\t#", "c": "d\t#"}),
        ("\t# it's\na: it's\t# don't", {"a": "it's"}),
        ("%YAML 1.2\n---\na: 1\nc: 2", {"a": 1, "c": 2}),
        ("# mine\n%YAML 1.2\n\n---\na: 1\n---\n\n# the end", {"a": 1}),
        ("a: |\n  b\t# c\n---", {"a": "b # c\n"}),
    ],
)
def test_yaml_that_the_library_refuses_and_the_standard_allows_is_read(text, content):
    lines: dict[str, int] = {}
    assert parse_yaml(text, lines) == content
    assert all(text.split("\n")[number - 1].startswith(name) for name, number in lines.items())
    assert parse_yaml("a: |\n  b\t# c\n") == {"a": "b\t# c\n"}, "what it reads stays as it is"


def test_a_long_line_of_tabs_costs_no_time():
    with pytest.raises(FormatError):
        parse_yaml("a: " + "\t" * 250_000 + "b")


def test_a_bomb_costs_neither_memory_nor_time(tmp_path):
    """Ten levels of nine aliases stand for three thousand million values; a process of 300 MiB refuses them."""
    (tmp_path / "config.yaml").write_text(bomb(10))
    script = "import sys; from mslab.config import load_settings; load_settings(sys.argv[1])"
    done = within(300, script, str(tmp_path / "config.yaml"))
    assert "it contains more than 20,000 values" in done.stderr and "ConfigError" in done.stderr


@pytest.mark.parametrize("kind", ["fifo", "folder", "device"])
def test_a_config_that_is_no_regular_file_ends_in_a_message(tmp_path, kind):
    path = tmp_path / "config.yaml"
    {"fifo": os.mkfifo, "folder": Path.mkdir, "device": lambda p: p.symlink_to("/dev/zero")}[kind](path)
    done = within(300, "import sys; from mslab.config import load_settings; load_settings(sys.argv[1])", str(path))
    assert "ConfigError" in done.stderr


def test_a_table_of_one_endless_line_needs_no_memory(tmp_path):
    """A file of 64 GiB that takes no space on the disk."""
    (tmp_path / "history.csv").touch()
    os.truncate(tmp_path / "history.csv", 64 << 30)
    script = "import csv, sys; from pathlib import Path; from mslab.files import read_lines\n"
    script += "list(csv.reader(read_lines(Path(sys.argv[1]))))"
    done = within(1024, script, str(tmp_path / "history.csv"))
    assert done.stderr.endswith("FormatError: it has a line of more than 1,048,576 characters\n"), done.stderr


def test_lines_are_those_of_the_file(tmp_path):
    (tmp_path / "a.csv").write_bytes(b'a,b\r\n"two\nlines",\xc3\xa9\n' + b"x" * 5000 + b"\nlast")
    assert list(files.read_lines(tmp_path / "a.csv")) == ["a,b\r\n", '"two\n', 'lines",é\n', "x" * 5000 + "\n", "last"]


def test_a_file_below_a_folder_is_opened_without_following_a_link(tmp_path):
    (tmp_path / "run" / "in").mkdir(parents=True)
    (tmp_path / "run" / "in" / "a").write_text("own")
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "run" / "in" / "b").symlink_to(tmp_path / "secret")
    (tmp_path / "run" / "out").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "run" / "fifo")
    with files.Below(tmp_path / "run", "in/a").open() as file:
        assert file.read() == b"own"
    for name in ("in/b", "out/secret", "fifo", "in", "in/none"):
        with pytest.raises(OSError):
            files.Below(tmp_path / "run", name).open()
    kinds = {name: files.kind_of(tmp_path / "run" / name) for name in ("in/a", "in/b", "in", "fifo", "none")}
    assert kinds == {"in/a": "a file", "in/b": "a link", "in": "a folder", "fifo": "a FIFO", "none": ""}
    assert files.kind_of(tmp_path / "run/in/b", links=True) == "a file"


# --- texts that other programs have saved ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "gbk", "gb18030"]
)
def test_texts_are_read_as_editors_save_them(tmp_path, encoding):
    text = "photo.jpg\r\n香菇, 第 2 张.jpg\r\n"
    assert files.decode(text.encode(encoding)) == text
    (tmp_path / "x").write_bytes(text.encode(encoding))
    assert files.read_text(tmp_path / "x") == text.replace("\r", "")
    emoji = "epochs: 2  # 😀\n"
    assert encoding == "gbk" or files.decode(emoji.encode(encoding)) == emoji


@pytest.mark.parametrize("content", ["café.jpg\nzoé".encode("cp1252"), "élan, Ärger".encode("latin1"), b"a\n\xff\xff"])
def test_an_encoding_that_cannot_be_told_is_named_and_not_guessed(content):
    with pytest.raises(files.FormatError, match="it is not UTF-8 text, and neither UTF-16 nor GBK; save it as UTF-8"):
        files.decode(content)


def test_tables_for_people_open_in_excel_and_tables_from_excel_are_read():
    assert files.for_people("id\nanna\n") == "id\nanna\n" and files.for_people("蘑菇\n") == "\ufeff蘑菇\n"
    for separator in ",;\t":
        text = separator.join(("id", "submitted")) + "\r\n" + separator.join(("王", "2026")) + "\r\n"
        for encoding in ("utf-8-sig", "gbk", "utf-16"):
            assert list(files.table_rows(files.decode(text.encode(encoding)))) == [{"id": "王", "submitted": "2026"}]
