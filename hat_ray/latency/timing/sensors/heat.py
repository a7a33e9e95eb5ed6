"""Temperature, and whether the hardware slowed itself down while a timing ran.

Sources: Linux's thermal zones and hwmon; x86's counters of thermal throttling; a Raspberry Pi's flags from /sys, or
from `vcgencmd` where the kernel does not show them.
"""

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from hat_ray.latency.timing.sensors.host import numbered, read_int, read_text

_PROCESSOR_SENSOR = re.compile(r"cpu|pkg|package|core|soc|cluster|k10temp|zenpower|tctl", re.IGNORECASE)
_PLAUSIBLE_C = (-40.0, 150.0)  # sensors that are off read -274 or 0xffff
_PI_FLAGS = ("under-voltage", "frequency-capped", "throttled", "soft-temperature-limit")
_SINCE_BOOT = 16  # the flags' second copies: what happened since boot, or since they were last read


class Thermometer:
    """The processor's temperature; its sensors are looked for once."""

    def __init__(self, root: Path) -> None:
        zones = {zone / "temp": read_text(zone / "type") for zone in (root / "sys/class/thermal").glob("thermal_zone*")}
        # the first sensor of a hwmon chip is the whole package (coretemp, k10temp); the others are single cores
        chips = {chip / "temp1_input": read_text(chip / "name") for chip in (root / "sys/class/hwmon").glob("hwmon*")}
        found = zones | chips
        self._files = [file for file, name in found.items() if _PROCESSOR_SENSOR.search(name)]
        if not self._files:  # a PC's board knows a little of its processor
            self._files = [file for file, name in zones.items() if name == "acpitz"]

    def read_c(self) -> float | None:
        """Return the hottest sensor's temperature in degrees Celsius."""
        low, high = _PLAUSIBLE_C
        told = [value / 1000 for value in map(read_int, self._files) if value is not None]
        return max((value for value in told if low < value < high), default=None)


class ThrottleSource(Protocol):
    """A source of throttling reasons."""

    def read(self) -> Mapping[str, int] | None:
        """Return a state: what `reasons` compares with a later one."""

    def reasons(self, before: Mapping[str, int], after: Mapping[str, int]) -> set[str]:
        """Return why the hardware slowed down between two states."""


class ThrottleWatch:
    """Reports why the hardware slowed itself down between `start` and `reasons`."""

    def __init__(self, sources: list[ThrottleSource]) -> None:
        self._sources = sources
        self._before: list[Mapping[str, int] | None] = []

    def start(self) -> None:
        self._before = [source.read() for source in self._sources]

    def reasons(self) -> tuple[str, ...] | None:
        """Return the reasons, empty when it ran freely, None where the system does not report it."""
        pairs = [(source, before, source.read()) for source, before in zip(self._sources, self._before, strict=True)]
        told = [source.reasons(before, after) for source, before, after in pairs if before is not None and after]
        return tuple(sorted(set().union(*told))) if told else None


def cpu_throttle_sources(root: Path) -> list[ThrottleSource]:
    """Find the sources of the processor's throttling below a root."""
    return [source for source in (_Counters(root), _RaspberryPi(root)) if source.read()]


class _Counters:
    """x86: how often each core and each package was throttled by heat since boot."""

    def __init__(self, root: Path) -> None:
        packages: dict[str, Path] = {}
        self._files: dict[str, Path] = {}
        for cpu in numbered(root / "sys/devices/system/cpu", "cpu[0-9]*"):
            if (cpu / "thermal_throttle/core_throttle_count").exists():
                self._files[cpu.name] = cpu / "thermal_throttle/core_throttle_count"
                packages.setdefault(read_text(cpu / "topology/physical_package_id"), cpu)
        for package, cpu in packages.items():  # all cores of a package show the same counter
            self._files[f"package{package}"] = cpu / "thermal_throttle/package_throttle_count"

    def read(self) -> dict[str, int] | None:
        told = {name: read_int(file) for name, file in self._files.items()}
        return {name: value for name, value in told.items() if value is not None} or None

    def reasons(self, before: Mapping[str, int], after: Mapping[str, int]) -> set[str]:
        return {"thermal"} if any(value > before.get(name, value) for name, value in after.items()) else set()


class _RaspberryPi:
    """A Raspberry Pi's firmware: what slows it down now, and what did so since it was last asked, or since boot."""

    def __init__(self, root: Path) -> None:
        devices = root / "sys/devices/platform"
        self._file = next(
            (file for depth in ("", "*/") for file in devices.glob(f"{depth}*firmware/get_throttled")), None
        )
        is_pi = read_text(root / "proc/device-tree/model").startswith("Raspberry Pi")
        self._command = next(
            (root / place for place in ("usr/bin/vcgencmd",) if is_pi and (root / place).exists()), None
        )

    def read(self) -> dict[str, int] | None:
        text = read_text(self._file) if self._file else _answer(self._command) if self._command else ""
        try:
            flags = int(text.removeprefix("throttled="), 16)
        except ValueError:
            return None
        return {"flags": flags}

    def reasons(self, before: Mapping[str, int], after: Mapping[str, int]) -> set[str]:
        """Judge by what holds at either moment, and by what came up in between."""
        first, last = before["flags"], after["flags"]
        happened = first | last | ((last & ~first) >> _SINCE_BOOT)
        return {name for bit, name in enumerate(_PI_FLAGS) if happened & 1 << bit}


def _answer(command: Path) -> str:
    try:
        done = subprocess.run([command, "get_throttled"], capture_output=True, text=True, timeout=2, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
