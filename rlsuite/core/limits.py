"""The cores and the memory that this process may use; in a container, its control groups (cgroups) limit them.

A group's limits also bind the groups in it, so the tightest one from this process's group up to the root counts. Both versions of
cgroups are read; Docker, Kubernetes, Slurm and systemd all set limits by one of them.
"""

import os
import resource
import sys
from collections.abc import Iterator
from pathlib import Path

_MEMBERSHIP, _MOUNT, _MEMINFO = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup"), Path("/proc/meminfo")
_UNLIMITED = 1 << 60  # version 1 writes no limit as a number beyond any machine's memory


def cores() -> int:
    """The number of cores that this process may keep busy, by its CPU affinity and its share of CPU time; at least 1."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    share = cpu_share()
    return allowed if share is None else max(1, min(allowed, int(share)))


def available_bytes() -> int | None:
    """Memory that this process can still get, in bytes; None where that is unknown."""
    known = [free for free in (free_in_machine(), free_in_groups()) if free is not None]
    return min(known, default=None)


def peak_bytes() -> int:
    """The peak memory of this process, without its children, in bytes."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def cpu_share(membership: Path = _MEMBERSHIP, mount: Path = _MOUNT) -> float | None:
    """The CPU time that this process's groups allow, in seconds per second (0.5 is half a core); None: no limit."""
    shares = []
    for version, folder in _groups("cpu", membership, mount):
        if version == 2:
            quota, _, period = _text(folder / "cpu.max").partition(" ")
        else:
            quota, period = _text(folder / "cpu.cfs_quota_us"), _text(folder / "cpu.cfs_period_us")
        if quota.isdigit() and period.isdigit() and int(period) > 0:  # without a limit "max", or -1
            shares.append(int(quota) / int(period))
    return min(shares, default=None)


def free_in_groups(membership: Path = _MEMBERSHIP, mount: Path = _MOUNT) -> int | None:
    """Memory in bytes that is left in this process's groups, counting inactive file cache as free; None: no limit."""
    free = []
    for version, folder in _groups("memory", membership, mount):
        limit, used = ("memory.max", "memory.current") if version == 2 else ("memory.limit_in_bytes", "memory.usage_in_bytes")
        most = _number(folder / limit)
        if most is None or most >= _UNLIMITED:
            continue
        facts = dict(line.split(" ", 1) for line in _text(folder / "memory.stat").splitlines() if " " in line)
        dropped = facts.get("inactive_file" if version == 2 else "total_inactive_file", "0")
        held = max((_number(folder / used) or 0) - (int(dropped) if dropped.isdigit() else 0), 0)
        free.append(max(most - held, 0))
    return min(free, default=None)


def free_in_machine() -> int | None:
    """Memory in bytes that the machine has free for new work; None where that is unknown."""
    for line in _text(_MEMINFO).splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def _groups(controller: str, membership: Path, mount: Path) -> Iterator[tuple[int, Path]]:
    """(version, folder) of this process's group and of every group above it, for one controller."""
    for line in _text(membership).splitlines():
        number, _, rest = line.partition(":")
        names, _, place = rest.partition(":")
        if number == "0" and not names:
            roots = [(2, mount), (2, mount / "unified")]  # the latter where both versions are mounted
        elif controller in names.split(","):
            roots = [(1, mount / names), (1, mount / controller)]
        else:
            continue
        for version, root in roots:
            inside = Path(os.path.normpath(f"{root}/{place}"))
            # In a container, the group's path may be that of the machine outside, while the mount shows its own group as the root:
            # folders that do not exist set no limit.
            folder = inside if inside.is_relative_to(root) else root
            while folder.is_relative_to(root):
                yield version, folder
                folder = folder.parent


def _number(path: Path) -> int | None:
    text = _text(path)
    return int(text) if text.isdigit() else None


def _text(path: Path) -> str:
    """The text of one of the kernel's files; "" if it cannot be read."""
    try:
        return path.read_text().strip()
    except OSError:
        return ""
