"""Guards before MindSpore starts, missing devices, and the capture of MindSpore's output."""

import os
from pathlib import Path

import pytest
from helpers import cli

from mslab.errors import DeviceError
from mslab.runtime import console, devices, signals, versions

AVX512 = "flags : fpu avx2 avx512f avx512bw"


@pytest.mark.parametrize(
    "mindspore,flags,expected",
    [
        ("2.9.0", AVX512, "AVX2"),
        ("2.10.0", AVX512, "AVX2"),
        ("2.8.0", AVX512, None),
        ("2.10.0", "flags : fpu avx2", None),
    ],
)
def test_onednn_is_limited_to_avx2_if_it_would_be_slow(mindspore, flags, expected):
    environ = {}
    versions.set_environment(environ, mindspore, flags)
    assert environ.get("ONEDNN_MAX_CPU_ISA") == expected


def test_the_users_own_value_stays():
    environ = {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE"}
    versions.set_environment(environ, "2.10.0", AVX512)
    assert environ["ONEDNN_MAX_CPU_ISA"] == "AVX512_CORE"


def test_the_compile_cache_stays_off():
    environ = {"MS_COMPILER_CACHE_ENABLE": "1"}
    versions.set_environment(environ, "2.8.0", "")
    assert environ["MS_COMPILER_CACHE_ENABLE"] == "0"


def test_numpy_2_is_refused_with_the_fix():
    with pytest.raises(DeviceError) as caught:
        versions.refuse_numpy2("2.1.3", "2.10.0")
    assert "NumPy 2.1.3 is installed" in str(caught.value) and "pip install 'numpy<2'" in str(caught.value)
    versions.refuse_numpy2("1.26.4", "2.10.0")


def test_workers_are_at_most_the_cores():
    from mslab.check import cores

    assert devices.workers(10_000) == cores() and devices.workers(1) == 1


@pytest.mark.parametrize("device", ["gpu", "ascend"])
def test_a_missing_device_gives_one_clear_message(device, monkeypatch):
    monkeypatch.setitem(devices.DRIVERS, device, ("/nowhere/driver",))
    with pytest.raises(DeviceError) as caught:
        devices.choose_device(device)
    text = str(caught.value)
    assert f"device: {device} cannot be used here: no driver" in text and "device: cpu" in text and "expected" in text


@pytest.mark.parametrize("device", ["gpu", "ascend"])
def test_without_a_driver_a_command_ends_before_it_reads_data_or_imports_mindspore(device, inside, monkeypatch):
    monkeypatch.setitem(devices.DRIVERS, device, ("/nowhere/driver",))
    Path("x.yaml").write_text(f"train_data: no\nval_data: none\nclass_num: 2\ndevice: {device}\n")
    for command in (["train", "x.yaml"], ["eval", "no.ckpt", "--data", "no", "--device", device]):
        done = cli(*command)  # in tests/unit, importing MindSpore fails
        assert done.returncode == 1 and done.stderr.startswith(f"DeviceError: device: {device} cannot be used here")
        assert "no driver" in done.stderr and "Traceback" not in done.stderr and not done.stdout


def test_a_driver_without_the_libraries_names_the_package_and_mindspore_is_not_started(monkeypatch):
    if all(library.location for library in devices.cuda.libraries() if library.soname in devices.cuda.LIBRARIES):
        pytest.skip("this Python has the CUDA libraries")
    monkeypatch.setitem(devices.DRIVERS, "gpu", ("/",))
    monkeypatch.delenv("CUDA_HOME", raising=False)
    monkeypatch.setattr(devices, "TRY_DEVICE", None)
    with pytest.raises(DeviceError, match=r"CUDA libraries .* are missing") as caught:
        devices.choose_device("gpu")
    assert "pip install 'mslab[gpu]'" in str(caught.value)


def test_auto_logs_why_a_device_is_not_used_but_nothing_about_missing_drivers(monkeypatch):
    messages = []
    monkeypatch.setattr(devices.log, "info", lambda text, *parts: messages.append(text % parts))
    monkeypatch.setattr(devices, "device_problem", {"ascend": "no driver (…)", "gpu": "it does not answer"}.get)
    assert devices.choose_device("auto") == "cpu"
    assert messages == ["device: gpu is not used: it does not answer"]
    assert devices.best_device() == ("cpu", {"ascend": "no driver (…)", "gpu": "it does not answer"})
    monkeypatch.setattr(devices, "device_problem", {"ascend": "no driver (…)", "gpu": ""}.get)
    assert devices.best_device() == ("gpu", {"ascend": "no driver (…)"})


@pytest.mark.parametrize(
    "device,output,expected",
    [
        (
            "ascend",
            "RuntimeError: Unsupported device target Ascend. This process only supports one of the ['CPU'].\n\n"
            "- Device load error message:\nLoad dynamic library: libmindspore_ascend.so.2 failed. libge_runner.so: "
            "cannot open shared object file\nmindspore/core/utils/ms_context.cc:279 SetDeviceTargetFromInner\n",
            "Load dynamic library: libmindspore_ascend.so.2 failed. libge_runner.so: cannot open shared object file",
        ),
        (
            "gpu",
            "RuntimeError: \n- Cuda error:\nThe cudaGetLastError[35], CUDA driver is insufficient.\ncuda.cc:292\n",
            "The cudaGetLastError[35], CUDA driver is insufficient",
        ),
        ("gpu", "RuntimeError: no memory\n", "no memory"),
        ("gpu", "Segmentation fault\n", "Segmentation fault"),
        ("gpu", "", ""),
    ],
)
def test_the_line_of_mindspores_output_that_names_the_problem_is_chosen(device, output, expected):
    assert devices.error_line(output, device) == expected


def test_mindspores_output_goes_to_the_file_and_is_counted(tmp_path, capfd):
    with console.capture_stderr() as capture:
        os.write(2, b"[WARNING] CORE(1,7f,python):2026 [mindspore/x.cc:1] F] Something is off\n  a stack line\n")
        os.write(2, b"[WARNING] CORE(1,7f,python):2026 [mindspore/x.cc:1] F] foo is deprecated from 2.0\n")
        os.write(2, b"[ERROR] CORE(1,7f,python):2026 [mindspore/x.cc:1] F] Now it broke\n")
        capture.move_to(tmp_path / "train.log")
        devices.log.info("a message of mslab")
    screen = capfd.readouterr().err
    assert screen.splitlines() == [
        "a message of mslab",
        f"2 runtime warnings, the last: Now it broke — {tmp_path}/train.log",
    ]
    assert "a stack line" in (tmp_path / "train.log").read_text()


def test_a_capture_without_output_prints_nothing_and_leaves_no_file(capfd):
    with console.capture_stderr() as capture:
        file = capture.file
    assert capfd.readouterr().err == "" and not file.exists()


def test_ctrl_c_sets_a_flag_also_as_the_sigterm_that_mindspore_makes_of_it():
    import signal

    before = signal.getsignal(signal.SIGINT)  # a background job starts with it ignored
    for number in (signal.SIGINT, signal.SIGTERM):
        with signals.interruptible() as stop_requested:
            assert not stop_requested()
            os.kill(os.getpid(), number)
            assert stop_requested()
    assert signal.getsignal(signal.SIGINT) is before


def test_no_name_controls_the_terminal(tmp_path, squares):
    assert console.escape_control("a\x1b[2Jb\u202e\udcff\nc") == "a\\x1b[2Jb\\u202e\\udcff\nc"
    for name in ("\x1b]0;title\x07red\x1b[31m", "\u202eright to left", "[/bold] [red]"):
        folder = tmp_path / "set" / name
        folder.mkdir(parents=True)
        for image in (squares / "three" / "val" / "a").glob("*.png"):
            (folder / f"{name[-5:]}{image.name}").write_bytes(image.read_bytes())
    done = cli("check", tmp_path / "set")
    text = done.stdout + done.stderr
    assert "\\x1b]0;title" in text and "\\u202eright" in text and "[/bold] [red]" in text
    assert all(c.isprintable() or c == "\n" for c in text)
