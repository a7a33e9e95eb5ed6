"""Commands whose streams are closed or full, whose reader has gone, or that are stopped: quiet, with the right code."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.exported import Exported
from tests.waiting import wait_for

ROOT = Path(__file__).parents[2]


def slow(*case: object) -> object:
    """Return a case that is tried in the slow lane only: each costs the start of a command."""
    return pytest.param(*case, marks=pytest.mark.slow)


def shell(command: str, stdin: bytes = b"", *, folder: Path) -> subprocess.CompletedProcess[bytes]:
    """Run `hat-ray ...` with the shell's redirections behind it; the exit code is its own."""
    script = f'set -o pipefail; "{sys.executable}" -m hat_ray.cli {command}'
    return subprocess.run(
        ["bash", "-c", script], input=stdin, capture_output=True, timeout=240, check=False, cwd=folder
    )


@pytest.mark.parametrize(
    ("command", "code", "words"),
    [
        ("recipe show toy >/dev/full", 1, "No space left"),
        ("recipe schema | true", 141, ""),
        ("recipe list >&-", 2, "stdout is closed"),
        slow("recipe list 2>&-", 0, ""),
        slow("recipe list 2>/dev/full", 0, ""),
        slow("recipe list <&-", 0, ""),
        ("recipe show nothing 2>/dev/full", 2, ""),
        slow("recipe show nothing 2>&-", 2, ""),
        slow("recipe show nothing >/dev/full", 2, "nothing"),
    ],
)
def test_streams_of_any_command(command: str, code: int, words: str, tmp_path: Path) -> None:
    done = shell(command, folder=tmp_path)
    told = done.stderr.decode()
    assert done.returncode == code, told
    assert "Traceback" not in told
    assert "Exception ignored" not in told
    assert words in told
    if words:
        assert len(told.splitlines()) == 1


@pytest.mark.parametrize(
    ("redirected", "code", "words"),
    [
        slow("<&-", 2, "stdin is closed"),
        slow("</dev/null", 0, ""),
        (">/dev/full", 1, "No space left"),
        slow("| head -1", 141, ""),
    ],
)
def test_streams_of_translate(exported: Exported, redirected: str, code: int, words: str, tmp_path: Path) -> None:
    lines = "\n".join(exported.lines * 30) + "\n"
    done = shell(f'translate "{exported.folder}" --threads 1 {redirected}', lines.encode(), folder=tmp_path)
    told = done.stderr.decode()
    assert done.returncode == code, told
    assert words in told
    assert len(told.splitlines()) == bool(words), told


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs /proc")
@pytest.mark.parametrize(
    ("reached", "number", "code"),
    [
        ("_pydantic_core", signal.SIGINT, (-signal.SIGINT, 130)),
        slow("libtorch_cpu", signal.SIGINT, (130,)),
        ("libtorch_python", signal.SIGINT, (130,)),
        slow("_sentencepiece", signal.SIGINT, (130,)),
        slow("reading", signal.SIGINT, (130,)),
        slow("libtorch_python", signal.SIGTERM, (143,)),
        slow("reading", signal.SIGTERM, (143,)),
    ],
)
def test_signals_at_any_moment(
    exported: Exported, reached: str, number: int, code: tuple[int, ...], tmp_path: Path
) -> None:
    """While the command line is imported, while libraries are, and while it waits for lines."""
    process = subprocess.Popen(
        [sys.executable, "-m", "hat_ray.cli", "translate", str(exported.folder), "--threads", "1"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=tmp_path,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    if reached == "reading":
        process.stdin.write(b"A dog runs.\n")
        process.stdin.flush()
        process.stdout.readline()
    else:
        wait_for(lambda: re.search(reached, Path(f"/proc/{process.pid}/maps").read_text()), every_s=0)
    process.send_signal(number)
    _, said = process.communicate(timeout=240)
    assert process.returncode in code, said
    message = said.decode()
    assert "Traceback" not in message
    reason = "stopped by SIGTERM" if number == signal.SIGTERM else "interrupted"
    assert message in ("", f"hat-ray: {reason}: run the same command again to resume\n")
    assert message or number != signal.SIGTERM
