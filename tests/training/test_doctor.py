"""Facts for mslab doctor, read from real files, including the installed MindSpore's."""

from mslab.doctor import facts as gathering
from mslab.doctor.diagnosis import judge

GIB = 2**30


def test_the_accepted_cann_versions_are_the_installed_mindspores_own():
    if gathering.versions.version("mindspore") == "2.8.0":
        assert gathering.cann_accepted() == ["8.2", "8.3", "8.5"]
    assert gathering.cann_accepted()


def test_facts_are_read_from_the_files_of_the_system_and_the_toolkits(tmp_path):
    root, toolkit = tmp_path / "root", tmp_path / "toolkit"
    files = {
        root / "proc/cpuinfo": "processor : 0\nmodel name\t: A Xeon\nflags\t\t: fpu avx2 avx512f\n",
        root / "proc/meminfo": "MemTotal: 9000000 kB\nMemAvailable:    8000000 kB\n",
        root / "sys/fs/cgroup/memory.max": "1073741824\n",
        root / "usr/local/Ascend/driver/version.info": "Version=25.0.rc1\nascendhal_version=7\n",
        root / "usr/local/Ascend/ascend-toolkit/latest/compiler/version.info": "Version=8.3.T2\n",
        toolkit / "compiler/version.info": "timestamp=2025\nVersion=8.1.RC1\n",
    }
    for file, text in files.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    environ = {"XDG_CACHE_HOME": str(tmp_path / "cache"), "ASCEND_HOME_PATH": str(toolkit), "HOME": "/root"}
    facts = gathering.gather(environ, here=tmp_path, root=root)
    assert (facts.cpu, facts.flags, facts.memory) == ("A Xeon", "fpu avx2 avx512f", GIB)
    assert (facts.ascend_driver, facts.cann) == ("25.0.rc1", "8.1")
    assert facts.environ == {"ASCEND_HOME_PATH": str(toolkit)} and facts.cache == str(tmp_path / "cache" / "mslab")
    assert gathering.cann({}, root) == "8.3" and gathering.cann({}, tmp_path) == ""
    assert {finding.name for finding in judge(facts) if finding.level == "error"} >= {"memory"}
    (root / "sys/fs/cgroup/memory.max").write_text("max\n")
    assert gathering.memory(root) == 8_000_000 * 1024
