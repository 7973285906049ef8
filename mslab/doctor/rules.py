"""Rules about a machine. Each is a function of the facts that yields verdicts; to add one, add it to RULES."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mslab.config.language import translated
from mslab.doctor import zh
from mslab.doctor.facts import MachineFacts
from mslab.doctor.timing import PRODUCTS
from mslab.escaping import pip_install, quoted
from mslab.runtime import cuda, devices, importing, versions

GIB = 2**30
# Normally a convolution takes 1 to 2 times as long as its matrix product, and a training step 1 to 2 times as long as
# its five. On oneDNN's scalar reference kernel they take over 100 times as long. Ten is far from both.
CRAWLS = 10
SAFE_ISAS = ("SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2")  # values of ONEDNN_MAX_CPU_ISA without AVX-512
MACHINE_CODE, PTX = ("6.0", "6.1", "7.0", "7.5", "8.0"), ("6.0", "8.6")  # capabilities in libcuda_ops.so.11, 2.8.0
OLDEST_DRIVER = (450, 80)  # NVIDIA's, for programs of CUDA 11
TOOLKIT = "source /usr/local/Ascend/ascend-toolkit/set_env.sh"


@dataclass(frozen=True)
class Verdict:
    """One line of the report, with its fix."""

    level: str  # "error": training on the chosen device fails or crawls; "warning"; "ok"
    name: str
    text: str
    expected: str = ""
    fix: str = ""

    def shown(self, lang: str = "") -> "Verdict":
        """The verdict as it is shown to a person: in their language, or in `lang`."""
        texts = (
            translated(text, zh.TEXTS.get(self.name, {}), lang=lang) for text in (self.text, self.expected, self.fix)
        )
        return Verdict(self.level, self.name, *texts)


def python(facts: MachineFacts) -> Iterator[Verdict]:
    supported = (3, 10) <= versions.release(facts.python)[:2] <= (3, 12)
    fix = "" if supported else "make the environment with python3.11"
    yield Verdict("ok" if supported else "error", "Python", facts.python, "" if supported else "3.10 to 3.12", fix)


def mindspore(facts: MachineFacts) -> Iterator[Verdict]:
    expected, fix = "2.7 to 2.10; mslab is measured with 2.8.0", pip_install("mindspore==2.8.0")
    if not facts.mindspore:
        yield Verdict("error", "MindSpore", "is not installed", expected, fix)
    elif not (2, 7) <= versions.release(facts.mindspore)[:2] <= (2, 10):
        yield Verdict("error", "MindSpore", f"{facts.mindspore}: mslab does not support it", expected, fix)
    else:
        yield Verdict("ok", "MindSpore", facts.mindspore)
    if facts.import_problem[0]:
        yield Verdict("error", "MindSpore", *facts.import_problem)
    mixed = importing.two_packages(facts.packages)
    if mixed[0]:
        yield Verdict("error" if facts.import_problem[0] else "warning", "MindSpore", *mixed)


def numpy(facts: MachineFacts) -> Iterator[Verdict]:
    if versions.release(facts.numpy) >= (2,):
        text = f"{facts.numpy}: MindSpore crashes at its first addition with it, although its metadata allows it"
        yield Verdict("error", "NumPy", text, "1.x", pip_install("numpy<2"))
    else:
        yield Verdict("ok", "NumPy", facts.numpy)


def engines(facts: MachineFacts) -> Iterator[Verdict]:
    """What runs trained networks for predict, report, suspects, grade and the features of a frozen backbone."""
    needed = {"onnx": "onnx<1.18", "onnxruntime": "onnxruntime"}
    if missing := [name for name in needed if not facts.engines.get(name)]:
        text = f"{' and '.join(missing)} missing: predictions run on MindSpore, at half the speed or less"
        yield Verdict("warning", "engine", text, "onnx and onnxruntime", pip_install(*(needed[n] for n in missing)))
    else:
        yield Verdict("ok", "engine", f"onnxruntime {facts.engines['onnxruntime']}")
    if version := facts.engines.get("openvino"):
        bf16 = {"avx512_bf16", "amx_bf16"} & set(facts.flags.split())
        yield Verdict("ok", "engine", f"openvino {version}, {'with' if bf16 else 'without'} precision: bf16")


def own_files(facts: MachineFacts) -> Iterator[Verdict]:
    for file in facts.hiding:
        text = f"{file} hides the Python module {Path(file).stem}"
        yield Verdict("warning", "files", text, "no module's name", f"rename {quoted(Path(file))}")


def device(facts: MachineFacts) -> Iterator[Verdict]:
    yield Verdict("ok", "device", f"{facts.device}: chosen by device: auto")
    for name, reason in facts.refused.items():
        driver = not reason.startswith(devices.NO_DRIVER)
        yield Verdict("warning" if driver else "ok", name, f"not chosen: {reason}")


def gpu_libraries(facts: MachineFacts) -> Iterator[Verdict]:
    if not facts.gpu_driver:
        return
    home = facts.environ.get("CUDA_HOME", "")
    text, fix = cuda.gpu_problem(facts.libraries, facts.cuda_release, home)
    expected = f"CUDA {cuda.ACCEPTED} with cuDNN 8, for MindSpore {facts.mindspore}"
    missing = [f"{library.soname} of {library.package}" for library in facts.libraries if not library.location]
    if text:
        text = "\n  ".join([text, *missing])
        yield Verdict("error" if facts.device == "gpu" else "warning", "CUDA", text, expected, fix)
    else:
        yield Verdict("ok", "CUDA", f"{facts.cuda_release} in {home}, all libraries present")
    for file in facts.foreign_cuda:
        text = f"{file} is found before the one of CUDA 11, which MindSpore's GPU plugin needs"
        yield Verdict("warning", "CUDA", text, "libnvrtc.so.11.2", "take its folder out of LD_LIBRARY_PATH")


def gpu_kernels(facts: MachineFacts) -> Iterator[Verdict]:
    if facts.gpu_driver and not facts.gpus:
        yield Verdict("ok", "GPU", "there is a driver, but nvidia-smi lists no GPU")
    for gpu in facts.gpus:
        level = "error" if facts.device == "gpu" else "warning"
        capability = gpu["capability"]
        title = f"{gpu['name']}, driver {gpu['driver']}, compute capability {capability}"
        number = versions.release(capability)
        if versions.release(gpu["driver"]) < OLDEST_DRIVER:
            yield Verdict(level, "driver", title, "driver 450.80 or later", "update the NVIDIA driver")
        elif capability in MACHINE_CODE:
            yield Verdict("ok", "GPU", f"{title}: MindSpore has machine code for it")
        elif not number or number < versions.release(PTX[0]):
            expected = f"{PTX[0]} or later: there is machine code for {', '.join(MACHINE_CODE)}, PTX for newer ones"
            yield Verdict(level, "GPU", f"{title}: MindSpore has no kernels for it", expected, "device: cpu")
        else:
            text = f"{title}: MindSpore has no machine code for it; its driver compiles the kernels' PTX"
            fix = "wait at the first start, which can take minutes; later starts are fast"
            yield Verdict("warning", "GPU", text, f"{', '.join(MACHINE_CODE)} to start at once", fix)


def ascend(facts: MachineFacts) -> Iterator[Verdict]:
    if not facts.ascend_driver or not facts.cann_accepted:  # without MindSpore, which another rule reports
        return
    expected = f"CANN {', '.join(facts.cann_accepted)} with MindSpore {facts.mindspore}"
    level = "error" if facts.device == "ascend" else "warning"
    driver = "" if facts.ascend_driver == "?" else f" (driver {facts.ascend_driver})"
    if not facts.cann:
        yield Verdict(level, "CANN", f"none found{driver}", expected, f"install CANN; {TOOLKIT}")
    elif facts.cann not in facts.cann_accepted:
        text = f"{facts.cann}{driver}: this MindSpore does not support it, and only warns"
        yield Verdict(level, "CANN", text, expected, f"install CANN {facts.cann_accepted[-1]}, or the MindSpore for it")
    elif "ASCEND_HOME_PATH" not in facts.environ:
        text = f"{facts.cann}{driver}, but its variables are not set"
        yield Verdict(level, "CANN", text, "ASCEND_HOME_PATH", TOOLKIT)
    else:
        yield Verdict("ok", "CANN", f"{facts.cann}{driver}")


def processor(facts: MachineFacts) -> Iterator[Verdict]:
    wide = "avx512" in facts.flags
    sets = {"avx512": "AVX-512", "avx2": "AVX2", "avx": "AVX"}
    widest = next((name for flag, name in sets.items() if flag in facts.flags), "")
    text = ", ".join(part for part in (facts.cpu, widest) if part)
    isa = facts.environ.get("ONEDNN_MAX_CPU_ISA", "")
    if not wide or versions.release(facts.mindspore) < (2, 9):
        yield Verdict("ok", "CPU", f"{text}; this MindSpore's convolutions are fast on it")
    elif isa.upper() in SAFE_ISAS:
        yield Verdict("ok", "CPU", f"{text}; ONEDNN_MAX_CPU_ISA={isa}, without which convolutions crawl")
    else:
        state = f"ONEDNN_MAX_CPU_ISA={isa}" if isa else "ONEDNN_MAX_CPU_ISA is not set"
        text = f"{text}; {state}: MindSpore {facts.mindspore}'s convolutions run 100 times slower"
        level = "error" if facts.device == "cpu" else "warning"
        yield Verdict(level, "CPU", text, "ONEDNN_MAX_CPU_ISA=AVX2", "unset ONEDNN_MAX_CPU_ISA; mslab then sets it")


def batch_norm(facts: MachineFacts) -> Iterator[Verdict]:
    """The compiled BatchNorm, for training on a CPU."""
    problem, fix = facts.not_compiled
    if problem:
        text = f"{problem}: training on the CPU takes some 20 % longer, with MindSpore's operators"
        expected = "a C compiler" if fix else ""
        yield Verdict("warning" if fix and facts.device == "cpu" else "ok", "compiler", text, expected, fix)
    else:
        yield Verdict("ok", "compiler", "BatchNorm is compiled for this CPU")


def core_count(facts: MachineFacts) -> Iterator[Verdict]:
    if facts.cores > 1:
        yield Verdict("ok", "cores", f"{facts.cores} usable")
    else:
        text = "1 usable: loading images and training take turns"
        yield Verdict("warning", "cores", text, "2 or more", "allow more (taskset, the container's or the job's limit)")


def memory(facts: MachineFacts) -> Iterator[Verdict]:
    text = f"{facts.memory / GIB:.1f} GiB available"
    expected = "1.5 GiB for ResNet-50 at 64 px, 5 GiB for batches of 32 at 224 px"  # 1.4 and 4.1 were measured
    if not facts.memory:
        yield Verdict("ok", "memory", "this system does not report how much there is")
    elif facts.memory < 1.5 * GIB:
        fix = "close other programs, or raise the container's limit"
        yield Verdict("error", "memory", f"{text}: training stops when it runs out", expected, fix)
    elif facts.memory < 5 * GIB:
        fix = "lower batch_size or image_size if training runs out of memory"
        yield Verdict("warning", "memory", f"{text}: enough for small images only", expected, fix)
    else:
        yield Verdict("ok", "memory", text)


def runs_folder(facts: MachineFacts) -> Iterator[Verdict]:
    free, reason = facts.free[facts.here], facts.unwritable.get(facts.here, "")
    text = f"{facts.here}: {free / GIB:.1f} GiB free"
    expected = "2 GiB; a ResNet-50 run stores 0.4 to 0.5 GiB and writes 0.3 GiB more beside it"
    fix = "make room, or train in a folder with more"
    if reason:
        yield Verdict("error", "runs", f"{facts.here}: {reason}", "a folder to write runs/ in", "use your own folder")
    elif free < 0.8 * GIB:
        yield Verdict("error", "runs", f"{text}: a run's checkpoints do not fit", expected, fix)
    elif free < 2 * GIB:
        yield Verdict("warning", "runs", f"{text}: few runs fit", expected, fix)
    else:
        yield Verdict("ok", "runs", text)


def cache_folder(facts: MachineFacts) -> Iterator[Verdict]:
    free, reason = facts.free[facts.cache], facts.unwritable.get(facts.cache, "")
    lost = "check results and features are not cached, so each run computes them again"
    fix = "XDG_CACHE_HOME=/a/folder/of/yours"
    if reason:
        yield Verdict("warning", "cache", f"{facts.cache}: {reason}; {lost}", "a folder that can be written", fix)
    elif free < GIB:
        text = f"{facts.cache}: {free / GIB:.1f} GiB free; when it is full, {lost}"
        yield Verdict("warning", "cache", text, "1 GiB", f"make room, or {fix}")
    else:
        yield Verdict("ok", "cache", f"{facts.cache}: {free / GIB:.1f} GiB free")


def weights_folder(facts: MachineFacts) -> Iterator[Verdict]:
    count, size = facts.weights_here
    if facts.weights_problem:
        text = f"{facts.weights}: {facts.weights_problem}; mslab makes it when it fetches weights"
        yield Verdict(
            "warning", "weights", text, "the folder with published weights", "MSLAB_WEIGHTS=/a/folder/of/yours"
        )
    elif facts.weights:
        text = f"{facts.weights}: {count} files of published weights, {size / GIB:.2f} GiB"
        yield Verdict("ok", "weights", text)


def speed(facts: MachineFacts) -> Iterator[Verdict]:
    if facts.trouble:
        fix = f"{quoted(Path(sys.executable))} -m mslab.doctor.timing {facts.device} shows MindSpore's complete output"
        yield Verdict("error", "speed", f"a small training step: {facts.trouble}", "a step in seconds", fix)
    for name, products in PRODUCTS.items() if facts.speed else ():
        seconds, bare = facts.speed[name], products * facts.speed["product"]
        text = f"{name}: {1000 * seconds:.0f} ms; its matrix products take NumPy {1000 * bare:.0f} ms"
        if seconds > CRAWLS * bare:
            fix = f"{pip_install('mindspore==2.8.0', 'numpy<2')}; close other programs, and try again"
            yield Verdict("error", "speed", f"{text}: it crawls", f"at most {1000 * CRAWLS * bare:.0f} ms here", fix)
        else:
            yield Verdict("ok", "speed", text)


RULES = [python, mindspore, numpy, engines, own_files, device, gpu_libraries, gpu_kernels, ascend]
RULES += [processor, batch_norm, core_count, memory, runs_folder, cache_folder, weights_folder, speed]


def judge(facts: MachineFacts) -> list[Verdict]:
    return [finding for rule in RULES for finding in rule(facts)]
