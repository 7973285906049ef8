"""Results with the machine and versions behind them: benchmarks/results/NAME-MACHINE.json, and the tables of PAGES.

`--record` of a benchmark writes such a file; `./run.sh bench table --write` makes the pages' tables from all of them.
"""

import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import mslab
from mslab import files
from mslab.errors import MslabError
from mslab.escaping import quoted
from mslab.runs import manifest
from mslab.runtime import versions

FOLDER = Path(__file__).with_name("results")
PAGES = [Path(__file__).parents[1] / "docs" / name for name in ("speed.md", "serve.md", "tasks.md")]
BLOCK = re.compile(r"(?s)(<!-- bench table (\w+) -->\n).*?(<!-- end -->)")
UNITS = {  # flag of /proc/cpuinfo -> what is said of it
    "avx2": "AVX2",
    "avx512f": "AVX-512",
    "avx512_bf16": "AVX-512 BF16",
    "amx_bf16": "AMX",
}
Result = Mapping[str, Any]


def units() -> list[str]:
    """The units of this CPU that matter to a network's speed, the simplest first."""
    flags = versions.first_group(r"flags\s*: (.*)", versions.read_text(Path("/proc/cpuinfo"))).split()
    return [name for flag, name in UNITS.items() if flag in flags]


def bfloat16_unit() -> str:
    """The unit of this CPU that multiplies bfloat16, or ""."""
    return next((name for name in ("AMX", "AVX-512 BF16") if name in units()), "")


def machine() -> dict[str, Any]:
    """This machine: cpu, units, cores, memory_gib."""
    cpu = manifest.environment()["cpu"]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {"cpu": cpu["model"].strip(), "units": units(), "cores": cpu["cores"], "memory_gib": round(memory)}


def described(of: Mapping[str, Any]) -> str:
    """A machine in words: its CPU, cores, best unit and memory."""
    units = ", ".join(of["units"][-2:]) or "no AVX2"
    return f"{of['cores']} cores of an {of['cpu']} with {units}, {of['memory_gib']} GiB"


def command_line(words: Sequence[str]) -> str:
    """The command that was given, with paths for others: runs/…, and of an absolute path its last three names."""
    # command_line(["run.sh", "bench", "x", "/home/me/peers/bin/python"]) -> "./run.sh bench x peers/bin/python"
    shown = [re.sub(r"^(\S*/)?runs/\S+", "runs/…", word) for word in words[2:]]
    shown = [str(Path(*Path(word).parts[-3:])) if word.startswith("/") else word for word in shown]
    return " ".join(["./run.sh bench", *(word if word == "runs/…" else quoted(word) for word in shown)])


def record(name: str, rows: Sequence[Result], used: Mapping[str, str]) -> Path:
    """Write a result to FOLDER. `name`: of the benchmark and what distinguishes it; `used`: versions of others."""
    here = machine()
    own = {"mslab": mslab.__version__, "mindspore": versions.version("mindspore")}
    content = {
        "name": name,
        "date": date.today().isoformat(),
        "command": command_line(sys.argv),
        "machine": here,
        "versions": own | {"python": manifest.environment()["python"]} | dict(sorted(used.items())),
        "rows": list(rows),
    }
    unit = "".join(here["units"][-1:])  # processors of one name differ in it
    place = re.sub(r"[^a-z0-9]+", "-", f"{here['cpu']} {unit} {here['cores']} cores".lower()).strip("-")
    FOLDER.mkdir(exist_ok=True)
    file = FOLDER / f"{name}-{place}.json"
    files.write_text(file, files.json_text(content))
    return file


def read_all(folder: Path = FOLDER) -> list[dict[str, Any]]:
    """All results, by name and machine."""
    return [files.read_json(file) for file in sorted(folder.glob("*.json"))]


def tables(results: Sequence[Result]) -> dict[str, str]:
    """The text of each block of the pages: for every machine the tables of this benchmark's results."""
    texts = {}
    for name, render in RENDERERS.items():
        own = [result for result in results if result["name"].partition("-")[0] == name]
        machines = dict.fromkeys(described(result["machine"]) for result in own)
        parts = [render([result for result in own if described(result["machine"]) == each]) for each in machines]
        texts[name] = "\n\n".join(parts) or "No result is recorded yet."
    return texts


def fill(page: str, results: Sequence[Result]) -> str:
    """The page with its blocks made anew. Raises MslabError for a block that no benchmark fills."""
    texts = tables(results)

    def block(match: re.Match[str]) -> str:
        if match[2] not in texts:
            raise MslabError(
                f"A page has a block 'bench table {match[2]}'.",
                expected=f"one of {', '.join(texts)}",
                fix="correct its name; the block begins with <!-- bench table NAME --> and ends with <!-- end -->",
            )
        return f"{match[1]}\n{texts[match[2]]}\n\n{match[3]}"

    return BLOCK.sub(block, page)


def markdown(names: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [names, ["---"] * len(names), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def heading(results: Sequence[Result]) -> str:
    """Where the figures come from: machine, date, versions, commands."""
    dates = sorted({result["date"] for result in results})
    used: dict[str, str] = {}
    for result in results:
        used |= result["versions"]
    listed = ", ".join(f"{name} {version}" for name, version in used.items())
    commands = "\n".join(f"    {result['command']}" for result in results)
    return f"{described(results[0]['machine'])}; {' and '.join(dates)}; {listed}:\n\n{commands}"


def speed_table(results: Sequence[Result]) -> str:
    """Ratios and images/s, a column for each kind and size; then start, first step and memory."""
    rows = [row for result in results for row in result["rows"]]
    columns = sorted({(row["job"] == "infer", row["size"], row["batch"]) for row in rows})
    words = {False: "training", True: "inference"}
    names = ["ratio to PyTorch (images/s)", *(f"{words[infer]}, {size} px, batch {b}" for infer, size, b in columns)]
    cells = {(row["contender"], row["job"] == "infer", row["size"], row["batch"]): row for row in rows}
    contenders = list(dict.fromkeys(row["contender"] for row in rows))

    def line(name: str, cell: Callable[[Result], str]) -> list[str]:
        return [name, *(cell(cells[key]) if (key := (name, *column)) in cells else "" for column in columns)]

    speeds = [line(name, speed_cell) for name in contenders]
    costs = [
        line(name, lambda row: f"{row['startup_s']:.1f} / {row['compile_s']:.1f} / {row['peak_mib']:.0f}")
        for name in contenders
    ]
    second = ["start, s / first step minus a later one, s / MiB", *names[1:]]
    return "\n\n".join([heading(results), markdown(names, speeds), markdown(second, costs)])


def speed_cell(row: Result) -> str:
    figures = f"({row['images_per_s']:.1f}; {row['least']:.1f}–{row['most']:.1f})"
    ratio = f"{row['ratio']:.2f}× " if row["ratio"] else ""
    return f"**{ratio.strip()}** {figures}" if ratio and row["contender"].startswith("mslab") else ratio + figures


def loop_table(results: Sequence[Result]) -> str:
    """Loop beside bare step, and the milliseconds of a step in the loop by part."""
    rows = [row for result in results for row in result["rows"]]
    parts = list(rows[0]["parts_ms"])
    names = ["px, batch, optimizer", "ratio", "loop, images/s", "bare step, images/s", "bare step, ms", *parts]
    lines = [
        [
            f"{row['size']}, {row['batch']}, {row['optimizer']}",
            f"**{row['ratio']:.2f}×**",
            *(f"{row[side]['images_per_s']:.1f} ({row[side]['least']:.1f}–{row[side]['most']:.1f})" for side in SIDES),
            f"{row['bare_ms']:.1f}",
            *(f"{row['parts_ms'][part]:.2f}" for part in parts),
        ]
        for row in rows
    ]
    return f"{heading(results)}\n\n{markdown(names, lines)}"


SIDES = ("loop", "bare")


def answer_table(results: Sequence[Result]) -> str:
    """Seconds of whole processes until the target, by job."""
    rows = [row for result in results for row in result["rows"]]
    names = [
        "",
        "mslab, s",
        "PyTorch, s",
        "ratio",
        "mslab's accuracy after, s",
        "mslab: epochs, val_acc",
        "PyTorch: epochs, val_acc",
        "reached",
    ]
    lines = []
    for row in rows:
        sides = [row["mslab"], row["PyTorch"]]
        seconds = [f"{side['seconds']:.1f} ({side['least']:.1f}–{side['most']:.1f})" for side in sides]
        figures = [f"{side['epochs']:g}, {side['val_acc']:.3f}" for side in sides]
        reached = ", ".join(f"{side['reached']} of {side['runs']}" for side in sides)
        ratio = f"**{row['ratio']:.2f}×**" if row["ratio"] else "–"
        lines.append([row["job"], *seconds, ratio, f"{row['mslab']['said']:.1f}", *figures, reached])
    return f"{heading(results)}\n\n{markdown(names, lines)}"


def serve_table(results: Sequence[Result]) -> str:
    """Images a second, latencies and what went wrong, by image size and number of clients."""
    names = ["px, clients", "images/s", "p50, ms", "p95, ms", "p99, ms", "answered", "refused", "lost", "mixed up"]
    lines = [
        [
            f"{row['size']}, {row['clients']}",
            f"{row['images_per_s']:.1f}",
            *(f"{row[key]:.0f}" for key in ("p50_ms", "p95_ms", "p99_ms")),
            *(str(row[key]) for key in ("answered", "refused", "lost", "mixed_up")),
        ]
        for result in results
        for row in result["rows"]
    ]
    return f"{heading(results)}\n\n{markdown(names, lines)}"


def tasks_table(results: Sequence[Result]) -> str:
    """The measure of each task on test images, by way."""
    from benchmarks import tasks

    return f"{heading(results)}\n\n{tasks.table([row for result in results for row in result['rows']])}"


RENDERERS: dict[str, Callable[[Sequence[Result]], str]] = {
    "train": speed_table,
    "loop": loop_table,
    "answer": answer_table,
    "serve": serve_table,
    "tasks": tasks_table,
}
