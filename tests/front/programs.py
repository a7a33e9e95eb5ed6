"""The three programs that translate lines: the command, an exported translate.py, and the service."""

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

Ask = Callable[[object], dict[str, object]]
"""What sends a request to a service and returns its answer."""

WINDOWS = """
import io, runpy, sys
program, arguments = sys.argv[1], sys.argv[2:]
for name, new_lines in (("stdin", None), ("stdout", "\\r\\n"), ("stderr", "\\r\\n")):
    stream = getattr(sys, name).detach()
    setattr(sys, name, io.TextIOWrapper(stream, encoding="cp1252", newline=new_lines, line_buffering=name == "stderr"))
sys.argv = [program, *arguments]
if program == "hat-ray":
    from hat_ray.cli import main
    sys.exit(main())
runpy.run_path(program, run_name="__main__")
"""
"""Text streams as Windows has them: its code page, and a carriage return at each end of a line."""


def command(folder: Path, content: bytes, *options: str, windows: bool = False) -> subprocess.CompletedProcess[bytes]:
    """Run `hat-ray translate`."""
    arguments = ["translate", str(folder), "--threads", "1", *options]
    start = ["-c", WINDOWS, "hat-ray"] if windows else ["-m", "hat_ray.cli"]
    return _run([*start, *arguments], content)


def exported_program(
    folder: Path, content: bytes, *options: str, windows: bool = False
) -> subprocess.CompletedProcess[bytes]:
    """Run an export's `translate.py`."""
    start = ["-c", WINDOWS] if windows else ["-I"]
    return _run([*start, str(folder / "translate.py"), *options], content)


def _run(arguments: Sequence[str], content: bytes) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, *arguments]
    return subprocess.run(command, input=content, capture_output=True, timeout=540, check=False)


def of_service(ask: Ask, lines: Sequence[str], sizes: Sequence[int], **options: object) -> list[str]:
    """Return the service's translations of lines, sent by groups of such sizes in turns: as texts, or as one text."""
    found: list[str] = []
    turn = 0
    while len(found) < len(lines):
        group = list(lines[len(found) : len(found) + sizes[turn % len(sizes)]])
        if turn % 2:
            answer = ask({"text": "\n".join(group), **options})
            found += str(answer["translation"]).split("\n")
        else:
            answer = ask({"texts": group, **options})
            translations = answer["translations"]
            assert isinstance(translations, list)
            found += translations
        turn += 1
    return found
