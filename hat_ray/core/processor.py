"""The processor's identity, read from /proc and /sys on Linux (x86 and ARM boards) and from sysctl on macOS.

Nothing here fails: a value that the system does not report is None or empty.
"""

import os
import platform
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from hat_ray.core.usable_cpus import usable_cpus

ISA_FLAGS = (
    *("amx_tile", "amx_bf16", "amx_int8", "avx512f", "avx512_bf16", "avx512_vnni", "avx_vnni", "avx_ne_convert"),
    *("avx2", "avx", "fma"),
    *("sve2", "sve", "bf16", "i8mm", "asimddp", "asimdhp", "asimd", "neon"),
)
_ISA_LEVELS = {"amx_tile": "amx", "avx512f": "avx512", "avx2": "avx2", "avx": "avx"}
_ISA_LEVELS |= {"sve2": "sve2", "sve": "sve", "asimd": "neon", "neon": "neon"}
_ONEDNN_LEVELS = {  # ONEDNN_MAX_CPU_ISA, and the flags that it forbids besides those of the levels after it
    "SSE41": ("avx", "fma"),
    "AVX": ("avx2",),
    "AVX2": ("avx_vnni",),
    "AVX2_VNNI": ("avx_ne_convert",),
    "AVX2_VNNI_2": ("avx512f",),
    "AVX512_CORE": ("avx512_vnni",),
    "AVX512_CORE_VNNI": ("avx512_bf16",),
    "AVX512_CORE_BF16": ("amx_tile", "amx_bf16", "amx_int8"),
}
_DEVICE_TREE = "proc/device-tree/model"
_KINDS_OF_BOARDS = ("aarch64", "arm", "riscv")
_ARM_CORES = {  # "CPU part" of Arm's own designs (implementer 0x41)
    "0xd03": "Cortex-A53",
    "0xd05": "Cortex-A55",
    "0xd08": "Cortex-A72",
    "0xd0b": "Cortex-A76",
    "0xd0c": "Neoverse-N1",
    "0xd40": "Neoverse-V1",
    "0xd49": "Neoverse-N2",
    "0xd4f": "Neoverse-V2",
}


@dataclass(frozen=True)
class Cpu:
    """One machine's processor and memory."""

    model: str
    logical_cores: int
    """The number that this process may use."""
    clock_mhz: float | None  # the highest that the system allows, where it reports it, else the present one
    memory_bytes: int | None
    isa: tuple[str, ...]
    board: str = ""
    """The model of a board, such as a Raspberry Pi's; empty: it is none."""


def read_cpu(root: Path = Path("/")) -> Cpu:
    """Describe this machine's processor; `root` stands for the file system's root."""
    fields = _cpuinfo(_text(root / "proc/cpuinfo"))
    return Cpu(
        model=_model(root, fields),
        logical_cores=usable_cpus(root),
        clock_mhz=_clock_mhz(root, fields),
        memory_bytes=_memory_bytes(root),
        isa=_isa(fields),
        board=_board(root),
    )


def isa_level(isa: tuple[str, ...]) -> str:
    """Return the widest vector instructions among flags, such as "avx512" or "neon"; empty when none is known."""
    return next((level for flag, level in _ISA_LEVELS.items() if flag in isa), "")


def max_isa() -> str:
    """Return the instruction set that the environment limits oneDNN to, in capitals; empty: none that is known."""
    level = (os.environ.get("ONEDNN_MAX_CPU_ISA") or os.environ.get("DNNL_MAX_CPU_ISA") or "").upper()
    return level if level in _ONEDNN_LEVELS else ""


def allowed_isa(isa: tuple[str, ...]) -> tuple[str, ...]:
    """Return the flags that PyTorch's products may use within what the environment allows."""
    levels = list(_ONEDNN_LEVELS)
    above = levels[levels.index(max_isa()) :] if max_isa() else []
    forbidden = {flag for level in above for flag in _ONEDNN_LEVELS[level]}
    return tuple(flag for flag in isa if flag not in forbidden)


def _cpuinfo(text: str) -> dict[str, str]:
    """Return the first value of each key: the first processor's, and what stands once for all (Model, Hardware)."""
    pairs = (line.partition(":") for line in text.splitlines() if ":" in line)
    fields: dict[str, str] = {}
    for key, _, value in pairs:
        fields.setdefault(key.strip().lower(), value.strip())
    return fields


def _model(root: Path, fields: dict[str, str]) -> str:
    named = _text(root / _DEVICE_TREE).strip("\0 \n")  # a board's name is more specific than its core's
    name = named or fields.get("model name", "") or _arm_core(fields) or _sysctl("machdep.cpu.brand_string")
    if name and not re.search(r"\d", name) and "cpu family" in fields:  # a hypervisor's "AMD EPYC" hides the model
        name += f" family {fields['cpu family']} model {fields.get('model', '?')}"
    return name or platform.processor() or platform.machine() or "unknown"


def _board(root: Path) -> str:
    """Return the model that a device tree names. Virtual ARM machines have one as well, and POWER servers."""
    named = _text(root / _DEVICE_TREE).strip("\0 \n")
    return named if platform.machine().startswith(_KINDS_OF_BOARDS) and not named.startswith("linux,") else ""


def _arm_core(fields: dict[str, str]) -> str:
    part, implementer = fields.get("cpu part", ""), fields.get("cpu implementer", "")
    if not part:
        return ""
    known = _ARM_CORES.get(part) if implementer == "0x41" else None
    return known or f"ARM {implementer} {part}"


def _isa(fields: dict[str, str]) -> tuple[str, ...]:
    flags = set((fields.get("flags") or fields.get("features") or "").split())
    if not flags and platform.machine() == "arm64":  # macOS does not list what every Apple core has
        flags = {"asimd"} | ({"bf16"} if _sysctl("hw.optional.arm.FEAT_BF16") == "1" else set())
    return tuple(flag for flag in ISA_FLAGS if flag in flags)


def _clock_mhz(root: Path, fields: dict[str, str]) -> float | None:
    text = _text(root / "sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq").strip()
    if text.isdigit():
        return int(text) / 1000
    try:
        return float(fields["cpu mhz"])
    except (KeyError, ValueError):
        return None


def _memory_bytes(root: Path) -> int | None:
    match = re.search(r"^MemTotal:\s+(\d+) kB", _text(root / "proc/meminfo"), re.MULTILINE)
    if match:
        return int(match[1]) * 1024
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return None


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def _sysctl(name: str) -> str:
    if platform.system() != "Darwin":
        return ""
    try:
        done = subprocess.run(["sysctl", "-n", name], capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
