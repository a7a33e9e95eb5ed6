"""Translate a file with one engine, in a process that loads nothing else; print figures as JSON.

    python engine_driver.py KIND FOLDER FILE BEAM WHAT

KIND is `export`, a folder of hat-ray's with its own program, or `marian`, a folder with `decoder.yml` and a Python that
has pymarian. WHAT is `batch` (seconds for all lines together, after a few to warm up), `single` (milliseconds of each
line by itself) or `memory` (most resident megabytes of a process that loads, translates 100 lines together and ends).
"""

import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

WARM, REMEMBERED = 32, 100

Translate = Callable[[Sequence[str]], list[str]]


def opened(kind: str, folder: str, beam: int, alone: bool) -> Translate:
    """Return a function that translates lines with one thread."""
    if kind == "export":
        sys.path.insert(0, folder)
        from translate import ExportedTranslator  # type: ignore[import-not-found]

        model = ExportedTranslator(folder, threads=1)
        return lambda lines: list(model.translate(list(lines), beam=beam))
    from pymarian import Translator  # type: ignore[import-not-found]

    batches = "--mini-batch 1 --maxi-batch 1" if alone else "--mini-batch 64 --maxi-batch 100 --maxi-batch-sort src"
    marian = Translator(f"-c {folder}/decoder.yml --cpu-threads 1 --quiet -w 512 --beam-size {beam} {batches}")

    def translate(lines: Sequence[str]) -> list[str]:
        found: list[str] = marian.translate("\n".join(lines)).split("\n")
        return found

    return translate


def most_resident_mb() -> float:
    """Return what Linux noted since this program began; `getrusage` counts the process before it as well."""
    status = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    [peak] = (line.split()[1] for line in status if line.startswith("VmHWM:"))
    return int(peak) * 1024 / 1e6


def main(kind: str, folder: str, file: str, beam: str, what: str) -> None:
    lines = Path(file).read_text(encoding="utf-8").removesuffix("\n").split("\n")
    translate = opened(kind, folder, int(beam), what == "single")
    if what == "memory":
        translate(lines[:REMEMBERED])
        figures: dict[str, object] = {"mb": most_resident_mb()}
    elif what == "batch":
        translate(lines[:WARM])
        began = time.perf_counter()
        found = translate(lines)
        figures = {"seconds": time.perf_counter() - began, "text": found}
    else:
        for line in lines[:WARM]:
            translate([line])
        times, found = [], []
        for line in lines:
            began = time.perf_counter()
            found += translate([line])
            times.append(1e3 * (time.perf_counter() - began))
        figures = {"ms": times, "text": found}
    print(json.dumps(figures))


if __name__ == "__main__":
    main(*sys.argv[1:])
