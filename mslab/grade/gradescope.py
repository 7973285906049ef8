"""`mslab grade --gradescope-package`: the rubric as an autograder zip for Gradescope.

Names and paths follow gradescope-autograders.readthedocs.io, "Autograder Specifications" and "Submission
Metadata": setup.sh and run_autograder at the zip's root, which is unpacked to /autograder/source; the student's files
in /autograder/submission; the result is /autograder/results/results.json.
"""

import os
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import mslab
from mslab.errors import ConfigError, MslabError
from mslab.files import make_folder, open_regular, replace_atomically
from mslab.grade.loading import allow_code, given_file, hidden_sets, load_rubric
from mslab.grade.rubric import Rubric

SCRIPTS = ("setup.sh", "run_autograder")
TEXT = {".py", ".html", ".css", ".js", ".txt", ".toml", ".md", ".yaml", ".yml", ".csv", ".json", ".sh", ""}

SETUP = """\
#!/usr/bin/env bash
# Gradescope runs this once, as root, while it builds the image. It installs mslab in a Python that MindSpore supports.
set -euo pipefail
root=${MSLAB_AUTOGRADER:-/autograder}

find_python() {
    for candidate in python3.11 python3.12 python3.10 python3; do
        if "$candidate" -c 'import ensurepip, sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))'; then
            echo "$candidate"
            return
        fi
    done 2>/dev/null
    return 1
}

if ! python=$(find_python); then
    apt-get update
    apt-get install -y python3 python3-venv
    python=$(find_python) || { echo "no Python 3.10 to 3.12: choose an image of Ubuntu 22.04 or 24.04" >&2; exit 1; }
fi
"$python" -m venv "$root/mslab"
"$root/mslab/bin/python" -m pip install --no-cache-dir -c "$root/source/constraints.txt" "$root/source/project"
"$root/mslab/bin/mslab" grade --help >/dev/null
"""

RUN = """\
#!/usr/bin/env bash
# Gradescope runs this for each submission. To try it elsewhere, set MSLAB_AUTOGRADER to a folder like /autograder and
# MSLAB to the program. The teacher sees what is printed; students see only results.json, which is there from the start:
# a container that runs out of memory or time may kill anything at any moment.
set -uo pipefail
root=${MSLAB_AUTOGRADER:-/autograder}
mslab=${MSLAB:-$root/mslab/bin/mslab}
larger='The container is probably too small: in Autograder Settings choose at least 1 CPU and 1.5 GB.'

results() { # the reason why there are no points
    mkdir -p "$root/results"
    printf '{"score": 0, "output": "%s", "output_format": "text", "visibility": "visible", "tests": []}\\n' \\
        "The autograder did not finish: $1 Nothing was graded. Please tell your teacher." >"$root/results/.new.json"
    mv "$root/results/.new.json" "$root/results/results.json"
}
fail() {
    results "$1"
    echo "$1" >&2
    exit 1
}

stopped="it was stopped by a signal, as happens when the time is over. $larger"
results "it was stopped from outside. $larger"
trap 'fail "$stopped"' TERM INT HUP
[ -x "$mslab" ] || fail "mslab is not installed in this image: setup.sh failed. Its output is in the build log."
work=$(mktemp -d) && mkdir "$work/in" || fail "the disk of the container is full."
trap 'rm -rf "$work"' EXIT

shopt -s nullglob
files=("$root"/submission/*)
if [ ${#files[@]} = 1 ] && [[ -f ${files[0]} && ${files[0],,} =~ \\.(zip|tar|tgz|tar\\.gz|tar\\.bz2|tar\\.xz)$ ]]; then
    cp -P "${files[0]}" "$work/in/submission.${BASH_REMATCH[1]}"
else
    cp -RP "$root/submission" "$work/in/submission" # copies links as links: mslab does not follow them
fi || fail "the submission cannot be copied: the disk of the container may be full."

times=()
if [ -f "$root/submission_metadata.json" ]; then
    "$(dirname "$mslab")/python" - "$root/submission_metadata.json" >"$work/times.csv" <<'END' ||
import csv, json, sys
metadata = json.load(open(sys.argv[1], encoding="utf-8"))
attempt = len(metadata.get("previous_submissions") or []) + 1
rows = [["id", "submitted", "attempt"], ["submission", metadata["created_at"], attempt]]
own = [(user.get("assignment") or {}).get("due_date") for user in metadata.get("users") or []]
if any(own) and max(filter(None, own)) != metadata["assignment"].get("due_date"):
    rows = [rows[0] + ["due"], rows[1] + [max(filter(None, own))]]  # this student's extension
csv.writer(sys.stdout).writerows(rows)
END
        fail "submission_metadata.json cannot be read."
    times=(--times "$work/times.csv")
fi

# in the background: a trap runs only between commands, and a signal has to reach the grader
"$mslab" grade "$work/in" --rubric "$root/source/rubric.yaml" --data "$root/source/data" "${times[@]}" \\
    --out "$work/out" --jobs 1 &
grader=$!
trap 'kill $grader 2>/dev/null; fail "$stopped"' TERM INT HUP
wait $grader
status=$?
[ $status -le 128 ] || fail "signal $((status - 128)) killed the grader, as happens when memory runs out. $larger"
[ $status = 0 ] || fail "the grader ended with exit code $status; the teacher sees its message."
cp "$work"/out/students/*/results.json "$root/results/.new.json" || fail "the grader wrote no results."
mv "$root/results/.new.json" "$root/results/results.json"
"""


def package(rubric_file: str | Path, data: str | Path, out: str | Path) -> Path:
    """Write the zip: this mslab, the rubric, its hidden images. Returns its path. Equal input gives equal bytes.

    Rubric and data are checked first, as in mslab grade. Raises ConfigError for problems in them, MslabError if mslab's
    own files are missing or the zip cannot be written.
    """
    rubric = load_rubric(rubric_file)
    allow_code(rubric, rubric_file, False)
    hidden_sets(rubric, rubric_file, data)
    files = dict(project_files()) | dict(rubric_files(rubric, Path(rubric_file), Path(data)))
    texts = dict(zip(SCRIPTS, (SETUP, RUN), strict=True))

    def write(file: IO[bytes]) -> None:
        with zipfile.ZipFile(file, "w") as archive:
            for name in sorted([*files, *texts]):
                entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
                entry.create_system = 3  # Unix, on Windows too: otherwise the mode is ignored
                entry.external_attr = (0o100755 if name in SCRIPTS else 0o100644) << 16
                entry.compress_type = zipfile.ZIP_DEFLATED if Path(name).suffix in TEXT else zipfile.ZIP_STORED
                if name in texts:
                    archive.writestr(entry, texts[name])
                    continue
                entry.file_size = files[name].stat().st_size  # decides whether the entry needs ZIP64
                with open_regular(files[name]) as source, archive.open(entry, "w") as target:
                    shutil.copyfileobj(source, target, 1 << 20)

    out = Path(out)
    make_folder(out.parent)
    replace_atomically(out, write)
    return out


def project_files() -> Iterator[tuple[str, Path]]:
    """(name in the zip, file) for what setup.sh installs: the project's source and the tested versions."""
    home = Path(mslab.__file__).parent
    root = home.parent
    missing = [name for name in ("pyproject.toml", "constraints.txt") if not (root / name).is_file()]
    if missing:
        raise MslabError(
            f"{root} has no {' and no '.join(missing)}: mslab runs without its source folder.",
            expected="the project folder, whose files go into the zip",
            fix="run it from there: ./run.sh grade … --gradescope-package FILE.zip",
        )
    yield "constraints.txt", root / "constraints.txt"
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        if (root / name).is_file():
            yield f"project/{name}", root / name
    for path in home.rglob("*"):
        if path.is_file() and not any(part.startswith((".", "__pycache__")) for part in path.relative_to(home).parts):
            yield f"project/mslab/{path.relative_to(home).as_posix()}", path


def rubric_files(rubric: Rubric, file: Path, data: Path) -> Iterator[tuple[str, Path]]:
    """(name in the zip, file) for the rubric, the backbone that every student received, and the hidden images."""
    yield "rubric.yaml", file
    backbone = given_file(rubric, file)
    if backbone:
        yield path_inside(rubric.given or "", "given"), backbone
    for name, network in rubric.networks.items():
        below = path_inside(network.data, f"networks {name}: data")
        source = data / below
        files = [Path(folder) / n for folder, _, names in os.walk(source, followlinks=True) for n in names]
        for path in [source] if source.is_file() else files:
            yield f"data/{path.relative_to(data).as_posix()}", path


def path_inside(name: str, setting: str) -> str:
    """Return the name normalised. Raises ConfigError if it leads out of its folder, which the zip does not have."""
    plain = os.path.normpath(name)
    if Path(plain).is_absolute() or Path(plain).parts[:1] == ("..",):
        raise ConfigError(
            f"The rubric's {setting} is {name}, which is outside its folder.",
            expected="a path below --data, or in the rubric's folder",
            fix="move the file there and correct its path in the rubric",
        )
    return Path(plain).as_posix()
