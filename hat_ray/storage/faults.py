"""Faults of a storage: the error that an `OSError` stands for, and whether it may pass by itself.

Decisions
- PyArrow gives errors of local disks an `errno`, and those of object stores only a text, which is read here.
- What stays after all patience (`patience.py`) is one line with path, cause and remedy. It is no damage, and no file
  that is missing.
"""

import errno
import os
import re
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from enum import Enum
from pathlib import Path

from hat_ray.errors import DeniedError, HatRayError, NoRoomError, NotFoundError, StorageError
from hat_ray.storage import places
from hat_ray.storage.plain_file import kind_of


class Fault(Enum):
    """Kinds of what an `OSError` of a storage stands for."""

    MISSING = "missing"
    NO_FOLDER = "no folder"
    """A file stands where a folder should be, or a folder where a file should be."""
    UNUSABLE = "unusable"
    """A path that the system refuses to follow."""
    DENIED = "denied"
    FULL = "full"
    READ_ONLY = "read-only"
    PASSING = "passing"
    LASTING = "lasting"


OF_WRITING = (Fault.DENIED, Fault.FULL, Fault.READ_ONLY, Fault.PASSING)
"""Exceptions that end a block that writes a file."""
_MISTAKES = (Fault.MISSING, Fault.NO_FOLDER, Fault.UNUSABLE)
"""What stands for a path that the user can mend."""
_BY_ERRNO = {
    **dict.fromkeys((errno.ENOENT,), Fault.MISSING),
    **dict.fromkeys((errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY), Fault.NO_FOLDER),
    **dict.fromkeys((errno.ELOOP, errno.ENAMETOOLONG, errno.EINVAL), Fault.UNUSABLE),
    **dict.fromkeys((errno.EACCES, errno.EPERM), Fault.DENIED),
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), Fault.FULL),
    **dict.fromkeys((errno.EROFS,), Fault.READ_ONLY),
    **dict.fromkeys(
        (
            *(errno.EIO, errno.ESTALE, errno.EAGAIN, errno.EINTR, errno.ETIMEDOUT, errno.EREMOTEIO, errno.EBUSY),
            *(errno.ECONNRESET, errno.ECONNREFUSED, errno.ECONNABORTED, errno.ENOTCONN, errno.EPIPE),
            *(errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETDOWN, errno.ENETUNREACH, errno.ENETRESET),
        ),
        Fault.PASSING,
    ),
}
_MISSING = re.compile(
    r"NO_SUCH_BUCKET|NO_SUCH_KEY|Bucket '[^']*' not found|RESOURCE_NOT_FOUND|HTTP status 404|ContainerNotFound"
    r"|BlobNotFound|Path does not exist"
)
_DENIED = re.compile(
    r"ACCESS_DENIED|HTTP status 40[013]|ExpiredToken|INVALID_ACCESS_KEY_ID|SIGNATURE|INVALID_CLIENT_TOKEN_ID"
    r"|UNRECOGNIZED_CLIENT|REQUEST_EXPIRED|MISSING_AUTHENTICATION|PERMISSION_DENIED|UNAUTHENTICATED|AuthenticationFailed"
    r"|AuthorizationFailure"
)
_WRONG_KIND = re.compile(r"(is a|is not a|Not a) directory")
_OBJECT_STORE = re.compile(r"AWS Error|google::cloud::Status|Azure")
_LASTING = re.compile(r"libjvm|libhdfs|NOT_IMPLEMENTED")
_NOISE = re.compile(r"\s*\((Request|Host) ID: [^)]*\)?")


def may_pass(error: OSError, remote: bool) -> bool:
    """Whether trying again may help: a storage that did not answer, or credentials that may be renewed."""
    fault = fault_of(error, remote)
    return fault == Fault.PASSING or (fault == Fault.DENIED and remote)


def fault_of(error: OSError, remote: bool) -> Fault:
    """Return the meaning of an error of a local or remote storage."""
    if isinstance(error, FileNotFoundError):
        return Fault.MISSING
    text = str(error)
    if error.errno is not None:
        return _BY_ERRNO.get(error.errno, Fault.PASSING if remote else Fault.LASTING)
    if _WRONG_KIND.search(text):
        return Fault.NO_FOLDER
    for pattern, fault in ((_MISSING, Fault.MISSING), (_DENIED, Fault.DENIED), (_LASTING, Fault.LASTING)):
        if pattern.search(text):
            return fault
    return Fault.PASSING if remote else Fault.LASTING


@contextmanager
def telling(place: str, remote: bool, only: Collection[Fault] = tuple(Fault)) -> Iterator[None]:
    """Turn an `OSError` of the block into the error that it stands for; kinds that are not in `only` stay."""
    try:
        yield
    except OSError as error:
        if isinstance(error, HatRayError) or fault_of(error, remote) not in only:
            raise
        raise error_of(error, place, remote) from error


def error_of(error: OSError, place: str, remote: bool) -> HatRayError | StorageError:
    """Return the error of ours that an `OSError` of a place stands for: one line of path, cause and remedy."""
    fault, shown, why = fault_of(error, remote), places.shown(place), cause(error)
    if fault in _MISTAKES:
        return _mistake(fault, shown, why, "a file" if remote else kind_at(place))
    if fault in (Fault.FULL, Fault.READ_ONLY):
        remedy = "make room there and run it again" if fault == Fault.FULL else "mount it for writing, or name another"
        return NoRoomError(f"{shown} cannot be written ({why}; {free_space(place)}): {remedy}")
    if fault == Fault.DENIED:
        remedy = "renew the credentials or ask for the right" if remote else "ask for the right, or name another folder"
        return DeniedError(f"access to {shown} is refused ({why}): {remedy}, then run it again")
    return StorageError(
        f"{shown} does not answer as it should ({why}): nothing was lost, run it again when the storage works"
    )


def kind_at(place: str) -> str:
    """Return the kind of entry at a local place, or at the nearest one above it that exists, in words."""
    for path in (Path(place), *Path(place).parents):
        with suppress(OSError, ValueError):
            kind = kind_of(os.stat(path).st_mode)
            return kind if kind and (kind != "a folder" or path == Path(place)) else "a file"
    return "a file"


def _mistake(fault: Fault, shown: str, why: str, kind: str) -> HatRayError:
    if fault == Fault.MISSING:
        no_bucket = "ucket" in why or "NO_SUCH_BUCKET" in why or "ContainerNotFound" in why
        remedy = f" ({why}): create the bucket, or name another place" if no_bucket else ": name a place that does"
        return NotFoundError(f"{shown} does not exist{remedy}")
    wanted = "a file" if kind == "a folder" else "a folder"
    reason = f"{kind} stands where {wanted} should be, " if fault == Fault.NO_FOLDER else ""
    return HatRayError(f"{shown} cannot be used ({why}): {reason}name another place")


def require_no_fault(error: OSError, place: str) -> None:
    """Raise the StorageError that an error of a local file stands for; return for a file that is missing or damaged.

    Decoders also raise an `OSError` for damage: without the number that the system gives to its own.
    """
    if error.errno is not None and fault_of(error, remote=False) not in _MISTAKES:
        raise error_of(error, place, remote=False) from error


def cause(error: BaseException) -> str:
    """Return an error's text, in one line without secrets."""
    if isinstance(error, OSError) and error.errno is not None and "AWS" not in str(error):
        return os.strerror(error.errno)
    first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return places.redacted(_NOISE.sub("", first)).strip()


def free_space(place: str) -> str:
    """Return the free space of a local place, for people; empty for other storages."""
    if places.is_uri(place):
        return "free space unknown"
    folder = Path(place) if place.startswith("/") else Path.cwd()
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    try:
        return f"{shutil.disk_usage(folder).free / 1e6:,.0f} MB free"
    except OSError:
        return "free space unknown"


def machine_failure(error: BaseException) -> StorageError | None:
    """Return the failure that an error from outside a `Folder` is: a full or read-only disk, an I/O error.

    What another program's library reports as a text of its own (`No space left on device`) counts as well.
    """
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        if isinstance(current, OSError) and _OBJECT_STORE.search(str(current)):
            result = error_of(current, "the storage", remote=True)
            return result if isinstance(result, StorageError) else None
        number = current.errno if isinstance(current, OSError) else _errno_in(str(current))
        if number in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE):
            place = getattr(current, "filename", None)
            result = error_of(OSError(number, os.strerror(number)), str(place or "a file of this machine"), False)
            return result if isinstance(result, StorageError) else None
        current = current.__cause__ or current.__context__
    return None


def _errno_in(text: str) -> int | None:
    numbers = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)
    return next((number for number in numbers if os.strerror(number) in text), None)
