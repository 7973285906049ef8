"""Published weights: the names, and fetching them from servers that serve, cut off, lie, stall, or are not there."""

import dataclasses
import hashlib
import os
import re
import resource
import signal
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest
from helpers import cli, without_roots_rights
from mirrors import CONTENT, PAGE, Mirror, chunked, cut, mirror, program, rows, slowly, stall, status, whole

from mslab import weights
from mslab.doctor import rules
from mslab.doctor.facts import MachineFacts, published
from mslab.errors import CheckpointError, ConfigError, MslabError
from mslab.weights import fetching, registry

NAME = "torchvision:resnet18"
FILE = f"resnet18-{hashlib.sha256(CONTENT).hexdigest()[:8]}.pth"
REQUIRED = [field.name for field in dataclasses.fields(MachineFacts) if field.default is field.default_factory]
assert mirror  # a fixture


def folder() -> Path:
    return weights.folder()


def left() -> list[str]:
    return sorted(path.name for path in folder().iterdir())


def refused(*parts: str, error: type[MslabError] = CheckpointError) -> MslabError:
    with pytest.raises(error) as caught:
        weights.obtain(NAME)
    for part in parts:
        assert part in str(caught.value)
    assert caught.value.expected and caught.value.fix
    return caught.value


# --- names -----------------------------------------------------------------------------------------------------------


def test_every_published_file_has_a_name_an_address_and_eight_digits_of_its_hash():
    table = registry.table()
    assert len({entry.file for entry in table.values()}) == len(table)
    for name, entry in table.items():
        assert entry.name == name and len(entry.digits) == 8 and entry.address.startswith("https://")
        assert entry.top1 is None or 50 < entry.top1 < 90
        assert all(size is None or 160 <= size <= 448 for size in (entry.crop, entry.resize, entry.trained))
    for project in registry.PROJECTS:
        assert {f"{project}:resnet{depth}" for depth in (18, 34, 50, 101, 152)} <= {*table, *registry.defaults()}


def test_a_short_name_is_what_the_project_takes():
    short = registry.defaults()
    assert short["torchvision:resnet50"].name == "torchvision:resnet50.IMAGENET1K_V2"
    assert short["torchvision:resnet18"].name == "torchvision:resnet18.IMAGENET1K_V1"
    assert short["timm:resnet50"].name == "timm:resnet50.a1_in1k"


def test_what_torchvision_and_timm_say_of_preparing_images():
    newest = weights.published("torchvision:resnet50")
    assert (newest.info["image_size"], newest.info["resize_size"], newest.info["mean"][0]) == (224, 232, 0.485)
    a1 = weights.published("timm:resnet50.a1_in1k")
    assert (a1.trained, a1.crop, a1.resize, a1.interpolation) == (224, 288, 288, "bicubic")
    assert a1.far_from(64) and not a1.far_from(224) and not a1.far_from(288) and a1.far_from(512)


@pytest.mark.parametrize(
    "text,expected",
    [
        ("ResNet50_Weights.IMAGENET1K_V2", ["torchvision:resnet50.IMAGENET1K_V2"]),
        ("torchvision:ResNet50_Weights.DEFAULT", ["torchvision:resnet50"]),
        ("torchvision:resnet50.v1", ["torchvision:resnet50.IMAGENET1K_V1"]),
        ("torchvision:resnet50.imagenet1k_v1", ["torchvision:resnet50.IMAGENET1K_V1"]),
        ("ResNet-50", ["torchvision:resnet50", "timm:resnet50", "mindcv:resnet50"]),
        ("torchvision.models.resnet50", ["torchvision:resnet50"]),
        ("torchvision/resnet50", ["torchvision:resnet50"]),
        ("timm/resnet50.a1_in1k", ["timm:resnet50.a1_in1k"]),
        ("resnet50.a1_in1k", ["timm:resnet50.a1_in1k"]),
        ("https://download.pytorch.org/models/resnet50-11ad3fa6.pth", ["torchvision:resnet50.IMAGENET1K_V2"]),
        ("resnet50-11ad3fa6.pth", ["torchvision:resnet50.IMAGENET1K_V2"]),
        ("runs", []),
        ("mushrooms9", []),
        ("latest", []),
    ],
)
def test_other_ways_to_write_a_name_are_proposed(text, expected):
    assert weights.near(text) == expected


def test_an_unknown_name_stops_with_the_names_that_are_near():
    with pytest.raises(CheckpointError, match="No weights are known as torchvision:resnet500") as caught:
        weights.published("torchvision:resnet500")
    assert caught.value.fix.startswith("one of torchvision:resnet50, ")
    with pytest.raises(CheckpointError) as caught:
        weights.published("timm:resnet50.a1")
    assert "timm:resnet50.a1_in1k" in caught.value.fix
    assert "mslab weights    lists the names" in refused_name("mindcv:zzzzzzzz").fix


def refused_name(name: str) -> CheckpointError:
    with pytest.raises(CheckpointError) as caught:
        weights.published(name)
    return caught.value


# --- servers ---------------------------------------------------------------------------------------------------------


def test_a_file_is_fetched_once(mirror: Mirror, caplog):
    caplog.set_level("INFO", "mslab")
    assert weights.obtain(NAME) == folder() / FILE
    assert (folder() / FILE).read_bytes() == CONTENT and left() == [FILE]
    assert mirror.requests == [(f"/{FILE}", "")] and hashlib.sha256(CONTENT).hexdigest() in caplog.text
    weights.obtain(NAME)
    assert len(mirror.requests) == 1


def test_a_cut_connection_is_continued(mirror: Mirror):
    mirror.answers = [cut(100_000), cut(50_000), cut(0), cut(1)]
    weights.obtain(NAME)
    assert (folder() / FILE).read_bytes() == CONTENT and left() == [FILE]
    ranges = [f"bytes={start}-" for start in (100_000, 150_000, 150_000, 150_001)]
    assert [wanted for _, wanted in mirror.requests] == ["", *ranges]


def test_a_server_without_ranges_sends_all_of_it_again(mirror: Mirror):
    mirror.answers = [whole(CONTENT, 100_000), whole(CONTENT)]
    weights.obtain(NAME)
    assert (folder() / FILE).read_bytes() == CONTENT and mirror.requests[1][1] == "bytes=100000-"


def test_a_server_that_always_cuts_off_ends_in_a_message_and_the_next_call_goes_on(mirror: Mirror):
    mirror.answers = [cut(100_000), *[cut(0)] * fetching.TRIES]
    refused("the connection ended too early, 5 times in a row")
    assert left() == [f".{FILE}.part"]
    weights.obtain(NAME)
    assert mirror.requests[-1][1] == "bytes=100000-" and left() == [FILE]


def test_the_beginning_of_another_file_is_dropped(mirror: Mirror):
    folder().mkdir()
    (folder() / f".{FILE}.part").write_bytes(b"\x01" * 1000)
    weights.obtain(NAME)
    assert (folder() / FILE).read_bytes() == CONTENT and [r for _, r in mirror.requests] == ["bytes=1000-", ""]


def test_a_part_that_is_longer_than_the_file_is_dropped(mirror: Mirror):
    folder().mkdir()
    (folder() / f".{FILE}.part").write_bytes(CONTENT + b"\x01")
    weights.obtain(NAME)
    assert (folder() / FILE).read_bytes() == CONTENT


def test_a_part_that_is_complete_needs_no_request(mirror: Mirror):
    folder().mkdir()
    (folder() / f".{FILE}.part").write_bytes(CONTENT)
    weights.obtain(NAME)
    assert left() == [FILE] and not mirror.requests


def test_another_file_is_refused_and_nothing_of_it_stays(mirror: Mirror):
    mirror.answers = [whole(b"\x00" * 5000)]
    error = refused("it sent another file: 5,000 bytes, with the sha256", f"begins with {FILE[9:17]}")
    assert mirror.address in str(error) and left() == []


def test_a_web_page_is_refused_at_its_first_bytes(mirror: Mirror):
    mirror.answers = [whole(PAGE, Content_Type="text/html")]
    refused("it sent a web page, as the login page of a network")
    assert left() == [] and len(mirror.requests) == 1


@pytest.mark.parametrize("code,text", [(404, "404 Not Found"), (403, "403 Forbidden"), (401, "401 Unauthorized")])
def test_a_refusal_is_not_asked_again(mirror: Mirror, code, text):
    mirror.answers = [status(code)]
    refused(f"it answered {text}")
    assert left() == [] and len(mirror.requests) == 1


def test_a_server_in_trouble_is_asked_again(mirror: Mirror):
    mirror.answers = [status(500), status(503), status(429), lambda handler: handler.wfile.write(b"nonsense\r\n\r\n")]
    weights.obtain(NAME)
    assert left() == [FILE] and len(mirror.requests) == 5


def test_a_server_in_trouble_for_long_ends_in_a_message(mirror: Mirror):
    mirror.answers = [status(500)] * 9
    refused("it answered 500 Internal Server Error, 5 times in a row")
    assert left() == [] and len(mirror.requests) == fetching.TRIES


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_redirects_are_followed_also_after_a_cut(mirror: Mirror, code):
    mirror.answers = [status(code, Location="/elsewhere"), cut(1000), status(code, Location="/elsewhere")]
    weights.obtain(NAME)
    assert [path for path, _ in mirror.requests] == [f"/{FILE}", "/elsewhere"] * 2
    assert mirror.requests[-1][1] == "bytes=1000-" and left() == [FILE]


@pytest.mark.parametrize("target", ["ftp://127.0.0.1/x", "file:///etc/passwd"])
def test_a_redirect_to_another_kind_of_address_is_refused(mirror: Mirror, target):
    mirror.answers = [status(302, Location=target)]
    refused("it leads to ftp://127.0.0.1/x, which is no address of HTTP" if target[:3] == "ftp" else "answered 302")


def test_https_does_not_lead_to_http():
    request, redirects = urllib.request.Request("https://a.example/x"), fetching.Redirects()
    with pytest.raises(fetching.NotFetched, match="which is no address of HTTPS"):
        redirects.redirect_request(request, None, 302, "", {}, "http://b.example/x")
    assert redirects.redirect_request(request, None, 308, "", {}, "https://b.example/x").host == "b.example"


def test_redirects_in_a_circle_end(mirror: Mirror):
    mirror.answers = [status(302, Location=f"/{FILE}")] * 30
    refused("it answered 302")
    assert len(mirror.requests) < 15


def test_a_server_that_says_nothing_more_is_left(mirror: Mirror, monkeypatch):
    monkeypatch.setattr(fetching, "STALL", 0.2)
    mirror.answers = [stall(100_000)]
    weights.obtain(NAME)
    assert left() == [FILE] and mirror.requests[1][1] == "bytes=100000-"


def test_a_server_that_accepts_and_never_answers_ends_in_a_message(mirror: Mirror, monkeypatch):
    monkeypatch.setattr(fetching, "STALL", 0.05)
    mirror.answers = [lambda handler: handler.server.released.wait(20)] * fetching.TRIES
    refused("nothing came for")


def test_a_slow_server_is_waited_for(mirror: Mirror, monkeypatch):
    monkeypatch.setattr(fetching, "STALL", 0.3)
    mirror.answers = [slowly(8, 0.06)]
    weights.obtain(NAME)
    assert left() == [FILE] and len(mirror.requests) == 1


def test_a_length_that_is_too_long_does_not_matter(mirror: Mirror):
    mirror.answers = [whole(CONTENT, Content_Length=len(CONTENT) + 1000)]
    weights.obtain(NAME)
    assert left() == [FILE] and len(mirror.requests) == 1


def test_a_length_that_is_too_short_is_another_file(mirror: Mirror):
    mirror.answers = [whole(CONTENT, Content_Length=1000)]
    refused("it sent another file: 1,000 bytes")


def test_a_length_that_no_disk_has_is_refused_before_the_first_byte(mirror: Mirror):
    mirror.answers = [whole(CONTENT, Content_Length=10**15)]
    refused("needs 1000 TB", error=MslabError)
    assert left() == []


@pytest.mark.parametrize("answers", [[chunked()], [chunked(200_000, end=False), chunked()]])
def test_a_file_without_a_length_arrives(mirror: Mirror, answers):
    mirror.answers = list(answers)
    weights.obtain(NAME)
    assert left() == [FILE] and (folder() / FILE).read_bytes() == CONTENT


def test_another_file_without_a_length_ends_in_a_message(mirror: Mirror):
    def answer(handler) -> None:
        handler.begin(200)
        handler.wfile.write(b"\x01" * 1000)

    mirror.answers = [answer] * 9
    refused("what it sent has another hash, 5 times in a row")


def test_a_proxy_is_asked(mirror: Mirror, monkeypatch):
    monkeypatch.setenv("http_proxy", mirror.address)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.setenv("MSLAB_WEIGHTS_MIRROR", "http://weights.example.org/files/")
    weights.obtain(NAME)
    assert mirror.requests == [(f"http://weights.example.org/files/{FILE}", "")]


@pytest.mark.parametrize("text", ["/srv/weights", "ftp://x/y", "http://"])
def test_a_mirror_that_is_no_address_is_refused(mirror: Mirror, monkeypatch, text):
    monkeypatch.setenv("MSLAB_WEIGHTS_MIRROR", text)
    refused(f"MSLAB_WEIGHTS_MIRROR is {text.rstrip('/')!r}, which is no address", error=ConfigError)


# --- offline, and files put there by hand -----------------------------------------------------------------------------


def test_without_a_network_the_message_says_what_to_put_where(mirror: Mirror, monkeypatch, tmp_path):
    monkeypatch.setenv("MSLAB_WEIGHTS_MIRROR", "http://127.0.0.1:9")
    error = refused(f"The weights {NAME}.IMAGENET1K_V1 are not here", "Connection refused")
    address = f"https://download.pytorch.org/models/{FILE}"
    assert {("published", address), ("folder", str(folder())), ("address", f"http://127.0.0.1:9/{FILE}")} <= set(
        error.details
    )
    assert f"put it into {folder()} under its own name" in error.fix
    (folder() / FILE).write_bytes(CONTENT)
    assert weights.obtain(NAME) == folder() / FILE


def test_a_file_in_a_folder_that_cannot_be_written_is_taken(mirror: Mirror):
    folder().mkdir()
    (folder() / FILE).write_bytes(CONTENT)
    folder().chmod(0o555)
    script = program(rows(), "weights", "get", NAME)
    done = subprocess.run(script, preexec_fn=without_roots_rights, capture_output=True, text=True)
    folder().chmod(0o755)
    assert done.returncode == 0 and str(folder() / FILE) in done.stderr, done.stderr


def test_a_folder_that_cannot_be_written_is_named(mirror: Mirror):
    folder().mkdir(mode=0o555)
    script = program(rows(), "weights", "get", NAME)
    done = subprocess.run(script, preexec_fn=without_roots_rights, capture_output=True, text=True)
    folder().chmod(0o755)
    assert done.returncode == 1 and f"{folder() / FILE} could not be written: Permission denied." in done.stderr
    assert f"chmod u+w {folder()}, or choose another folder: MSLAB_WEIGHTS=FOLDER" in done.stderr
    assert not mirror.requests


def test_a_full_disk_leaves_nothing(mirror: Mirror):
    script = program(rows(), "weights", "get", NAME)
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))  # noqa: E731
    done = subprocess.run(script, preexec_fn=limit, capture_output=True, text=True)
    assert done.returncode == 1 and f"{folder() / FILE} could not be written: File too large." in done.stderr
    assert "free some space, or choose another folder" in done.stderr and left() == []


def test_a_file_with_another_hash_is_refused_and_taken_by_its_path(mirror: Mirror, caplog):
    caplog.set_level("INFO", "mslab")
    folder().mkdir()
    (folder() / FILE).write_bytes(b"other")
    error = refused(f"{folder() / FILE} is not the published file of {NAME}.IMAGENET1K_V1: it has another hash")
    assert f"rm {folder() / FILE}" in error.fix and f"give its path: {folder() / FILE}" in error.fix
    assert (folder() / FILE).read_bytes() == b"other" and not mirror.requests
    assert weights.obtain(NAME, any_hash=True) == folder() / FILE and "taken as a file of others" in caplog.text


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
def test_what_is_no_file_is_refused_without_waiting(mirror: Mirror, make):
    folder().mkdir()
    make(folder() / FILE)
    refused(f"{folder() / FILE} cannot be read")


def test_a_link_in_place_of_the_unfinished_file_is_not_followed(mirror: Mirror, tmp_path):
    folder().mkdir()
    (tmp_path / "precious").write_bytes(b"mine")
    (folder() / f".{FILE}.part").symlink_to(tmp_path / "precious")
    refused("could not be written", error=MslabError)
    assert (tmp_path / "precious").read_bytes() == b"mine"


# --- several processes, and stops -------------------------------------------------------------------------------------


def test_two_processes_at_once_fetch_one_file(mirror: Mirror):
    mirror.answers = [slowly(10, 0.1)]
    script = program(rows(), "weights", "get", NAME)
    both = [subprocess.Popen(script, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    texts = [process.communicate(timeout=60)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], texts
    assert len(mirror.requests) == 1 and left() == [FILE] and (folder() / FILE).read_bytes() == CONTENT


def test_a_killed_download_is_continued(mirror: Mirror):
    mirror.answers = [stall(200_000)]
    script = program(rows(), "weights", "get", NAME)
    process = subprocess.Popen(script, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: (folder() / f".{FILE}.part").is_file() and (folder() / f".{FILE}.part").stat().st_size == 200_000)
    process.kill()
    process.communicate()
    assert subprocess.run(script, capture_output=True).returncode == 0
    assert mirror.requests[1][1] == "bytes=200000-" and left() == [FILE]


def test_ctrl_c_says_what_is_kept(mirror: Mirror):
    mirror.answers = [stall(200_000)]
    process = subprocess.Popen(program(rows(), "weights", "get", NAME), stderr=subprocess.PIPE, text=True)
    wait_for(lambda: (folder() / f".{FILE}.part").is_file() and (folder() / f".{FILE}.part").stat().st_size == 200_000)
    process.send_signal(signal.SIGINT)
    text = process.communicate(timeout=20)[1]
    assert (
        process.returncode == 130 and "200 kB that have arrived are kept; the same command goes on from there" in text
    )


def wait_for(condition) -> None:
    for _ in range(1000):
        if condition():
            return
        time.sleep(0.02)
    raise AssertionError("it did not happen")


# --- the commands -----------------------------------------------------------------------------------------------------


def test_the_list_says_what_is_here(mirror: Mirror):
    before = cli("weights", "torchvision:resnet18")
    assert before.returncode == 0 and "69.76" in before.stdout and "224 of 256" in before.stdout
    assert " no" in before.stdout.splitlines()[4] and str(folder()) in before.stdout.replace("\n", "")
    assert cli("weights", "get", NAME).returncode == 0
    after = cli("weights", "list", "torchvision:resnet18")
    assert "yes" in after.stdout and not mirror.answers and len(mirror.requests) == 1


def test_doctor_counts_what_is_here(mirror: Mirror):
    def said() -> str:
        gathered = MachineFacts(**dict.fromkeys(REQUIRED, ""), **published())
        return next(rules.weights_folder(gathered)).text

    assert said() == f"{folder()}: there is no such folder; mslab makes it when it fetches weights"
    weights.obtain(NAME)
    assert said() == f"{folder()}: 1 files of published weights, 0.00 GiB"


def test_the_list_as_json(mirror: Mirror):
    import json

    found = json.loads(cli("weights", "torchvision", "--json", "-").stdout)
    assert found["folder"] == str(folder()) and [row["here"] for row in found["weights"]] == [False]
    row = found["weights"][0]
    assert (row["name"], row["top1"], row["digits"]) == (f"{NAME}.IMAGENET1K_V1", 69.758, FILE[9:17])


def test_what_the_fix_lines_say_works(mirror: Mirror, monkeypatch):
    monkeypatch.setenv("MSLAB_WEIGHTS_MIRROR", "http://127.0.0.1:9")
    failed = cli("weights", "get", NAME)
    shown = re.search(r"mslab (weights get \S+)    tries again", failed.stderr)
    monkeypatch.setenv("MSLAB_WEIGHTS_MIRROR", mirror.address)
    assert cli(*shown[1].split()).returncode == 0
    (folder() / FILE).write_bytes(b"other")
    failed = cli("weights", "get", NAME)
    path = re.search(r"rm (\S+)    and the next call", failed.stderr)
    Path(path[1]).unlink()
    assert cli("weights", "get", NAME).returncode == 0 and (folder() / FILE).read_bytes() == CONTENT
    for wrong in (["weights", "zebra"], ["weights", "get", "timm:zebra"]):
        failed = cli(*wrong)
        assert failed.returncode == 1 and re.search(r"fix +mslab weights    list", failed.stderr)
    assert cli("weights").returncode == 0


@pytest.mark.parametrize("words", [["train", NAME], ["transfer", NAME, "--backbone", "x.yaml"]])
def test_a_name_in_the_place_of_a_config_is_answered_with_the_command_that_takes_it(mirror: Mirror, tmp_path, words):
    done = cli(*words, cwd=tmp_path)
    fix = f"mslab transfer CONFIG --backbone {NAME}    trains a new head on these weights"
    assert done.returncode == 1 and f"There is no config file {NAME}" in done.stderr and fix in done.stderr


def test_wrong_names_fetch_nothing(mirror: Mirror):
    done = cli("weights", "get", NAME, "torchvision:resnet19")
    assert (
        done.returncode == 1 and "No weights are known as torchvision:resnet19" in done.stderr and not mirror.requests
    )
    assert "No published weights have 'zebra' in their names" in cli("weights", "zebra").stderr
