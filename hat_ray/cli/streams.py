"""How a command ends when its streams or signals end it: quietly, with the code that a shell expects.

130 Ctrl-C; 143 SIGTERM; 141 the reader of stdout has gone (`| head -1`); 1 stdout cannot be written; 2 stdout is
closed.
"""

import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, NoReturn

from hat_ray.core import console
from hat_ray.errors import RunError

STOPPED, ENDED, UNREAD = 128 + signal.SIGINT, 128 + signal.SIGTERM, 128 + 13
_interrupted = threading.Event()
_stopped = threading.Event()
AGAIN = "run the same command again"
"""How a command that was stopped is resumed."""


@contextmanager
def handled_signals(again: str = AGAIN) -> Iterator[None]:
    """Let Ctrl-C and SIGTERM stop the work within, and a second Ctrl-C end the process at once.

    SIGTERM prints one line, which says to do `again`. It is printed before the work unwinds, and the log is silent from
    then on: who sends SIGTERM, such as `ray job stop`, often sends SIGKILL some seconds later.
    """
    _interrupted.clear()
    _stopped.clear()
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, _interrupt)
    signal.signal(signal.SIGTERM, lambda *_: _end(again))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def _interrupt(*_: Any) -> None:
    _interrupted.set()
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    raise KeyboardInterrupt


def _end(again: str) -> None:
    if not _stopped.is_set():
        _stopped.set()
        logging.disable()
        with suppress(OSError):  # unbuffered: the signal may have interrupted a write to stderr
            os.write(2, f"hat-ray: stopped by SIGTERM: {again} to resume\n".encode())
    sys.exit(ENDED)


def interrupted() -> bool:
    """Report whether Ctrl-C was pressed: what a library then raises, half imported, is no fault."""
    return _interrupted.is_set()


def require_open() -> None:
    """Give closed streams a place that is no file of ours; raises RunError where stdout is closed."""
    closed = sys.stdout is None
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:  # the next file to be opened would get this number, and all that is printed
            os.open(os.devnull, os.O_RDWR)
    if closed:
        raise RunError("stdout is closed, so that results have no place to go: leave it open, or name /dev/null")


def code_of(end: SystemExit) -> int:
    """Return the exit code that a command's end means."""
    reasons, current = set(), end.__context__
    while current is not None and current not in reasons:
        reasons.add(current)
        current = current.__cause__ or current.__context__
    if interrupted() or any(isinstance(reason, KeyboardInterrupt) for reason in reasons):
        return STOPPED
    if any(isinstance(reason, BrokenPipeError) for reason in reasons):
        return UNREAD
    if end.code == signal.SIGTERM:  # Ray's handler of the signal
        return ENDED
    return end.code if isinstance(end.code, int) else int(end.code is not None)


def leave(code: int) -> NoReturn:
    """End with a code, once what was printed is written."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        code = UNREAD
        _give_stdout_up()
    except OSError as error:
        console.say(f"hat-ray: error: stdout cannot be written: {error.strerror}")
        code = 1
        _give_stdout_up()
    else:
        if code == UNREAD:
            _give_stdout_up()
    sys.exit(code)


def _give_stdout_up() -> None:
    """Let Python's own last try to write go nowhere, instead of complaining."""
    with suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
