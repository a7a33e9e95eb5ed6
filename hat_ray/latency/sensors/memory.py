"""The most memory that this process held while a timing ran: in the machine, and on the GPU."""

import re
from pathlib import Path

import torch

from hat_ray.latency.sensors.files import read_text

_PEAK = re.compile(r"^VmHWM:\s+(\d+) kB", re.MULTILINE)
_RESET_PEAK = "5"  # man 5 proc: /proc/pid/clear_refs


class PeakMemory:
    """Peaks between `start` and the readings."""

    def __init__(self, root: Path, on_gpu: bool) -> None:
        self._status, self._reset, self._on_gpu = root / "proc/self/status", root / "proc/self/clear_refs", on_gpu
        self._earlier: int | None = None

    def start(self) -> None:
        """Forget earlier peaks; where the system forbids it, a later peak counts only when it is a higher one."""
        if self._on_gpu:
            torch.cuda.reset_peak_memory_stats()
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
        """Return what PyTorch allocated on the GPU at most; None for the CPU."""
        return torch.cuda.max_memory_allocated() if self._on_gpu else None

    def _peak_bytes(self) -> int | None:
        match = _PEAK.search(read_text(self._status))
        return int(match[1]) * 1024 if match else None
