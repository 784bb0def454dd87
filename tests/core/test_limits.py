"""Limits of control groups of both versions, from files as the kernel shows them."""

import os
from pathlib import Path

import pytest

from rlsuite.core import limits
from rlsuite.core.limits import available_bytes, cores, cpu_share, free_in_groups

MB = 1 << 20
HUGE = "9223372036854771712"  # version 1 without a limit


def tree(folder: Path, membership: str, files: dict[str, str]) -> tuple[Path, Path]:
    """A /proc/self/cgroup and a /sys/fs/cgroup with these files."""
    mount = folder / "cgroup"
    mount.mkdir()
    for name, text in files.items():
        place = mount / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text + "\n")
    (folder / "self").write_text(membership)
    return folder / "self", mount


V2 = "0::/user/job\n"
V1 = "9:name=systemd:/\n4:memory:/jobs/mine\n3:cpu,cpuacct:/jobs/mine\n0::/\n"


@pytest.mark.parametrize(
    ("membership", "files", "share"),
    [
        (V2, {"user/job/cpu.max": "50000 100000"}, 0.5),
        (V2, {"user/job/cpu.max": "max 100000"}, None),
        (V2, {"user/job/cpu.max": "max 100000", "user/cpu.max": "150000 100000"}, 1.5),  # the group above
        (V2, {"user/job/cpu.max": "300000 100000", "user/cpu.max": "200000 100000", "cpu.max": "400000 100000"}, 2.0),
        ("0::/\n", {"cpu.max": "25000 50000"}, 0.5),  # as a container sees its own group
        ("0::/../elsewhere\n", {"cpu.max": "25000 50000"}, 0.5),  # outside of what is mounted
        ("1:cpu:/\n0::/job\n", {"unified/job/cpu.max": "50000 100000"}, 0.5),  # both versions are mounted
        (V1, {"cpu,cpuacct/jobs/mine/cpu.cfs_quota_us": "50000", "cpu,cpuacct/jobs/mine/cpu.cfs_period_us": "100000"}, 0.5),
        (V1, {"cpu/jobs/mine/cpu.cfs_quota_us": "250000", "cpu/jobs/mine/cpu.cfs_period_us": "100000"}, 2.5),
        (V1, {"cpu/jobs/mine/cpu.cfs_quota_us": "-1", "cpu/jobs/mine/cpu.cfs_period_us": "100000"}, None),
        (V1, {"cpu/jobs/cpu.cfs_quota_us": "100000", "cpu/jobs/cpu.cfs_period_us": "100000"}, 1.0),
        (V1, {"cpu/cpu.cfs_quota_us": "70000", "cpu/cpu.cfs_period_us": "100000"}, 0.7),  # Docker: the path is of the host
        ("", {}, None),
        ("nonsense\n", {"cpu.max": "nonsense"}, None),
    ],
)
def test_the_share_of_cpu_time(membership: str, files: dict[str, str], share: float | None, tmp_path: Path) -> None:
    assert cpu_share(*tree(tmp_path, membership, files)) == share


@pytest.mark.parametrize(
    ("membership", "files", "free"),
    [
        (V2, {"user/job/memory.max": str(900 * MB), "user/job/memory.current": str(100 * MB)}, 800 * MB),
        (V2, {"user/job/memory.max": "max", "user/job/memory.current": "5"}, None),
        (V2, {"user/job/memory.max": "max", "user/memory.max": "1000", "user/memory.current": "400"}, 600),
        (V2, {"user/job/memory.max": "900", "user/memory.max": "1000", "user/memory.current": "980"}, 20),  # a neighbour's
        (V2, {"memory.max": "1000", "memory.current": "900", "memory.stat": "anon 100\ninactive_file 700"}, 800),
        (V2, {"memory.max": "1000", "memory.current": "1200"}, 0),
        (
            V1,
            {"memory/jobs/mine/memory.limit_in_bytes": str(900 * MB), "memory/jobs/mine/memory.usage_in_bytes": str(MB)},
            899 * MB,
        ),
        (V1, {"memory/jobs/mine/memory.limit_in_bytes": HUGE}, None),
        (V1, {"memory/jobs/mine/memory.limit_in_bytes": "-1"}, None),
        (V1, {"memory/jobs/mine/memory.limit_in_bytes": HUGE, "memory/jobs/memory.limit_in_bytes": "700"}, 700),
        (V1, {"memory/memory.limit_in_bytes": "700", "memory/memory.usage_in_bytes": "300"}, 400),  # Docker
        (
            V1,
            {
                "memory/jobs/mine/memory.limit_in_bytes": "1000",
                "memory/jobs/mine/memory.usage_in_bytes": "900",
                "memory/jobs/mine/memory.stat": "cache 800\ninactive_file 1\ntotal_inactive_file 500",
            },
            600,
        ),
        ("", {}, None),
    ],
)
def test_free_memory(membership: str, files: dict[str, str], free: int | None, tmp_path: Path) -> None:
    assert free_in_groups(*tree(tmp_path, membership, files)) == free


@pytest.mark.parametrize(("share", "found"), [(None, 4), (0.5, 1), (1.0, 1), (1.9, 1), (3.0, 3), (64.0, 4)])
def test_cores_are_at_most_the_share_and_at_least_one(share: float | None, found: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1, 2, 3}, raising=False)
    monkeypatch.setattr(limits, "cpu_share", lambda: share)
    assert cores() == found


def test_available_memory_is_the_least_of_all_that_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    for machine, groups, free in [(7, None, 7), (7, 5, 5), (7, 9, 7), (None, 5, 5), (None, None, None)]:
        monkeypatch.setattr(limits, "free_in_machine", lambda machine=machine: machine)
        monkeypatch.setattr(limits, "free_in_groups", lambda groups=groups: groups)
        assert available_bytes() == free


def test_this_machine_is_read() -> None:
    assert 1 <= cores() <= (os.cpu_count() or 1)
    if Path("/proc/meminfo").exists():
        assert (available_bytes() or 0) > MB


def test_the_peak_of_memory_counts_what_was_held() -> None:
    before = limits.peak_bytes()
    held = bytearray(before + 50_000_000)
    assert limits.peak_bytes() > len(held)
