"""Everything that makes training fail or crawl is reported with its fix, and sets the exit code."""

import re
import subprocess
import sys
from dataclasses import replace

import pytest
from helpers import PROJECT, without_roots_rights

from mslab.doctor import facts as gathering
from mslab.doctor.diagnosis import Diagnosis, MachineFacts, judge
from mslab.doctor.rules import RULES
from mslab.runtime import compiling, cuda

GIB = 2**30
FOUND = [cuda.Library(name, package, "/lib") for name, package in (cuda.LIBRARIES | cuda.SYSTEM).items()]
WITHOUT_CUDNN = [replace(library, location="" if "cudnn" in library.soname else "/lib") for library in FOUND]
NO_DRIVER = {"ascend": "no driver (/dev/davinci0: none is there)", "gpu": "no driver (/dev/nvidia0: none is there)"}
ADA = {"name": "NVIDIA L4", "capability": "8.9", "driver": "550.54"}
GPU = {"device": "gpu", "refused": {}, "gpu_driver": True, "gpus": [ADA], "cuda_release": "11.6"}
GPU |= {"environ": {"CUDA_HOME": "/c"}}
NPU = {"device": "ascend", "refused": {}, "ascend_driver": "25.0", "environ": {"ASCEND_HOME_PATH": "/a"}}
AVX512 = {"flags": "fpu avx avx2 avx512f"}


@pytest.fixture
def healthy() -> MachineFacts:
    """Facts about a machine without problems."""
    return MachineFacts(
        python="3.11.7",
        mindspore="2.8.0",
        numpy="1.26.4",
        device="cpu",
        refused=NO_DRIVER,
        environ={},
        gpu_driver=False,
        gpus=[],
        cuda_release="",
        libraries=FOUND,
        ascend_driver="",
        cann="",
        cann_accepted=["8.2", "8.3", "8.5"],
        cpu="A CPU",
        flags="fpu avx avx2",
        cores=2,
        memory=8 * GIB,
        here="/lab",
        cache="/cache",
        weights="/weights",
        weights_here=(2, GIB),
        free={"/lab": 20 * GIB, "/cache": 20 * GIB},
        unwritable={},
        engines={"onnx": "1.17.0", "onnxruntime": "1.32.0", "openvino": ""},
        speed={"product": 0.015, "convolution": 0.018, "training step": 0.140},
    )


def test_a_healthy_machine_has_no_problem_and_each_device_not_chosen_has_its_line(healthy):
    findings = judge(healthy)
    assert {finding.level for finding in findings} == {"ok"}
    output = str(Diagnosis(healthy, findings))
    assert re.search(r"gpu +not chosen: no driver", output) and re.search(r"ascend +not chosen: no driver", output)
    assert output.endswith("training works here, on the cpu")


PROBLEMS = [  # level, name, difference from a healthy machine, text, fix
    ("error", "Python", {"python": "3.13.1"}, "3.13.1", "python3.11"),
    ("error", "MindSpore", {"mindspore": ""}, "is not installed", "pip install mindspore==2.8.0"),
    ("error", "MindSpore", {"mindspore": "2.6.0"}, "2.6.0: mslab does not support it", "pip install mindspore==2.8.0"),
    ("error", "MindSpore", {"mindspore": "2.11.0"}, "2.11.0: mslab does not", "pip install mindspore==2.8.0"),
    (
        "error",
        "MindSpore",
        {"import_problem": ("It was ended by SIGILL", "AVX", "another CPU")},
        "SIGILL",
        "another CPU",
    ),
    ("warning", "MindSpore", {"packages": {"mindspore": "2.8.0", "mindspore-gpu": "2.2"}}, "same folder", "uninstall"),
    (
        "warning",
        "CUDA",
        GPU | {"foreign_cuda": ["/12/libnvrtc.so.12"]},
        "/12/libnvrtc.so.12 is found",
        "LD_LIBRARY_PATH",
    ),
    ("warning", "files", {"hiding": ["/lab/random.py"]}, "hides the Python module random", "rename /lab/random.py"),
    ("error", "NumPy", {"numpy": "2.1.3"}, "crashes at its first addition", "pip install 'numpy<2'"),
    (
        "warning",
        "engine",
        {"engines": {"onnx": "1.17.0", "onnxruntime": ""}},
        "onnxruntime missing: predictions run on MindSpore",
        "pip install onnxruntime",
    ),
    ("warning", "gpu", {"refused": {"gpu": "it does not answer"}}, "not chosen: it does not answer", ""),
    ("warning", "CUDA", {"gpu_driver": True, "libraries": WITHOUT_CUDNN}, "libcudnn.so.8", "'mslab[gpu]'"),
    ("error", "CUDA", GPU | {"cuda_release": "12.4"}, "CUDA_HOME=/c has CUDA 12.4", "unset CUDA_HOME"),
    ("error", "driver", GPU | {"gpus": [ADA | {"driver": "418.2"}]}, "driver 418.2", "update the NVIDIA driver"),
    ("error", "GPU", GPU | {"gpus": [ADA | {"capability": "5.2"}]}, "no kernels", "device: cpu"),
    ("warning", "GPU", GPU, "NVIDIA L4, driver 550.54, compute capability 8.9", "wait at the first start"),
    ("error", "CANN", NPU | {"cann": "8.1"}, "8.1 (driver 25.0): this MindSpore does not", "install CANN 8.5"),
    ("warning", "CANN", {"ascend_driver": "?", "cann": "9.1"}, "9.1: this MindSpore", "install CANN 8.5"),
    ("error", "CANN", NPU, "none found (driver 25.0)", "source /usr/local/Ascend/ascend-toolkit/set_env.sh"),
    ("warning", "CANN", {"ascend_driver": "25.0", "cann": "8.5"}, "variables are not set", "source /usr/local"),
    (
        "error",
        "CPU",
        AVX512 | {"mindspore": "2.10.0", "environ": {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE"}},
        "ONEDNN_MAX_CPU_ISA=AVX512_CORE: MindSpore 2.10.0's convolutions run 100 times slower",
        "unset ONEDNN_MAX_CPU_ISA",
    ),
    (
        "warning",
        "compiler",
        {"not_compiled": ("there is no C compiler (cc, gcc, clang)", compiling.INSTALL)},
        "there is no C compiler (cc, gcc, clang): training on the CPU takes some 20 % longer",
        "apt install gcc",
    ),
    ("warning", "cores", {"cores": 1}, "1 usable", "taskset"),
    ("error", "memory", {"memory": GIB}, "1.0 GiB available", "close other programs"),
    ("warning", "memory", {"memory": 3 * GIB}, "small images only", "lower batch_size"),
    ("error", "runs", {"free": {"/lab": GIB // 2, "/cache": 9 * GIB}}, "/lab: 0.5 GiB free", "make room"),
    ("warning", "runs", {"free": {"/lab": GIB, "/cache": 9 * GIB}}, "few runs fit", "make room"),
    ("error", "runs", {"unwritable": {"/lab": "Read-only file system"}}, "/lab: Read-only", "your own folder"),
    ("warning", "cache", {"unwritable": {"/cache": "Permission denied"}}, "computes them again", "XDG_CACHE_HOME="),
    ("warning", "cache", {"free": {"/lab": 9 * GIB, "/cache": 1}}, "/cache: 0.0 GiB free", "make room"),
    (
        "warning",
        "weights",
        {"weights": "/w", "weights_problem": "there is no such folder"},
        "/w: there is",
        "MSLAB_WEIGHTS=",
    ),
    ("error", "speed", {"speed": {"product": 0.015, "convolution": 2.5, "training step": 0.2}}, "crawls", "2.8.0"),
    ("error", "speed", {"speed": {"product": 0.015, "convolution": 0.02, "training step": 12}}, "crawls", "2.8.0"),
    (
        "error",
        "speed",
        {"speed": {}, "trouble": "not finished after 240 s"},
        "not finished after",
        "mslab.doctor.timing cpu",
    ),
]


@pytest.mark.parametrize("level,name,changed,text,fix", PROBLEMS)
def test_each_problem_is_reported_with_its_fix_and_sets_the_exit_code(healthy, level, name, changed, text, fix):
    facts = replace(healthy, **changed)
    diagnosis = Diagnosis(facts, judge(facts))
    (finding,) = [finding for finding in diagnosis.findings if finding.level != "ok" and finding.name == name]
    assert finding.level == level and text in finding.text and fix in finding.fix and bool(fix) == bool(finding.fix)
    assert diagnosis.ok == (level != "error")
    raw = "SIGILL" in text or "Read-only" in text or name == "Python"  # what the system has said, or a version
    assert raw or re.search("[\u4e00-\u9fff]", finding.shown("zh").text), finding.text
    assert finding.shown("en") == finding
    output = re.sub(r"\s+", " ", str(diagnosis))
    assert f"{level} {name} " in output and re.sub(r"\s+", " ", finding.fix) in output


@pytest.mark.parametrize(
    "changed,text",
    [
        (GPU | {"gpus": [ADA | {"capability": "8.0"}]}, "8.0: MindSpore has machine code for it"),
        (GPU | {"gpus": []}, "there is a driver, but nvidia-smi lists no GPU"),
        (GPU, "11.6 in /c, all libraries present"),
        (NPU | {"cann": "8.5"}, "8.5 (driver 25.0)"),
        (AVX512, "AVX-512; this MindSpore's convolutions are fast on it"),
        (
            AVX512 | {"mindspore": "2.10.0", "environ": {"ONEDNN_MAX_CPU_ISA": "AVX2"}},
            "ONEDNN_MAX_CPU_ISA=AVX2, without which",
        ),
        ({"memory": 0}, "does not report how much"),
    ],
)
def test_what_works_is_reported_too(healthy, changed, text):
    findings = judge(replace(healthy, **changed))
    assert any(text in finding.text for finding in findings if finding.level == "ok"), findings


def test_every_rule_has_a_case(healthy):
    facts = replace(healthy, **GPU | {"ascend_driver": "?", "refused": NO_DRIVER, "hiding": ["x.py"]})
    for rule in RULES:
        assert {finding.name for finding in rule(facts)} & {name for _, name, *_ in PROBLEMS}, rule.__name__


# --- facts, read from real files -------------------------------------------------------------------------------------


def test_a_read_only_folder_is_detected_by_writing(tmp_path):
    (tmp_path / "readonly").mkdir(mode=0o555)
    script = "import sys; from pathlib import Path; from mslab.doctor import facts; "
    script += "print(facts.write_problem(Path(sys.argv[1])))"
    command = [sys.executable, "-c", script, str(tmp_path / "readonly" / "mslab")]
    done = subprocess.run(command, capture_output=True, text=True, preexec_fn=without_roots_rights, cwd=PROJECT)
    assert done.stdout == "Permission denied\n"


def test_a_full_disk_is_detected_by_writing(tmp_path, healthy):
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path)], capture_output=True)
    if mounted.returncode:
        pytest.skip("a small file system cannot be mounted here")
    try:
        assert gathering.free_space(tmp_path / "not" / "there") <= 64 * 1024
        (tmp_path / "full").write_bytes(bytes(gathering.free_space(tmp_path)))
        assert gathering.write_problem(tmp_path) == "No space left on device"
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_without_mindspore_an_ascend_machine_gets_that_error_and_no_other(healthy):
    for cann in ("", "8.5"):
        findings = judge(replace(healthy, **NPU | {"mindspore": "", "cann": cann, "cann_accepted": []}))
        assert [finding.name for finding in findings if finding.level == "error"] == ["MindSpore"], findings


def test_files_that_hide_python_modules_are_found(tmp_path):
    for name in ("random.py", "numpy.py", "lab.py", "random.txt"):
        (tmp_path / name).touch()
    assert gathering.hiding(tmp_path) == [str(tmp_path / "numpy.py"), str(tmp_path / "random.py")]
