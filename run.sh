#!/bin/sh
# One entry to everything: makes .venv on the first call, then runs `mslab "$@"` or the tests. POSIX sh.
#   ./run.sh demo          the whole lab on drawn images
#   ./run.sh test [--all]  the test suite; --all adds the slow ones; what follows goes to pytest
#   ./run.sh test --mutants [NUMBER|WORD …]  breaks mslab in a copy, promise by promise, and reports what the tests notice
#   ./run.sh bench NAME …  a benchmark of this project beside others; ./run.sh bench lists them
#   ./run.sh COMMAND …     .venv/bin/mslab COMMAND …
# If no Python 3.10 to 3.12 is installed, uv on PATH downloads 3.11.
# MSLAB_PYTHON=…     another Python 3.10 to 3.12 than the one found
# MSLAB_MINDSPORE=…  another MindSpore, 2.7.0 to 2.10.0, in a folder of its own (.venv-2.10.0)
# MSLAB_SYSTEM=1     the MindSpore of this machine's Python (an Ascend image's), in .venv-system; it is never replaced
set -eu
# memory in huge pages, where Linux gives them to programs that ask: a training step is 2 to 5 % faster
export GLIBC_TUNABLES="${GLIBC_TUNABLES:-glibc.malloc.hugetlb=1}"

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
names="python3.11 python3.12 python3.10 python3 python"
venv=$here/.venv${MSLAB_MINDSPORE:+-$MSLAB_MINDSPORE}${MSLAB_SYSTEM:+-system}
# print $1 as one word of a shell command, for the commands that messages show
quoted() {
    case $1 in
    *[!A-Za-z0-9_@%+=:,./-]*) printf "'%s'" "$(printf '%s' "$1" | sed "s/'/'\\\\''/g")" ;;
    *) printf '%s' "$1" ;;
    esac
}
self=$(quoted "$0")
note() { printf 'run.sh: %s\n' "$*" >&2; }
fail() {
    printf 'run.sh: %s\n  expected  %s\n  fix       %s\n' "$1" "$2" "$3" >&2
    exit 1
}

supported() { "$1" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' >/dev/null 2>&1; }

# print a Python that fits: MSLAB_PYTHON, or one on PATH; print nothing if there is none
find_python() {
    if [ -n "${MSLAB_PYTHON:-}" ]; then
        ! supported "$MSLAB_PYTHON" || printf '%s' "$MSLAB_PYTHON"
        return
    fi
    for candidate in $names; do
        if supported "$candidate"; then
            printf '%s' "$candidate"
            return
        fi
    done
}

# print uv (https://docs.astral.sh/uv), from PATH or its installer's folder; print nothing if there is none
find_uv() {
    for candidate in uv "${XDG_BIN_HOME:-${HOME:-}/.local/bin}/uv" "${HOME:-}/.cargo/bin/uv"; do
        if "$candidate" --version >/dev/null 2>&1; then
            printf '%s' "$candidate"
            return
        fi
    done
}

# print the ways to get a Python, one a line
ways() {
    printf '\n              %s' "apt, on Debian 12       sudo apt install python3.11 python3.11-venv" \
        "apt, on Ubuntu 24.04    sudo apt install python3.12 python3.12-venv" \
        "apt, on Ubuntu 22.04    sudo apt install python3.10 python3.10-venv" \
        "conda, on any system    conda create -n mslab python=3.11 && conda activate mslab" \
        "one that is elsewhere   MSLAB_PYTHON=/path/to/python3.11 $self"
}

no_python() {
    newest=$(python3 --version 2>/dev/null || true)
    if [ -n "${MSLAB_PYTHON:-}" ]; then
        fail "MSLAB_PYTHON=$MSLAB_PYTHON is not a Python 3.10, 3.11 or 3.12" "a Python that MindSpore has wheels for" \
            "name another, or unset MSLAB_PYTHON: $self then searches for one, or lets uv download one"
    elif [ -n "${MSLAB_SYSTEM:-}" ]; then
        fail "no Python 3.10, 3.11 or 3.12 among: $names; MSLAB_SYSTEM uses the MindSpore of this machine's Python" \
            "a Python with MindSpore 2.7 to 2.10, as Ascend images have it" "name it: MSLAB_PYTHON=/path/to/python3 $self"
    fi
    fail "no Python 3.10, 3.11 or 3.12 here${newest:+ (python3 is $newest)}, and no uv, which can download one" \
        "a Python that MindSpore has wheels for" "one of these, then $self again:
              uv, on any system       curl -LsSf https://astral.sh/uv/install.sh | sh$(ways)"
}

# $1: a Python that fits, or empty for uv's own; $2: uv, or empty
make_environment() {
    rm -rf "$venv"
    if [ -n "$2" ]; then # --seed adds pip, which `mslab data animals` calls
        exact=3.11 # uv searches its own Pythons for it, else it downloads one
        [ -z "$1" ] || exact=$("$1" -c 'import sys; print(sys.executable)')
        "$2" venv --quiet --seed --python "$exact" ${index:+--default-index "$index"} "$venv" >&2 && return
        [ -n "$1" ] || fail "uv could not make an environment with Python 3.11; its message is above" \
            "access to github.com, from which uv downloads Python, and to the package index" "try again, or one of these, then $self again:$(ways)"
        rm -rf "$venv"
    fi
    "$1" -m venv ${MSLAB_SYSTEM:+--system-site-packages} "$venv" ||
        fail "$1 cannot make a virtual environment" "the venv module" "on Debian and Ubuntu: apt install python3-venv"
}

# print the package index of pip's settings, such as a mirror: uv does not read them
find_index() {
    if [ -n "${UV_DEFAULT_INDEX:-}${UV_INDEX_URL:-}" ]; then
        return # uv reads these
    elif [ -n "${PIP_INDEX_URL:-}" ]; then
        printf '%s' "$PIP_INDEX_URL"
    else
        sed -n 's/^[[:space:]]*index[-_]url[[:space:]]*=[[:space:]]*//p' "${PIP_CONFIG_FILE:-/dev/null}" \
            "${XDG_CONFIG_HOME:-${HOME:-}/.config}/pip/pip.conf" "${HOME:-}/.pip/pip.conf" /etc/pip.conf 2>/dev/null |
            sed 1q
    fi
}

# $1: the file of pinned versions; $2: uv, or empty. On a terminal they show what they download; a file or a pipe gets
# nothing between the first line and the last
install_packages() {
    quiet=--quiet
    [ ! -t 2 ] || quiet=
    if [ -n "$2" ]; then
        "$2" pip install $quiet --compile-bytecode --python "$venv/bin/python" ${index:+--default-index "$index"} \
            -c "$1" -e "${here}[dev]" >&2 && return
        note "uv could not install the packages; its message is above. Trying pip"
    fi
    "$venv/bin/python" -m pip install --disable-pip-version-check $quiet -c "$1" -e "${here}[dev]" >&2 ||
        fail "the installation did not finish; pip's message is above" "access to the package index, 3 GB of disk" \
            "run $self again; it restarts the installation"
}

install() {
    python=$(find_python)
    uv=
    [ -n "${MSLAB_SYSTEM:-}" ] || uv=$(find_uv) # uv ignores the machine's MindSpore and would install another
    if [ -z "$python" ] && { [ -z "$uv" ] || [ -n "${MSLAB_PYTHON:-}" ]; }; then
        no_python
    fi
    began=$(date +%s)
    note "making $venv with $(if [ -n "$python" ]; then "$python" --version 2>&1; else echo "uv and Python 3.11"; fi);" \
        "downloads about 1 GB, once (MindSpore is 770 MB of it): one to ten minutes"
    index=$(find_index)
    make_environment "$python" "$uv"
    pins=$venv/constraints.txt
    if [ -n "${MSLAB_SYSTEM:-}" ]; then # the packages of the machine stay; only missing ones are installed
        found=$("$python" -c 'from importlib.metadata import version as v; print(v("mindspore"), v("numpy"))' 2>/dev/null) ||
            fail "$("$python" --version 2>&1) has no MindSpore and NumPy, and MSLAB_SYSTEM requires them" \
                "a Python with MindSpore 2.7 to 2.10, as Ascend images have it" \
                "name it: MSLAB_PYTHON=/path/to/python3; or leave MSLAB_SYSTEM out"
        note "using this machine's MindSpore ${found% *} and NumPy ${found#* }"
        { grep -v -E '^(mindspore|numpy)==' "$here/constraints.txt"; printf 'mindspore==%s\nnumpy==%s\n' "${found% *}" "${found#* }"; } >"$pins"
    elif [ -n "${MSLAB_MINDSPORE:-}" ]; then
        sed "s/^mindspore==.*/mindspore==$MSLAB_MINDSPORE/" "$here/constraints.txt" >"$pins"
    else
        cp "$here/constraints.txt" "$pins"
    fi
    install_packages "$pins" "$uv"
    printf '%s\n' "$state" >"$venv/installed"
    packages=$("$venv/bin/python" -m pip --disable-pip-version-check list --format=freeze 2>/dev/null | grep -c .) || true
    note "installed $packages packages in $(($(date +%s) - began)) s"
}

# what the installation depends on: pinned versions, the package's own and its version, the place (a moved .venv is broken)
state="$(cksum <"$here/constraints.txt") $(cksum <"$here/pyproject.toml") $(grep '^__version__' "$here/mslab/__init__.py") $here"
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
bench) # benchmarks/ is not installed; file names are relative to the caller's folder
    shift
    PYTHONPATH="$here${PYTHONPATH:+:$PYTHONPATH}" exec "$venv/bin/python" -m benchmarks "$@"
    ;;
"" | -h | --help)
    sed -n '2,11s/^# \{0,1\}//p' "$0"
    echo
    exec "$venv/bin/mslab" --help
    ;;
*)
    exec "$venv/bin/mslab" "$@"
    ;;
esac
