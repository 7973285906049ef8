"""Text files of a run folder are replaced atomically: until then the earlier file stays intact."""

import resource
from contextlib import contextmanager

import pytest

from mslab.checkpoint import write_text
from mslab.errors import MslabError


@contextmanager
def full_after(size):
    """Let no file grow beyond this number of bytes during the block, as a full disk would."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_text_that_cannot_be_written_completely_leaves_the_earlier_one(tmp_path):
    file = tmp_path / "history.csv"
    write_text(file, "epoch\n1\n")
    with full_after(20_000), pytest.raises((MslabError, OSError)) as caught:
        write_text(file, "epoch\n" + "2\n" * 50_000)
    assert file.read_text() == "epoch\n1\n" and list(tmp_path.iterdir()) == [file]
    assert isinstance(caught.value, MslabError)
    assert f"{file} could not be written: File too large." in str(caught.value)
    assert "the earlier file is unchanged" in str(caught.value)


def test_a_reader_with_an_open_text_reads_the_earlier_one_to_its_end(tmp_path):
    file = tmp_path / "history.csv"
    write_text(file, "earlier\n")
    with file.open() as opened:
        write_text(file, "a later one, which is longer\n")
        assert opened.read() == "earlier\n"
    assert file.read_text() == "a later one, which is longer\n" and list(tmp_path.iterdir()) == [file]
