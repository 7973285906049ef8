"""The data check in separate processes: one that MindSpore kills, one stopped by Ctrl-C, a user's scripts."""

import subprocess
import sys
import time

import psutil
import pytest
from checking import codes_and_paths, slow_jpeg
from helpers import PROGRAM, PROJECT, draw, without_roots_rights
from PIL import Image

from mslab.check import check_dataset


@pytest.fixture
def root(tmp_path):
    return draw(tmp_path / "set", ["a", "b", "c"], 3)


def test_a_jpeg_cut_in_its_header_kills_plain_mindspore_and_is_one_finding_here(root):
    noise = root / "a" / "x.jpg"
    Image.effect_noise((64, 64), 90).convert("RGB").save(noise)
    content = noise.read_bytes()
    header = content.index(b"\xff\xda")  # start of scan: everything before it is header
    script = "import sys, numpy as np, mindspore.dataset.vision as v; v.Decode()(np.fromfile(sys.argv[1], np.uint8))"
    deadly = None
    for end in (header, header - 4, header + 2, header // 2, header - 200):
        noise.write_bytes(content[:end])
        done = subprocess.run([sys.executable, "-c", script, noise], capture_output=True, cwd=root.parent)
        if done.returncode < 0:
            deadly = end
            break
    assert deadly, "MindSpore no longer dies on any of these files: FACTS and the reason for the worker have changed"
    assert {path for _, path in codes_and_paths(check_dataset(root))} == {"a/x.jpg"}


def test_files_and_folders_without_read_permission_are_reported(root):
    (root / "a" / "000.png").chmod(0)
    (root / "c").chmod(0)
    script = f"import mslab\nfor f in mslab.check_dataset({str(root)!r}).errors: print(f.code, f.path, f.fix)"
    try:
        command = [sys.executable, "-c", script]
        done = subprocess.run(command, capture_output=True, text=True, cwd=PROJECT, preexec_fn=without_roots_rights)
    finally:
        (root / "c").chmod(0o755)
    assert done.stdout.splitlines() == [
        f"permission c chmod u+rx {root}/c",
        f"permission a/000.png mslab check {root} --fix    moves it to {root}.quarantine/",
    ], done.stderr


def test_a_script_without_a_main_guard_can_check_beside_files_named_like_modules(root, tmp_path):
    """The workers neither run the script again nor import the files beside it."""
    for name in ("json", "PIL", "report", "base64"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('imported by mistake')")
    script = f"import sys; sys.path.pop(0)\nimport mslab\nprint(mslab.check_dataset({str(root)!r}).ok)"
    (tmp_path / "script.py").write_text(script)
    done = subprocess.run([sys.executable, "script.py"], capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert done.stdout == "True\n" and done.stderr == ""


def test_ctrl_c_prints_the_findings_so_far(tmp_path):
    draw(tmp_path / "set", ["a", "b"], 3)
    slow_jpeg(tmp_path / "set" / "b" / "slow.jpg")  # so that the check does not finish before it is stopped
    (tmp_path / "set" / ".checkpoint").mkdir()
    command = [*PROGRAM, "check", str(tmp_path / "set"), "--no-cache"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    workers = []
    while not workers or workers[0].cpu_times().user < 0.5:  # until it has started and is loading the slow file
        workers = [w for w in psutil.Process(process.pid).children() if "worker.py" in " ".join(w.cmdline())]
        time.sleep(0.02)
    process.send_signal(2)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "stray-folder" in out and "stopped before all images were loaded; so far: 1 error (stray-folder)" in out
