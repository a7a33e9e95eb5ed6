"""The command line of an exported loader: lines from stdin to stdout, in order.

The exporter puts this file's text into the loader, which has to work alone: nothing but Python's own library here.

Exit codes: 0 success; 1 output cannot be written; 2 a mistake in what was given, told in one line. A reader that ends
early (`| head -1`) or Ctrl-C ends it by its signal, and quietly.
"""

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

_MARK = b"\xef\xbb\xbf"


def translate_stdin(open_translator: Callable[[Path, int], Any], folder: Path) -> int:
    """Translate with the model that a function opens, as the command's options say; return the exit code."""
    parser = argparse.ArgumentParser(description="Translate lines from stdin to stdout, in order.")
    parser.add_argument("--folder", default=folder, type=Path, help="the exported model")
    parser.add_argument("--threads", default=1, type=_at_least(0), help="0: one for each core")
    parser.add_argument("--beam", default=None, type=_at_least(1), help="hypotheses kept; default: the manifest's")
    parser.add_argument("--chunk", default=256, type=_at_least(1), help="lines translated together")
    options = parser.parse_args()
    settings = {} if options.beam is None else {"beam": options.beam}
    try:
        if sys.stdin is None or sys.stdout is None:
            raise ValueError("stdin and stdout must be open: give it lines by `< FILE`")
        translator = open_translator(options.folder, options.threads)
        for chunk in read_chunks(sys.stdin.buffer, options.chunk):
            sys.stdout.buffer.write("".join(f"{line}\n" for line in translator.translate(chunk, **settings)).encode())
            sys.stdout.buffer.flush()
    except ValueError as error:
        return _tell(error, 2)
    except OSError as error:
        return _tell(error, 1)
    return 0


def read_chunks(stream: BinaryIO, size: int) -> Iterator[list[str]]:
    """Yield lines, `size` at once; a line ends at a line feed only. Raises ValueError for what is not UTF-8."""
    chunk: list[str] = []
    for number, line in enumerate(stream, 1):
        content = line.removeprefix(_MARK) if number == 1 else line
        try:
            chunk.append(content.removesuffix(b"\n").removesuffix(b"\r").decode("utf-8"))
        except UnicodeDecodeError as error:
            raise ValueError(f"stdin must be UTF-8, got byte {content[error.start]:#x} in line {number}") from error
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _at_least(least: int) -> Callable[[str], int]:
    def whole(text: str) -> int:
        if (number := int(text)) < least:
            raise argparse.ArgumentTypeError(f"must be at least {least}, got {number}")
        return number

    return whole


def _tell(error: Exception, code: int) -> int:
    """Say what is wrong in one line; what waits in stdout is given up."""
    if sys.stderr is not None:
        print(f"translate.py: error: {' '.join(str(error).split())}", file=sys.stderr)  # noqa: T201
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # else Python would try once more to write it, and complain
    return code
