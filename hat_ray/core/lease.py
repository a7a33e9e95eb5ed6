"""Leases: the process that took the highest number may write into a folder.

`lease/00000007.json` in the folder names the holder of number 7. Taking a folder is creating the file of the next
number.

Decisions
- On local and shared disks a file is given its name only where none has it, in one atomic step of the server: no two
  processes hold one number. No lock of the operating system is needed, which shared folders have only by name.
- On object stores each process writes a file of its own, `00000007.<token>.json`, then lists: it has the number if
  no other stands at it or above. Of two the later writer sees the earlier one, so both never have it; where both see
  each other both withdraw, and try again. It needs listings that show all that was written before, which S3, GCS
  and HDFS promise, and no conditional write, which PyArrow has not.
- The number is a fencing token: every change of the folder asks first whether a higher one was taken (`Folder.fence`),
  in the driver and in each worker that it started. A process that was stopped for an hour writes nothing when it wakes
  up.
- A holder is gone when its process is: on this machine its id and start time show it. Of a process elsewhere only its
  renewals are seen. They are watched for `SILENCE_S`, by this machine's own clock alone: clocks of two machines are
  never compared.
- A thread renews. The interpreter may be held by one long call (SentencePiece learns for minutes): `SILENCE_S` is
  chosen far longer than `RENEW_S`, and a process that is taken for dead by mistake ends in one line and loses no file.
- A released number stays, marked as such, so that numbers only grow.
"""

import logging
import os
import platform
import random
import re
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from hat_ray.errors import HatRayError, RunError, StorageError
from hat_ray.storage.folder import Folder

log = logging.getLogger(__name__)

FOLDER = "lease"
RENEW_S = 10.0
SILENCE_S = 120.0
"""After so long without a renewal a process of another machine counts as gone."""
_LOOK_S = 1.0
_STARTED = 19
"""Place of the start time in /proc/PID/stat, counted from the state on."""
_NAME = re.compile(r"(\d{8})(\.\w+)?\.json")


class InUseError(RunError):
    """Another process works in the folder."""


class TakenOverError(RunError):
    """Another process has taken the folder from this one."""


@dataclass(frozen=True)
class Holder:
    """Content of a lease's file: which process has the folder, and since when."""

    token: str
    host: str
    process: int
    machine: str
    """Names the table of processes that `process` stands in: a boot of a machine, and a container on it."""
    started: str
    """When the process began, as its machine counts; empty where the system does not report it."""
    since: str
    """UTC, ISO 8601."""
    renewals: int = 0
    released: bool = False

    @classmethod
    def this_process(cls, token: str) -> "Holder":
        now = datetime.now(UTC).isoformat(timespec="seconds")
        return cls(token, platform.node(), os.getpid(), _machine(), _started(os.getpid()), now)

    def __str__(self) -> str:
        return f"process {self.process} on {self.host}, since {self.since}"

    def is_alive(self) -> bool | None:
        """Return whether the process runs; None where this machine cannot know."""
        if self.machine != _machine():
            return None
        return _is_running(self.process, self.started)


_HOLDER = TypeAdapter(Holder)


@dataclass(frozen=True)
class Lease:
    """A folder's number, taken by one process; it agrees to writes until a higher number is taken."""

    folder: Folder
    number: int
    token: str

    @classmethod
    def take(cls, folder: Folder) -> "Lease":
        """Take the folder, from its holder."""
        while True:
            lease = cls(folder, _highest(folder) + 1, uuid.uuid4().hex)
            if lease._create():
                return lease

    def check(self) -> None:
        """Raise TakenOverError when the folder is another's now."""
        numbers = _numbers(self.folder)
        highest = max(numbers.values(), default=0)
        if highest == self.number and self._name in numbers and self._is_ours():
            return
        holder = _holder(_content(self.folder, highest))
        if highest == 0:
            raise TakenOverError(f"{self.folder} was deleted or moved while this process worked in it: it ends here")
        raise TakenOverError(
            f"one process at a time may work in {self.folder}; it was taken over by {holder or 'an unknown process'}: "
            "this one ends, and the other one resumes from what was saved"
        )

    def renew(self, *, released: bool = False) -> None:
        """Show that the holder is alive, or has gone; raises TakenOverError."""
        self.check()
        holder = _holder(self._content)
        if holder is not None:
            self._write(replace(holder, renewals=holder.renewals + 1, released=released))
        if _highest(self.folder) > self.number:  # taken between the check and the write: our file must not come back
            self._files.delete(self._name)
            self.check()

    def release(self) -> None:
        """Leave the folder, if it is still ours."""
        try:
            self.renew(released=True)
        except (TakenOverError, StorageError, OSError) as error:
            log.debug("nothing was released: %s", error)

    def _create(self) -> bool:
        """Take the number, and delete the lower ones; False where another process was quicker."""
        content = _HOLDER.dump_json(Holder.this_process(self.token))
        if not (self._create_here(content) if self.folder.is_local else self._create_there(content)):
            return False
        for name, number in _numbers(self.folder).items():
            if number < self.number:
                self._files.delete(name)
        return True

    def _create_here(self, content: bytes) -> bool:
        return self._files.create(self._name, content)

    def _create_there(self, content: bytes) -> bool:
        self._files.write_bytes(self._name, content)
        if [name for name, number in _numbers(self.folder).items() if number >= self.number] == [self._name]:
            return True
        self._files.delete(self._name)
        time.sleep(_LOOK_S * random.random())
        return False

    def _write(self, holder: Holder) -> None:
        self._files.write_json(self._name, asdict(holder))

    def _is_ours(self) -> bool:
        """Return whether the file of our name is ours: of a folder that was deleted and made again it is not."""
        if not self.folder.is_local:
            return True  # its name holds our token
        holder = _holder(self._content)
        return holder is not None and holder.token == self.token

    @property
    def _name(self) -> str:
        return f"{self.number:08d}.json" if self.folder.is_local else f"{self.number:08d}.{self.token}.json"

    @property
    def _content(self) -> bytes | None:
        return _read(self._files, self._name)

    @property
    def _files(self) -> Folder:
        return self.folder.child(FOLDER)


@contextmanager
def held(folder: Folder, take_over: bool = False) -> Iterator[Lease]:
    """Hold a folder while the block runs, and renew; raises InUseError where a process that lives has it.

    With `take_over` the folder is taken from its holder.
    """
    lease = Lease.take(folder) if take_over else _take_free(folder)
    done = threading.Event()
    renewing = threading.Thread(target=_renew, args=(lease, done), name="lease", daemon=True)
    renewing.start()
    try:
        yield lease
    finally:
        done.set()
        renewing.join()
        lease.release()


def _renew(lease: Lease, done: threading.Event) -> None:
    while not done.wait(RENEW_S):
        try:
            lease.renew()
        except TakenOverError as error:  # the next write raises the same error
            log.warning("%s", error)
            return
        except (StorageError, OSError, HatRayError) as error:
            log.debug("the lease of %s could not be renewed: %s", lease.folder, error)


def _take_free(folder: Folder) -> Lease:
    while True:
        number = _highest(folder)
        _wait_until_free(folder, number)
        lease = Lease(folder, number + 1, uuid.uuid4().hex)
        if lease._create():
            return lease


def _wait_until_free(folder: Folder, number: int) -> None:
    """Return once the holder of a number is known to be gone; raises InUseError when it is known to live."""
    seen, until = None, time.monotonic() + SILENCE_S
    while (content := _content(folder, number)) is not None:
        holder = _holder(content)
        if holder is not None and holder.released:
            return
        who, alive = str(holder or "a process whose lease is damaged"), holder.is_alive() if holder else None
        if alive or content != (seen or content):
            raise InUseError(
                f"one process at a time may work in {folder}; it is in use by {who}: wait for it, name another "
                "folder with --run, or take this one with --take-over"
            )
        if alive is False or time.monotonic() > until:
            log.warning("%s was left by %s: this process resumes there", folder, who)
            return
        if seen is None:
            log.info("%s is held by %s: it is watched for up to %.0f s for a sign of life", folder, who, SILENCE_S)
        seen = content
        time.sleep(_LOOK_S)


def _numbers(folder: Folder) -> dict[str, int]:
    """Return the numbers that are taken, or were, by the names of their files."""
    found = {name: _NAME.fullmatch(name) for name in folder.child(FOLDER).list()}
    return {name: int(match[1]) for name, match in found.items() if match}


def _highest(folder: Folder) -> int:
    return max(_numbers(folder).values(), default=0)


def _content(folder: Folder, number: int) -> bytes | None:
    """Return the content of a number's file; None where there is none."""
    for name, taken in _numbers(folder).items():
        if taken == number:
            return _read(folder.child(FOLDER), name)
    return None


def _read(files: Folder, name: str) -> bytes | None:
    try:
        return files.read_bytes(name)
    except FileNotFoundError:
        return None


def _holder(content: bytes | None) -> Holder | None:
    try:
        return None if content is None else _HOLDER.validate_json(content)
    except ValidationError:
        return None


def _machine() -> str:
    """Name this boot of this machine, and the container that this process runs in."""
    boot = _text(Path("/proc/sys/kernel/random/boot_id"))
    try:
        container = os.readlink("/proc/self/ns/pid")
    except OSError:
        container = ""
    return f"{platform.node()} {boot} {container}".strip()


def _is_running(process: int, started: str) -> bool | None:
    """Return whether the process with this id runs that began then; None where the system does not report it."""
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        pass  # it is another user's
    now = _started(process)
    return now == started if now and started else None


def _started(process: int) -> str:
    """Return when a process began, `ended` for a zombie, or nothing where the system does not report it."""
    fields = _text(Path(f"/proc/{process}/stat")).rpartition(")")[2].split()
    if len(fields) <= _STARTED:
        return ""
    return "ended" if fields[0] in ("Z", "X") else fields[_STARTED]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
