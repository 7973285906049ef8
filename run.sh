#!/bin/sh
# One entry to everything: makes .venv on the first call, then runs `mslab "$@"` or the tests. POSIX sh.
#   ./run.sh demo          the whole lab on drawn images
#   ./run.sh test [--all]  the test suite; --all adds the slow ones; what follows goes to pytest
#   ./run.sh test --mutants [NUMBER|WORD …]  breaks mslab in a copy, promise by promise, and says what the tests notice
#   ./run.sh bench NAME …  a benchmark of this project beside others; ./run.sh bench lists them
#   ./run.sh COMMAND …     .venv/bin/mslab COMMAND …
# MSLAB_PYTHON=…     another Python 3.10 to 3.12 than the one found
# MSLAB_MINDSPORE=…  another MindSpore, 2.7.0 to 2.10.0, in a folder of its own (.venv-2.10.0)
# MSLAB_SYSTEM=1     the MindSpore of this machine's Python (an Ascend image's), in .venv-system; it is never replaced
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
venv=$here/.venv${MSLAB_MINDSPORE:+-$MSLAB_MINDSPORE}${MSLAB_SYSTEM:+-system}
note() { printf 'run.sh: %s\n' "$*" >&2; }
fail() {
    printf 'run.sh: %s\n  expected  %s\n  fix       %s\n' "$1" "$2" "$3" >&2
    exit 1
}

supported() { "$1" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' >/dev/null 2>&1; }

find_python() {
    for candidate in ${MSLAB_PYTHON:-python3.11 python3.12 python3.10 python3 python}; do
        if supported "$candidate"; then
            printf '%s' "$candidate"
            return
        fi
    done
    fail "no Python 3.10, 3.11 or 3.12 among: ${MSLAB_PYTHON:-python3.11 python3.12 python3.10 python3 python}" \
        "a Python that MindSpore has wheels for" "install python3.11, or name one: MSLAB_PYTHON=/path/to/python3.11 $0"
}

install() {
    python=$(find_python) || exit 1
    note "making $venv with $("$python" --version 2>&1); downloads about 1 GB, once"
    rm -rf "$venv"
    "$python" -m venv ${MSLAB_SYSTEM:+--system-site-packages} "$venv" ||
        fail "$python cannot make a virtual environment" "the venv module" "on Debian and Ubuntu: apt install python3-venv"
    pins=$venv/constraints.txt
    if [ -n "${MSLAB_SYSTEM:-}" ]; then # what the machine brings stays as it is; only what it lacks is installed
        found=$("$python" -c 'from importlib.metadata import version as v; print(v("mindspore"), v("numpy"))' 2>/dev/null) ||
            fail "$("$python" --version 2>&1) has no MindSpore and NumPy, and MSLAB_SYSTEM says to use them" \
                "a Python with MindSpore 2.7 to 2.10, as Ascend images have it" \
                "name it: MSLAB_PYTHON=/path/to/python3; or leave MSLAB_SYSTEM out"
        note "using this machine's MindSpore ${found% *} and NumPy ${found#* }"
        { grep -v -E '^(mindspore|numpy)==' "$here/constraints.txt"; printf 'mindspore==%s\nnumpy==%s\n' ${found}; } >"$pins"
    elif [ -n "${MSLAB_MINDSPORE:-}" ]; then
        sed "s/^mindspore==.*/mindspore==$MSLAB_MINDSPORE/" "$here/constraints.txt" >"$pins"
    else
        cp "$here/constraints.txt" "$pins"
    fi
    "$venv/bin/python" -m pip install --disable-pip-version-check --quiet -c "$pins" -e "$here[dev]" >&2 ||
        fail "the installation did not finish; pip's message is above" "the package index within reach, 3 GB of disk" \
            "call ./run.sh again; it starts the installation anew"
    printf '%s\n' "$state" >"$venv/installed"
    note "installed $("$venv/bin/python" -m pip --disable-pip-version-check list 2>/dev/null | grep -c .) packages"
}

# what the installation depends on: the pinned versions, the package's own, and the place (a moved .venv is broken)
state="$(cksum <"$here/constraints.txt") $(cksum <"$here/pyproject.toml") $here"
if [ "$(cat "$venv/installed" 2>/dev/null)" != "$state" ]; then
    install
fi

case ${1:-} in
test)
    shift
    cd "$here"
    if [ "${1:-}" = --mutants ]; then
        shift
        exec "$venv/bin/python" tests/mutants.py "$@"
    fi
    quick="not slow"
    if [ "${1:-}" = --all ]; then
        shift
        quick=
    fi
    # a process a core, each on a core of its own (tests/conftest.py); -n 0 runs all in one, for a debugger
    exec "$venv/bin/python" -m pytest -n logical --maxprocesses 4 --dist worksteal ${quick:+-m "$quick"} "$@"
    ;;
bench) # benchmarks/ is beside mslab/ and not installed; files are named from the caller's folder
    shift
    PYTHONPATH="$here${PYTHONPATH:+:$PYTHONPATH}" exec "$venv/bin/python" -m benchmarks "$@"
    ;;
"" | -h | --help)
    sed -n '2,10s/^# \{0,1\}//p' "$0"
    echo
    exec "$venv/bin/mslab" --help
    ;;
*)
    exec "$venv/bin/mslab" "$@"
    ;;
esac
