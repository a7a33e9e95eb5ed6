"""Who may write into a folder: whoever took the highest number.

`lease/00000007.json` in the folder says who holds number 7. Taking a folder is creating the file of the next number.

Decisions
- "Create it where none stands" is one atomic step on local disks, on shared folders and on object stores with
  conditional writes. So no two processes hold one number, and no lock of the operating system is needed, which
  shared folders have only by name.
- The number is a fencing token: every change of the folder asks first whether a higher one was taken (`Folder.fence`),
  in the driver and in each worker that it started. Whoever was stopped for an hour writes nothing when it wakes up.
- A holder is gone when its process is: on this machine its id and start time tell. Of a process elsewhere only its
  renewals are seen. They are watched for `SILENCE_S`, by this machine's own clock alone: clocks of two machines are
  never compared.
- A thread renews. The interpreter may be held by one long call (SentencePiece learns for minutes): `SILENCE_S` is
  chosen far longer than `RENEW_S`, and whoever is taken for dead by mistake ends in one line and loses no file.
- A released number stays, marked as such, so that numbers only grow.
"""

import logging
import os
import platform
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
from hat_ray.storage import Folder

log = logging.getLogger(__name__)

FOLDER = "lease"
RENEW_S = 10.0
SILENCE_S = 120.0
"""After so long without a renewal a process of another machine counts as gone."""
_LOOK_S = 1.0
_STARTED = 19
"""Place of the start time in /proc/PID/stat, counted from the state on."""
_NUMBER = re.compile(r"(\d{8})\.json")


class InUseError(RunError):
    """Another process works in the folder."""


class TakenOverError(RunError):
    """Another process has taken the folder from this one."""


@dataclass(frozen=True)
class Holder:
    """What a lease's file says: which process has the folder, and since when."""

    token: str
    host: str
    process: int
    machine: str
    """Names the table of processes that `process` stands in: a boot of a machine, and a container on it."""
    started: str
    """When the process began, as its machine counts; empty where that is not told."""
    since: str
    """UTC, ISO 8601."""
    renewals: int = 0
    released: bool = False

    @classmethod
    def this_process(cls) -> "Holder":
        now = datetime.now(UTC).isoformat(timespec="seconds")
        return cls(uuid.uuid4().hex, platform.node(), os.getpid(), _machine(), _started(os.getpid()), now)

    def __str__(self) -> str:
        return f"process {self.process} on {self.host}, since {self.since}"

    def is_alive(self) -> bool | None:
        """Tell whether the process runs; None where this machine cannot know."""
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
        """Take the folder, from whoever has it."""
        folder, holder = Folder(folder.uri), Holder.this_process()
        while True:
            lease = cls(folder, _highest(folder) + 1, holder.token)
            if lease._create(holder):
                return lease

    def check(self) -> None:
        """Raise TakenOverError when the folder is another's now."""
        highest = _highest(self.folder)
        content = _content(self.folder, highest)
        holder = _holder(content)
        if highest == self.number and holder is not None and holder.token == self.token and not holder.released:
            return
        if highest == 0:
            raise TakenOverError(f"{self.folder} was deleted or moved while this process worked in it: it ends here")
        raise TakenOverError(
            f"one process at a time may work in {self.folder}; it was taken over by {holder or 'an unknown process'}: "
            "this one ends, and the other one goes on from what was saved"
        )

    def renew(self, *, released: bool = False) -> None:
        """Show that the holder is alive, or has gone; raises TakenOverError."""
        self.check()
        holder = _holder(_content(self.folder, self.number))
        if holder is not None:
            self._write(replace(holder, renewals=holder.renewals + 1, released=released))

    def release(self) -> None:
        """Leave the folder, if it is still ours."""
        try:
            self.renew(released=True)
        except (TakenOverError, StorageError, OSError) as error:
            log.debug("nothing was released: %s", error)

    def _create(self, holder: Holder) -> bool:
        """Take the number, and delete the lower ones; False where another process was quicker."""
        if not self._files.create(_name(self.number), _HOLDER.dump_json(holder)):
            return False
        for name in self._files.list():
            if (found := _NUMBER.fullmatch(name)) and int(found[1]) < self.number:
                self._files.delete(name)
        return True

    def _write(self, holder: Holder) -> None:
        self._files.write_json(_name(self.number), asdict(holder))

    @property
    def _files(self) -> Folder:
        return self.folder.child(FOLDER)


@contextmanager
def held(folder: Folder, take_over: bool = False) -> Iterator[Lease]:
    """Hold a folder while the block runs, and renew; raises InUseError where a process that lives has it.

    With `take_over` the folder is taken from whoever has it.
    """
    lease = Lease.take(folder) if take_over else _take_free(Folder(folder.uri))
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
        except TakenOverError as error:  # whoever writes next is told the same
            log.warning("%s", error)
            return
        except (StorageError, OSError, HatRayError) as error:
            log.debug("the lease of %s could not be renewed: %s", lease.folder, error)


def _take_free(folder: Folder) -> Lease:
    while True:
        number, holder = _highest(folder), Holder.this_process()
        _wait_until_free(folder, number)
        lease = Lease(folder, number + 1, holder.token)
        if lease._create(holder):
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
            log.warning("%s was left by %s: this process goes on there", folder, who)
            return
        if seen is None:
            log.info("%s is held by %s: it is watched for up to %.0f s for a sign of life", folder, who, SILENCE_S)
        seen = content
        time.sleep(_LOOK_S)


def _highest(folder: Folder) -> int:
    """Return the highest number taken; 0 where none is."""
    return max((int(found[1]) for name in folder.child(FOLDER).list() if (found := _NUMBER.fullmatch(name))), default=0)


def _content(folder: Folder, number: int) -> bytes | None:
    try:
        return folder.child(FOLDER).read_bytes(_name(number))
    except FileNotFoundError:
        return None


def _holder(content: bytes | None) -> Holder | None:
    try:
        return None if content is None else _HOLDER.validate_json(content)
    except ValidationError:
        return None


def _name(number: int) -> str:
    return f"{number:08d}.json"


def _machine() -> str:
    """Name this boot of this machine, and the container that this process runs in."""
    boot = _text(Path("/proc/sys/kernel/random/boot_id"))
    try:
        container = os.readlink("/proc/self/ns/pid")
    except OSError:
        container = ""
    return f"{platform.node()} {boot} {container}".strip()


def _is_running(process: int, started: str) -> bool | None:
    """Tell whether the process with this id runs that began then; None where the system does not say."""
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        pass  # it is another user's
    now = _started(process)
    return now == started if now and started else None


def _started(process: int) -> str:
    """Return when a process began, `ended` for one that only waits to be buried, or nothing where that is not told."""
    fields = _text(Path(f"/proc/{process}/stat")).rpartition(")")[2].split()
    if len(fields) <= _STARTED:
        return ""
    return "ended" if fields[0] in ("Z", "X") else fields[_STARTED]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
