"""The CPUs that a process may use: affinity, quotas of control groups of both versions, a share given from outside."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import hat_ray
from hat_ray.core.usable_cpus import SHARE, share, usable_cpus
from hat_ray.pipeline.execution import LocalExecution

V2 = "30 23 0:26 {top} /sys/fs/cgroup rw,nosuid - cgroup2 cgroup rw,nsdelegate\n"
V1 = (
    "30 23 0:26 / /sys/fs/cgroup ro - tmpfs tmpfs ro,mode=755\n"
    "31 30 0:27 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n"
    "32 30 0:28 {top} /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
)


@pytest.fixture(autouse=True)
def eight_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SHARE, raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)


def tree(root: Path, own: str, mounts: str, files: dict[str, str]) -> Path:
    """Make a file system's root with the groups of this process, the mounts, and files under /sys/fs/cgroup."""
    told = {"proc/self/cgroup": own, "proc/self/mountinfo": "22 1 8:1 / / rw - ext4 /dev/sda rw\n" + mounts}
    for name, text in {**told, **{f"sys/fs/cgroup/{name}": text for name, text in files.items()}}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize(
    ("own", "mounts", "files", "count"),
    [
        ("", "", {}, 8),
        ("0::/\n", V2.format(top="/"), {}, 8),
        ("0::/\n", V2.format(top="/"), {"cpu.max": "max 100000\n"}, 8),
        ("0::/\n", V2.format(top="/"), {"cpu.max": "300000 100000\n"}, 3),
        ("0::/\n", V2.format(top="/"), {"cpu.max": "150000 100000\n"}, 1),
        ("0::/\n", V2.format(top="/"), {"cpu.max": "50000 100000\n"}, 1),
        ("0::/\n", V2.format(top="/"), {"cpu.max": "1600000 100000\n"}, 8),
        ("0::/\n", V2.format(top="/"), {"cpu.max": "rubbish\n"}, 8),
        ("0::/a/b\n", V2.format(top="/"), {"a/cpu.max": "200000 100000", "a/b/cpu.max": "400000 100000"}, 2),
        ("0::/a/b\n", V2.format(top="/"), {"a/cpu.max": "max 100000", "a/b/cpu.max": "400000 100000"}, 4),
        ("0::/pod/c\n", V2.format(top="/pod/c"), {"cpu.max": "500000 100000"}, 5),
        ("0::/elsewhere\n", V2.format(top="/pod/c"), {"cpu.max": "500000 100000"}, 5),
        ("0::/../other\n", V2.format(top="/"), {"cpu.max": "500000 100000"}, 5),
        (
            "5:cpu,cpuacct:/job\n1:cpuset:/\n",
            V1.format(top="/"),
            {"cpu,cpuacct/job/cpu.cfs_quota_us": "250000\n", "cpu,cpuacct/job/cpu.cfs_period_us": "100000\n"},
            2,
        ),
        (
            "5:cpu,cpuacct:/docker/x\n",
            V1.format(top="/docker/x"),
            {"cpu,cpuacct/cpu.cfs_quota_us": "60000\n", "cpu,cpuacct/cpu.cfs_period_us": "20000\n"},
            3,
        ),
        (
            "5:cpu,cpuacct:/\n0::/\n",
            V1.format(top="/"),
            {"cpu,cpuacct/cpu.cfs_quota_us": "-1\n", "cpu,cpuacct/cpu.cfs_period_us": "100000\n"},
            8,
        ),
    ],
)
def test_the_smallest_quota_counts(tmp_path: Path, own: str, mounts: str, files: dict[str, str], count: int) -> None:
    assert usable_cpus(tree(tmp_path, own, mounts, files)) == count


@pytest.mark.parametrize(("share", "count"), [("3", 3), ("2.5", 2), ("0.5", 1), ("64", 8), ("0", 8), ("many", 8)])
def test_a_share_limits_and_never_adds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: str, count: int) -> None:
    monkeypatch.setenv(SHARE, share)
    assert usable_cpus(tmp_path) == count


def test_a_share_holds_for_a_while(tmp_path: Path) -> None:
    with share(3):
        with share(2.5):
            assert usable_cpus(tmp_path) == 2
        assert usable_cpus(tmp_path) == 3
    assert usable_cpus(tmp_path) == 8
    assert SHARE not in os.environ


def test_work_without_a_cluster_keeps_to_the_usable_cpus() -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        with share(1):
            LocalExecution()
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


@pytest.mark.skipif(shutil.which("taskset") is None, reason="needs taskset")
def test_taskset_limits() -> None:
    code = "from hat_ray.core.usable_cpus import usable_cpus; print(usable_cpus())"
    allowed = subprocess.run(
        ["taskset", "-cp", str(os.getpid())], capture_output=True, text=True, check=True, timeout=240
    )
    first = allowed.stdout.rpartition(" ")[2].partition(",")[0].partition("-")[0].strip()
    command = ["taskset", "-c", first, sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=240)
    assert done.stdout == "1\n"


@pytest.mark.slow
def test_a_task_counts_what_ray_gave_it() -> None:
    code = """
from hat_ray.cluster.execution import RayExecution
from hat_ray.core.usable_cpus import usable_cpus
execution = RayExecution(cpus_needed=2)
try:
    print(*execution.do([usable_cpus, usable_cpus]))
finally:
    execution.close()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=240)
    assert done.stdout.split() == ["1", "1"]


def test_nothing_else_counts_cpus() -> None:
    sources = Path(hat_ray.__file__).parent.rglob("*.py")
    words = ("os.cpu_count", "sched_getaffinity", "process_cpu_count", "multiprocessing.cpu_count")
    found = {path.name for path in sources if any(word in path.read_text(encoding="utf-8") for word in words)}
    assert found == {"usable_cpus.py"}
