"""CPU time that other processes, and other machines on the same host, took while a timing ran (Linux).

Small files of /proc and /sys, read at the least cost: a timing waits for them.

The most memory that this process held while a timing ran: in the machine, and on the GPU.
"""

import os
import re
import time
from pathlib import Path
from typing import Protocol

_AT_MOST = 1 << 16  # bytes; the files read here are far shorter
_NUMBERS = re.compile(r"\d+")


def read_text(path: Path | str) -> str:
    """Return a small file's text, or "" where it is absent, forbidden or failing (a sensor may answer EIO)."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        return os.read(file, _AT_MOST).decode(errors="replace").strip("\0 \n")
    except OSError:
        return ""
    finally:
        os.close(file)


def read_int(path: Path | str) -> int | None:
    """Return the whole number that a file holds, or None."""
    try:
        return int(read_text(path))
    except ValueError:
        return None


def numbered(folder: Path, pattern: str) -> list[Path]:
    """Return the paths of a folder that match, in the order of their numbers: cpu2 before cpu10."""
    return sorted(folder.glob(pattern), key=lambda path: [int(part) for part in _NUMBERS.findall(path.name)])


_BUSY = (0, 1, 2, 5, 6)  # user, nice, system, irq, softirq of /proc/stat's first line; guests are part of user and nice
_IDLE, _STEAL = 3, 7
_SHORTEST_S = 0.1  # the kernel counts in ticks of 10 ms


class LoadWatch:
    """Counts the CPUs that others kept busy between `start` and `others_and_steal`."""

    def __init__(self, root: Path) -> None:
        self._file = root / "proc/stat"
        self._ticks_per_s = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
        self._before, self._own_s, self._started = self._read(), 0.0, 0.0

    def start(self) -> None:
        self._before, self._own_s, self._started = self._read(), time.process_time(), time.perf_counter()

    def others_and_steal(self) -> tuple[float | None, float | None]:
        """Return the CPUs that other processes kept busy, and those that the hypervisor gave to others, as means."""
        passed_s, own_s = time.perf_counter() - self._started, time.process_time() - self._own_s
        ticks = [after - before for before, after in zip(self._before, self._read(), strict=False)]
        busy = sum(ticks[i] for i in _BUSY) if len(ticks) > max(_BUSY) else 0
        if passed_s < _SHORTEST_S or not busy + sum(ticks[_IDLE : _IDLE + 1]):  # a sandbox's clock that stands still
            return None, None
        others = max(0.0, (busy / self._ticks_per_s - own_s) / passed_s)
        return others, ticks[_STEAL] / self._ticks_per_s / passed_s if len(ticks) > _STEAL else None

    def _read(self) -> list[int]:
        first = read_text(self._file).partition("\n")[0].split()
        return [int(field) for field in first[1:]] if first[:1] == ["cpu"] else []


_PEAK = re.compile(r"^VmHWM:\s+(\d+) kB", re.MULTILINE)
_RESET_PEAK = "5"  # man 5 proc: /proc/pid/clear_refs


class DeviceMemory(Protocol):
    """A GPU's memory."""

    def forget_peak(self) -> None:
        """Forget earlier peaks."""

    def peak_bytes(self) -> int:
        """Return the most bytes that were allocated."""


class PeakMemory:
    """Peaks between `start` and the readings; `gpu` is the GPU's, None for the CPU."""

    def __init__(self, root: Path, gpu: DeviceMemory | None = None) -> None:
        self._status, self._reset, self._gpu = root / "proc/self/status", root / "proc/self/clear_refs", gpu
        self._earlier: int | None = None

    def start(self) -> None:
        """Forget earlier peaks; where the system forbids it, a later peak counts only when it is a higher one."""
        if self._gpu:
            self._gpu.forget_peak()
        try:
            with self._reset.open("w") as file:
                file.write(_RESET_PEAK)
            self._earlier = None
        except OSError:
            self._earlier = self._peak_bytes()

    def resident_bytes(self) -> int | None:
        peak = self._peak_bytes()
        return None if peak is None or (self._earlier is not None and peak <= self._earlier) else peak

    def device_bytes(self) -> int | None:
        """Return the most bytes that were allocated on the GPU; None for the CPU."""
        return self._gpu.peak_bytes() if self._gpu else None

    def _peak_bytes(self) -> int | None:
        match = _PEAK.search(read_text(self._status))
        return int(match[1]) * 1024 if match else None
