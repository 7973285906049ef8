"""The Dockerfile, as far as it can be read without docker: what it copies is there, and what it starts is a command."""

import fnmatch
import json
import re
import shlex

from helpers import PROJECT, cli

from mslab.inference.serve import server

TEXT = re.sub(r"\\\n\s*", "", (PROJECT / "Dockerfile").read_text(encoding="utf-8"))
STEPS = [line.split(maxsplit=1) for line in TEXT.splitlines() if line and not line.startswith("#")]


def arguments(name: str) -> list[str]:
    return [rest for step, rest in STEPS if step == name]


def test_what_is_copied_is_there_and_not_ignored_and_all_that_the_package_needs():
    ignored = (PROJECT / ".dockerignore").read_text().split("\n")
    kept = [line[1:] for line in ignored if line.startswith("!")]
    copied = [source for rest in arguments("COPY") for source in shlex.split(rest)[:-1]]
    for source in copied:
        assert (PROJECT / source).exists() and any(fnmatch.fnmatch(source.split("/")[0], name) for name in kept), source
    assert set(kept) == {source.split("/")[0] for source in copied}
    assert {"pyproject.toml", "setup.py", "README.md", "LICENSE", "constraints.txt", "mslab"} <= set(copied)


def test_it_starts_serve_for_everybody_who_reaches_the_port_as_nobody_in_particular():
    entry, command = json.loads(arguments("ENTRYPOINT")[0]), json.loads(arguments("CMD")[0])
    assert entry[0] == "mslab" and arguments("USER") == ["mslab"] and "0.0.0.0" in entry
    done = cli(*entry[1:], *command)
    assert done.returncode == 1 and "/network.ckpt" in done.stderr.splitlines()[0], done.stderr
    (health,) = arguments("HEALTHCHECK")
    port = entry[entry.index("--port") + 1]
    path = re.search(rf"http://127\.0\.0\.1:{port}(/\w+)", health)[1]
    assert path in server.PATHS and arguments("EXPOSE") == [port]
    compile(json.loads(health.partition(" CMD ")[2])[2], "health", "exec")


def test_its_python_is_the_one_that_run_sh_prefers():
    preferred = re.search(r"^names=\"python(3\.\d+)", (PROJECT / "run.sh").read_text(), re.M)[1]
    assert arguments("FROM") == [f"python:{preferred}-slim"]
