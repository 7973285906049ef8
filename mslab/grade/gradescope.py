"""`mslab grade --gradescope-package`: the same rubric as an autograder zip for Gradescope.

Names and places are those of gradescope-autograders.readthedocs.io, "Autograder Specifications" and "Submission
Metadata": setup.sh and run_autograder at the zip's root, which is unpacked to /autograder/source; the student's files
in /autograder/submission; /autograder/results/results.json is what it is for.
"""

import os
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

import mslab
from mslab.checkpoint import make_folder, replace_atomically
from mslab.errors import ConfigError, MslabError
from mslab.grade.loading import allow_code, given_file, hidden_sets, load_rubric
from mslab.grade.rubric import Rubric

SCRIPTS = ("setup.sh", "run_autograder")
TEXT = {".py", ".html", ".css", ".js", ".txt", ".toml", ".md", ".yaml", ".yml", ".csv", ".json", ".sh", ""}

SETUP = """\
#!/usr/bin/env bash
# Gradescope runs this once, as root, while it builds the image: mslab, in a Python that MindSpore has wheels for.
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
# Gradescope runs this for each submission. For a trial elsewhere: MSLAB_AUTOGRADER, a folder like /autograder; MSLAB,
# the program. What is printed is for the teacher; students see results.json only.
set -euo pipefail
root=${MSLAB_AUTOGRADER:-/autograder}
mslab=${MSLAB:-$root/mslab/bin/mslab}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

mkdir "$work/in"
shopt -s nullglob
files=("$root"/submission/*)
if [ ${#files[@]} = 1 ] && [[ -f ${files[0]} && ${files[0],,} =~ \\.(zip|tar|tgz|tar\\.gz|tar\\.bz2|tar\\.xz)$ ]]; then
    cp -P "${files[0]}" "$work/in/submission.${BASH_REMATCH[1]}"
else
    cp -RP "$root/submission" "$work/in/submission" # links stay links: mslab does not follow them
fi

times=()
if [ -f "$root/submission_metadata.json" ]; then
    "$(dirname "$mslab")/python" - "$root/submission_metadata.json" >"$work/times.csv" <<'END'
import csv, json, sys
told = json.load(open(sys.argv[1], encoding="utf-8"))
attempt = len(told.get("previous_submissions") or []) + 1
csv.writer(sys.stdout).writerows([["id", "submitted", "attempt"], ["submission", told["created_at"], attempt]])
END
    times=(--times "$work/times.csv")
fi

"$mslab" grade "$work/in" --rubric "$root/source/rubric.yaml" --data "$root/source/data" "${times[@]}" \\
    --out "$work/out" --jobs 1
mkdir -p "$root/results"
cp "$work"/out/students/*/results.json "$root/results/results.json"
"""


def package(rubric_file: str | Path, data: str | Path, out: str | Path) -> Path:
    """Write the zip: mslab as it is here, the rubric, its hidden images. Returns its path. Equal input: equal bytes.

    Everything is checked first, as mslab grade does. Raises ConfigError for the rubric and its data, MslabError where
    mslab's own files are not there or the zip cannot be written.
    """
    rubric = load_rubric(rubric_file)
    allow_code(rubric, rubric_file, False)
    hidden_sets(rubric, rubric_file, data)
    files = dict(project_files()) | dict(rubric_files(rubric, Path(rubric_file), Path(data)))
    texts = dict(zip(SCRIPTS, (SETUP, RUN), strict=True))

    def write(temporary: Path) -> None:
        with zipfile.ZipFile(temporary, "w") as archive:
            for name in sorted([*files, *texts]):
                entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
                entry.create_system = 3  # Unix, on Windows too: else the mode is not read
                entry.external_attr = (0o100755 if name in SCRIPTS else 0o100644) << 16
                entry.compress_type = zipfile.ZIP_DEFLATED if Path(name).suffix in TEXT else zipfile.ZIP_STORED
                if name in texts:
                    archive.writestr(entry, texts[name])
                    continue
                entry.file_size = files[name].stat().st_size  # says whether the entry needs ZIP64
                with files[name].open("rb") as source, archive.open(entry, "w") as target:
                    shutil.copyfileobj(source, target, 1 << 20)

    out = Path(out)
    make_folder(out.parent)
    replace_atomically(out, write)
    return out


def project_files() -> Iterator[tuple[str, Path]]:
    """(name in the zip, file) of what setup.sh installs: the project's source and the versions it was measured with."""
    home = Path(mslab.__file__).parent
    root = home.parent
    lacking = [name for name in ("pyproject.toml", "constraints.txt") if not (root / name).is_file()]
    if lacking:
        raise MslabError(
            f"{root} has no {' and no '.join(lacking)}: mslab runs without the folder it was installed from.",
            expected="the project's own folder, whose files go into the zip",
            fix="call it from there: ./run.sh grade … --gradescope-package FILE.zip",
        )
    yield "constraints.txt", root / "constraints.txt"
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        if (root / name).is_file():
            yield f"project/{name}", root / name
    for path in home.rglob("*"):
        if path.is_file() and not any(part.startswith((".", "__pycache__")) for part in path.relative_to(home).parts):
            yield f"project/mslab/{path.relative_to(home).as_posix()}", path


def rubric_files(rubric: Rubric, file: Path, data: Path) -> Iterator[tuple[str, Path]]:
    """(name in the zip, file) of the rubric, the backbone that everybody was given, and the images that it asks for."""
    yield "rubric.yaml", file
    given = given_file(rubric, file)
    if given:
        yield within(rubric.given or "", "given"), given
    for name, network in rubric.networks.items():
        below = within(network.data, f"networks {name}: data")
        place = data / below
        below_it = [Path(folder) / n for folder, _, names in os.walk(place, followlinks=True) for n in names]
        for path in [place] if place.is_file() else below_it:
            yield f"data/{path.relative_to(data).as_posix()}", path


def within(name: str, where: str) -> str:
    """The name, where it stays within its folder: in the zip there is nothing above it."""
    plain = os.path.normpath(name)
    if Path(plain).is_absolute() or Path(plain).parts[:1] == ("..",):
        raise ConfigError(
            f"The rubric's {where} is {name}, which leads out of its folder.",
            expected="a name below --data, or beside the rubric",
            fix="move it there, and write its name as it is then",
        )
    return Path(plain).as_posix()
