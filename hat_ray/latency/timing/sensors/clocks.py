"""Frequency and governor of the cores that the timing used: Linux's cpufreq, or x86's /proc/cpuinfo."""

from pathlib import Path

from hat_ray.latency.timing.sensors.host import read_int, read_text

_PROCESSOR, _USER_TICKS, _SYSTEM_TICKS = 36, 11, 12  # fields of /proc/.../stat behind the command's closing bracket


class CoreWatch:
    """Finds the cores on which this process computed: those where its busiest threads ran last."""

    def __init__(self, root: Path, threads: int) -> None:
        self._own, self._tasks, self._threads = root / "proc/thread-self/stat", root / "proc/self/task", threads
        self._before: dict[str, int] = {}

    def start(self) -> None:
        """Remember each thread's CPU time; one thread needs no comparison."""
        if self._threads > 1:
            self._before = {thread: ticks for thread, (ticks, _) in self._all().items()}

    def cores(self) -> list[int]:
        """Return the cores, each once; empty where the system does not report it."""
        if self._threads == 1:
            own = _ticks_and_core(read_text(self._own))
            return [] if own is None else [own[1]]
        gained = [(ticks - self._before.get(thread, 0), core) for thread, (ticks, core) in self._all().items()]
        busiest = sorted(gained, key=lambda pair: pair[0], reverse=True)[: self._threads]
        return sorted({core for ticks, core in busiest if ticks > 0})

    def _all(self) -> dict[str, tuple[int, int]]:
        found = ((folder.name, _ticks_and_core(read_text(folder / "stat"))) for folder in self._tasks.glob("[0-9]*"))
        return {thread: told for thread, told in found if told is not None}


def cpu_mhz(root: Path, cores: list[int]) -> float | None:
    """Return the cores' present frequency, their mean."""
    khz = [read_int(root / f"sys/devices/system/cpu/cpu{core}/cpufreq/scaling_cur_freq") for core in cores]
    told = [value / 1000 for value in khz if value]
    if len(told) < len(cores):
        told = _from_cpuinfo(root / "proc/cpuinfo", set(cores))
    return sum(told) / len(told) if told else None


def governor(root: Path, cores: list[int]) -> str | None:
    """Return the policy that sets the cores' frequency, such as "performance"; several are joined by "+"."""
    told = {read_text(root / f"sys/devices/system/cpu/cpu{core}/cpufreq/scaling_governor") for core in cores}
    return "+".join(sorted(told - {""})) or None


def _ticks_and_core(stat: str) -> tuple[int, int] | None:
    fields = stat.rpartition(")")[2].split()
    if len(fields) <= _PROCESSOR:
        return None
    return int(fields[_USER_TICKS]) + int(fields[_SYSTEM_TICKS]), int(fields[_PROCESSOR])


def _from_cpuinfo(path: Path, cores: set[int]) -> list[float]:
    """Read up to the last core that is wanted: hundreds of cores take the kernel milliseconds to describe."""
    told: dict[int, float] = {}
    core = -1
    try:
        with path.open(errors="replace") as lines:
            for line in lines:
                key, _, value = line.partition(":")
                if key.startswith("processor") and value.strip().isdigit():
                    core = int(value)
                elif key.startswith("cpu MHz") and core in cores:
                    told[core] = float(value)
                if len(told) == len(cores):
                    break
    except (OSError, ValueError):
        return []
    return list(told.values())
