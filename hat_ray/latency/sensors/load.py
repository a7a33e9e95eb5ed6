"""What other processes, and other machines on the same host, took from the processors while a timing ran (Linux)."""

import os
import time
from pathlib import Path

from hat_ray.latency.sensors.files import read_text

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
