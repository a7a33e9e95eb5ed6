"""An exported translate.py as a filter: closed and full streams, early ends, signals, text that is none."""

import os
import random
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.damage import damaged
from tests.exported import Exported
from tests.waiting import wait_for

KINDS = ["exported", pytest.param("exported_ct2", marks=pytest.mark.slow)]


@pytest.fixture(params=KINDS)
def script(request: pytest.FixtureRequest) -> Path:
    made: Exported = request.getfixturevalue(request.param)
    return made.folder / "translate.py"


def shell(script: Path, rest: str, stdin: bytes = b"A dog runs.\n") -> subprocess.CompletedProcess[bytes]:
    """Run `python translate.py` with the shell's redirections behind it; the exit code is the loader's."""
    command = f'set -o pipefail; "{sys.executable}" "{script}" {rest}'
    return subprocess.run(["bash", "-c", command], input=stdin, capture_output=True, timeout=240, check=False)


@pytest.mark.parametrize(
    ("rest", "stdin", "code", "words"),
    [
        ("", "\ufeffA dog runs.\r\n\u2028x\n".encode(), 0, b""),
        ("<&-", b"", 2, b"stdin and stdout must be open"),
        (">&-", b"A dog\n", 2, b"stdin and stdout must be open"),
        ("2>&-", b"A dog\n", 0, b""),
        ("</dev/null", b"", 0, b""),
        (">/dev/full", b"A dog\n", 1, b"No space left"),
        ("--chunk 1 | head -1", b"A dog\n" * 3000, 141, b""),
        ("", b"fine\ncaf\xe9\n", 2, b"must be UTF-8, got byte 0xe9 in line 2"),
        ("--beam 0", b"A dog\n", 2, b"must be at least 1, got 0"),
        ("--folder /nowhere", b"A dog\n", 2, b"is not a whole export"),
    ],
)
def test_streams_end_with_their_code_in_one_line_or_none(
    script: Path, rest: str, stdin: bytes, code: int, words: bytes
) -> None:
    done = shell(script, rest, stdin)
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert b"Traceback" not in done.stderr
    told = [line for line in done.stderr.splitlines() if not line.startswith((b"usage", b" "))]
    assert len(told) == (1 if words else 0), done.stderr


def test_a_byte_order_mark_and_carriage_returns_are_no_text(script: Path) -> None:
    plain = shell(script, "", b"A dog runs.\nTwo men.\n")
    marked = shell(script, "", "\ufeffA dog runs.\r\nTwo men.\r\n".encode())
    assert (marked.returncode, marked.stdout) == (0, plain.stdout)
    assert len(plain.stdout.splitlines()) == 2


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs /proc")
@pytest.mark.parametrize("reached", ["_sentencepiece", "libctranslate2|onnxruntime_pybind11", "reading"])
def test_ctrl_c_at_any_moment_is_quiet(script: Path, reached: str) -> None:
    """While it imports one library or another, and while it waits for lines."""
    process = subprocess.Popen(
        [sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    if reached == "reading":
        process.stdin.write(b"A dog runs.\n" * 256)
        process.stdin.flush()
        process.stdout.readline()
    else:
        wait_for(lambda: re.search(reached, Path(f"/proc/{process.pid}/maps").read_text()), every_s=0)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=240)
    assert (process.returncode, said) == (-signal.SIGINT, b"")


@pytest.mark.parametrize("seed", range(4))
def test_a_damaged_export_is_told_in_one_line(script: Path, seed: int, tmp_path: Path) -> None:
    rng = random.Random(seed)
    place = tmp_path / "copy"
    shutil.copytree(script.parent, place)
    path = place / rng.choice(sorted(os.listdir(place)))
    if path.name == "translate.py":
        path = place / "manifest.json"
    path.write_bytes(damaged(path.read_bytes(), rng))
    done = shell(place / "translate.py", "")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr


@pytest.mark.parametrize(
    ("export", "library"),
    [
        *(("exported", library) for library in ("numpy", "onnxruntime", "sentencepiece")),
        *(
            pytest.param("exported_ct2", library, marks=pytest.mark.slow)
            for library in ("ctranslate2", "sentencepiece")
        ),
    ],
)
def test_a_missing_library_is_named_in_one_line(request: pytest.FixtureRequest, export: str, library: str) -> None:
    made: Exported = request.getfixturevalue(export)
    script = made.folder / "translate.py"
    code = (
        "import runpy, sys; sys.modules[sys.argv[1]] = None; del sys.argv[1]; "
        "runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    program = f"import sys; sys.argv = [{str(script)!r}, {library!r}]; {code}"
    done = subprocess.run(
        [sys.executable, "-I", "-c", program], input=b"A dog.\n", capture_output=True, timeout=240, check=False
    )
    assert (done.returncode, done.stdout) == (2, b""), done.stderr
    [line] = done.stderr.decode().splitlines()
    assert line.startswith("translate.py: error: ")
    assert f"pip install {library}" in line
