"""The processes of one side, and the memory that they really use (Linux, /proc)."""

from __future__ import annotations

import os
from pathlib import Path

# Set in the environment of everything whose descendants are to be counted.
MARK = "BENCH_MARK"


def marked(value: str) -> list[int]:
    """The processes that inherited MARK with this value."""
    wanted = f"{MARK}={value}".encode()
    found = []
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        try:
            environment = Path(entry.path, "environ").read_bytes()
        except OSError:
            continue  # It ended, or is somebody else's.
        if wanted in environment.split(b"\0"):
            found.append(int(entry.name))
    return found


def pss_kib(pids: list[int]) -> int:
    """Their proportional set sizes together: a page that n processes share counts 1/n for each."""
    return sum(field(pid, "smaps_rollup", "Pss") or 0 for pid in pids)


def rss_kib(pid: int) -> int:
    """Resident memory now."""
    return field(pid, "status", "VmRSS") or 0


def peak_kib(pid: int) -> int:
    """The most resident memory that the program had since its exec.

    Not ru_maxrss: that one remembers what the parent had before the exec.
    """
    return field(pid, "status", "VmHWM") or 0


def cpu_seconds(pid: int) -> float:
    """What it has used since its start, in user and system time."""
    after_name = Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()
    return (int(after_name[11]) + int(after_name[12])) / os.sysconf("SC_CLK_TCK")


def on_cpu_seconds(pid: int) -> float:
    """The same of a program without threads, to the nanosecond: a short-lived one has not even used a tick."""
    return int(Path("/proc", str(pid), "schedstat").read_text().split()[0]) / 1e9


def field(pid: int, file: str, name: str) -> int | None:
    try:
        lines = Path("/proc", str(pid), file).read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith(f"{name}:")), None)
