"""Measure an export in fresh processes of its own, one after the other, and return the figures.

Decisions
- Each figure is of the program that a user runs: the export's own translate.py, which is executed.
- Memory is that of translate.py run as a program. It has a process of its own, and so has each other figure.
- The single stream is MLPerf's: one query after the other, the text from its first line to its last and again. A query
  is one line that is not blank.
"""

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hat_ray.certificate import program
from hat_ray.certificate.certificate import CertificateRules, EnergyUse, Latency
from hat_ray.errors import ExportError, in_one_line
from hat_ray.latency.timing.quantities.peak_memory import run_process
from hat_ray.latency.timing.quantities.peak_process import JOB
from hat_ray.latency.timing.sensors.energy import RaplMeter
from hat_ray.latency.timing.statistics import spread
from hat_ray.storage.temporary import temporary_folder

_BINS = 40
_TIMEOUT_S = 6 * 3600.0


@dataclass(frozen=True)
class Translated:
    """A text that an export translated in one process."""

    translations: tuple[str, ...]
    seconds: float
    """Without loading."""
    manifest: dict[str, Any]
    versions: dict[str, str]


def translate_once(export: Path, lines: Sequence[str], rules: CertificateRules) -> Translated:
    """Let a fresh process load an export and translate lines; raise ExportError where it cannot."""
    answer, _ = _measured("translate_once", export, lines, rules, {})
    translations = tuple(str(line) for line in answer["translations"])
    return Translated(translations, float(answer["seconds"]), answer["manifest"], answer["versions"])


def peak_bytes(export: Path, lines: Sequence[str], rules: CertificateRules) -> int:
    """Run an export's translate.py on lines; return the most bytes of memory that its process held."""
    _, peak = _measured("run_program", export, lines, rules, {})
    return peak


def stream(export: Path, lines: Sequence[str], rules: CertificateRules) -> tuple[Latency, EnergyUse]:
    """Let a fresh process translate line after line; return the distribution of its times, and its energy."""
    own = {"warmup": rules.warmup, "queries": rules.queries, "seconds": rules.seconds}
    answer, _ = _measured("stream", export, lines, rules, own)
    samples_ms = np.asarray(answer["samples_ms"], np.float64)
    typical = spread(answer["samples_ms"])
    low, high = float(samples_ms.min()), float(samples_ms.max())
    edges = np.geomspace(low, max(high, low * 1.01), _BINS + 1)
    edges[0], edges[-1] = low, max(high, low * 1.01)  # as rounding leaves them, they may not hold all
    counts, _ = np.histogram(samples_ms, edges)
    p50, p90, p99 = (float(value) for value in np.quantile(samples_ms, (0.5, 0.9, 0.99)))
    latency = Latency(
        queries=len(samples_ms),
        seconds=float(answer["seconds"]),
        mean_ms=typical.mean_ms,
        p50_ms=p50,
        p90_ms=p90,
        p99_ms=p99,
        edges_ms=tuple(edges.tolist()),
        counts=tuple(counts.tolist()),
        other_load_cpus=answer["other_load_cpus"],
    )
    if answer["joules"] is None:
        return latency, EnergyUse(None, _why_no_energy())
    return latency, EnergyUse(float(answer["joules"]) / len(samples_ms), str(answer["meter"]))


def _why_no_energy() -> str:
    if RaplMeter().hidden:
        return "only root may read the counters here: sudo chmod a+r /sys/class/powercap/intel-rapl*/energy_uj"
    return "this machine's system counts no joules of its processor (RAPL)"


def _measured(
    function: str, export: Path, lines: Sequence[str], rules: CertificateRules, own: Mapping[str, Any]
) -> tuple[dict[str, Any], int]:
    """Return what a function of `program` answers in a fresh process, and the bytes that this one prints."""
    job = {
        "program": f"{program.__name__}:{function}",
        "export": str(export.absolute()),
        "lines": list(lines),
        "threads": rules.threads,
        "split": rules.split,
        **own,
    }
    with temporary_folder("certify") as folder:
        (folder / JOB).write_text(json.dumps(job), encoding="utf-8")
        try:
            done = run_process(folder, _TIMEOUT_S)
        except subprocess.TimeoutExpired as error:
            raise ExportError(f"{export} took more than {_TIMEOUT_S / 3600:g} h: give it less text") from error
        answer_file = folder / program.ANSWER
        answer: dict[str, Any] = json.loads(answer_file.read_bytes()) if answer_file.exists() else {}
    if program.ERROR in answer:
        raise ExportError(str(answer[program.ERROR]))
    if done.returncode != 0 or not answer:
        why = in_one_line(done.stderr.strip().rpartition("\n")[2]) or f"it ended with {done.returncode}"
        raise ExportError(f"{export} cannot be measured, its translate.py failed ({why}): export the model again")
    return answer, int(done.stdout.split()[-1])
