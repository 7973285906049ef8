"""The cores and the memory of a process: real /proc and /sys/fs/cgroup trees of containers, batch jobs and desktops."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import PROJECT

from mslab.check import limits

GIB = 2**30
UNLIMITED = "9223372036854771712"  # version 1's memory.limit_in_bytes without a limit
V1 = """\
30 23 0:26 / /sys/fs/cgroup ro,nosuid,nodev,noexec shared:9 - tmpfs tmpfs ro,mode=755
33 30 0:30 {top} /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:15 - cgroup cgroup rw,cpu,cpuacct
36 30 0:33 {top} /sys/fs/cgroup/memory rw,nosuid shared:18 - cgroup cgroup rw,memory
31 30 0:27 / /sys/fs/cgroup/unified rw,nosuid shared:10 - cgroup2 cgroup2 rw,nsdelegate
"""
V2 = "35 24 0:30 {top} /sys/fs/cgroup ro,nosuid,nodev,noexec,relatime shared:9 - cgroup2 cgroup rw,nsdelegate\n"
DESKTOP = "user.slice/user-1000.slice/user@1000.service/app.slice/app-code.scope"
POD = "kubepods/burstable/pod8a7f/5c1e"
JOB = "slurm/uid_1000/job_77/step_0/task_0"
CG = "sys/fs/cgroup"
# what the process sees -> (files, cores of a machine with 64, GiB available of 100)
TREES = {
    "no limit, version 2": ({"cgroup": "0::/\n", "mountinfo": V2.format(top="/")}, 64, 100),
    "Docker, version 2, --cpus 2 --memory 3g": (
        {"cgroup": "0::/\n", "mountinfo": V2.format(top="/"), f"{CG}/cpu.max": "200000 100000\n"}
        | {f"{CG}/memory.max": f"{3 * GIB}\n", f"{CG}/memory.current": f"{2 * GIB}\n"}
        | {f"{CG}/memory.stat": f"anon {GIB}\ninactive_file {GIB}\nactive_file 0\n"},
        2,
        2,  # one GiB of the two used is of files that were read
    ),
    "half a core": ({"cgroup": "0::/\n", f"{CG}/cpu.max": "50000 100000\n"}, 1, 100),
    "one core and a half": ({"cgroup": "0::/\n", f"{CG}/cpu.max": "150000 100000\n"}, 2, 100),
    "a quota of max": ({"cgroup": "0::/\n", f"{CG}/cpu.max": "max 100000\n", f"{CG}/memory.max": "max\n"}, 64, 100),
    "a quota above the machine": ({"cgroup": "0::/\n", f"{CG}/cpu.max": "12800000 100000\n"}, 64, 100),
    "systemd, the slice above has the limit": (
        {"cgroup": f"0::/{DESKTOP}\n", "mountinfo": V2.format(top="/")}
        | {f"{CG}/{DESKTOP}/cpu.max": "max 100000\n", f"{CG}/user.slice/user-1000.slice/cpu.max": "400000 100000\n"}
        | {f"{CG}/user.slice/user-1000.slice/memory.high": f"{8 * GIB}\n"},
        4,
        8,
    ),
    "the smallest of nested limits": (
        {"cgroup": "0::/a/b\n", f"{CG}/cpu.max": "800000 100000\n", f"{CG}/a/cpu.max": "300000 100000\n"}
        | {f"{CG}/a/b/cpu.max": "600000 100000\n", f"{CG}/a/memory.max": f"{9 * GIB}\n"}
        | {f"{CG}/a/b/memory.max": f"{20 * GIB}\n"},
        3,
        9,
    ),
    "Docker, version 1": (
        {"cgroup": "5:memory:/docker/5c1e\n3:cpu,cpuacct:/docker/5c1e\n0::/system.slice/containerd.service\n"}
        | {"mountinfo": V1.format(top="/docker/5c1e"), f"{CG}/cpu,cpuacct/cpu.cfs_quota_us": "250000\n"}
        | {f"{CG}/cpu,cpuacct/cpu.cfs_period_us": "100000\n", f"{CG}/memory/memory.limit_in_bytes": f"{4 * GIB}\n"}
        | {f"{CG}/memory/memory.usage_in_bytes": f"{3 * GIB}\n"}
        | {f"{CG}/memory/memory.stat": f"inactive_file 5\ntotal_inactive_file {2 * GIB}\n"},
        3,
        3,
    ),
    "Kubernetes, version 1, the folder of the machine's root": (
        {"cgroup": f"4:memory:/{POD}\n2:cpu,cpuacct:/{POD}\n", "mountinfo": V1.format(top="/")}
        | {f"{CG}/cpu,cpuacct/{POD}/cpu.cfs_quota_us": "-1\n", f"{CG}/cpu,cpuacct/{POD}/cpu.cfs_period_us": "100000\n"}
        | {f"{CG}/cpu,cpuacct/kubepods/burstable/pod8a7f/cpu.cfs_quota_us": "700000\n"}
        | {f"{CG}/cpu,cpuacct/kubepods/burstable/pod8a7f/cpu.cfs_period_us": "100000\n"}
        | {f"{CG}/memory/{POD}/memory.limit_in_bytes": UNLIMITED},
        7,
        100,
    ),
    "Kubernetes, version 2, paths of the machine beside a namespace": (
        {
            "cgroup": "0::/../../pod8a7f/5c1e\n",
            "mountinfo": V2.format(top="/../.."),
            f"{CG}/cpu.max": "100000 100000\n",
        },
        1,
        100,
    ),
    "Slurm, version 1": (
        {"cgroup": f"4:memory:/{JOB}\n2:cpu,cpuacct:/system.slice/slurmd.service\n", "mountinfo": V1.format(top="/")}
        | {f"{CG}/memory/{JOB}/memory.limit_in_bytes": UNLIMITED}
        | {f"{CG}/memory/slurm/uid_1000/job_77/memory.limit_in_bytes": f"{16 * GIB}\n"}
        | {f"{CG}/memory/slurm/uid_1000/job_77/memory.usage_in_bytes": f"{GIB}\n"},
        64,
        15,
    ),
    "a mount with a space, in another place": (
        {"cgroup": "0::/lab\n", "mountinfo": "9 1 0:9 / /run/my\\040groups rw - cgroup2 none rw\n"}
        | {"run/my groups/lab/cpu.max": "100000 100000\n"},
        1,
        100,
    ),
    "the limit is used up": (
        {"cgroup": "0::/\n", f"{CG}/memory.max": f"{GIB}\n", f"{CG}/memory.current": f"{GIB + 4096}\n"},
        64,
        0,
    ),
    "files that make no sense": (
        {"cgroup": "what\n::\n0\n", "mountinfo": "1 2 3\n - \n - cgroup2\n", f"{CG}/cpu.max": "0 0\n"}
        | {f"{CG}/memory.max": "much\n"},
        64,
        100,
    ),
}


@pytest.mark.parametrize("name", TREES)
def test_the_quota_and_the_memory_limit_of_every_group_above_count(name, tmp_path, monkeypatch):
    files, count, gib = TREES[name]
    monkeypatch.setattr(limits, "allowed_cores", lambda: list(range(64)))
    for file, text in {"meminfo": f"MemTotal: 1 kB\nMemAvailable: {100 * GIB // 1024} kB\n", **files}.items():
        path = tmp_path / (file if "/" in file else f"proc/{'' if file == 'meminfo' else 'self/'}{file}")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert (limits.cores(tmp_path), limits.available_memory(tmp_path) / GIB) == (count, gib)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="Linux")
def test_taskset_counts():
    script = (
        "import os, mslab.check; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); print(mslab.check.cores())"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=PROJECT)
    assert result.stdout == "1\n"


def test_containers_with_a_quota_do_not_all_keep_to_the_first_cores(monkeypatch):
    monkeypatch.setattr(limits, "allowed_cores", lambda: list(range(64)))
    monkeypatch.setattr(limits, "cores", lambda: 4)
    chosen = set()
    for number in range(20):
        monkeypatch.setattr(os, "uname", lambda number=number: type("Name", (), {"nodename": f"pod-{number}"}))
        cores = limits.usable_cores()
        assert len(set(cores)) == 4 and set(cores) <= set(range(64))
        chosen |= set(cores)
    assert len(chosen) > 20


def test_this_machine_is_read_as_it_is():
    assert 1 <= limits.cores() <= len(limits.allowed_cores())
    assert limits.available_memory() > 2**20
    assert all(folder.is_relative_to(Path("/")) for folder in limits.groups("memory"))
