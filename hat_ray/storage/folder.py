"""A folder on any file system that PyArrow knows (local path, s3://, gs://, hdfs://), with atomic writes.

Decisions
- A file appears whole or not at all: it is written under a temporary name and then renamed. An object store shows an
  upload when it is whole; what goes there is kept on this machine first, so that an upload that fails is tried again.
- On local disks a file that has its name has its content too, also after a power cut: file and folder are synced. It
  costs 12 ms a file of 1 kB to 1 MB on a busy virtual disk (0.05 to 0.25 ms without), 0.3 s for 50 MB (0.03 s); what
  may be lost is written with `durable=False`.
- Names are relative and may not leave the folder. Deleting takes such a name: no folder deletes itself, so nothing
  that a user names is ever deleted whole.
- An `OSError` leaves here as the error that it stands for (`faults.py`): missing, denied, no room, or a storage that
  did not answer however long it was asked (`patience.py`).
- A `Folder` pickles as its URI, so that actors on other nodes open it for themselves.
- A folder may carry a fence: then nothing in it or below it is written, renamed or deleted before the fence agrees,
  in whatever process that happens.
"""

import json
import os
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from mmap import mmap
from pathlib import Path
from typing import Any, Protocol, TypeVar

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from hat_ray.errors import DamagedError, HatRayError, NotFoundError
from hat_ray.storage import faults, file_systems, local_disk, places
from hat_ray.storage.patience import PatientFile, patiently

Result = TypeVar("Result")
_SPOOL_BYTES = 1 << 26  # what is written to a remote storage is kept in memory up to here, beyond it on the local disk
_BLOCK_BYTES = 1 << 22
_LARGEST_COPY = 4 << 30  # object stores copy no larger file in one request
_WITH_BUCKETS = ("s3", "gcs")
_seen_buckets: set[tuple[str, str]] = set()


class Fence(Protocol):
    """The right to write into a folder; it may end at any moment."""

    def check(self) -> None:
        """Raise HatRayError when the right has ended."""


@dataclass(frozen=True)
class Folder:
    """One folder, named by an absolute local path or a URI in its canonical spelling."""

    uri: str
    fence: Fence | None = field(default=None, compare=False, repr=False)
    """Fence that must allow each change of this folder; None: no fence."""
    patience_s: float | None = field(default=None, compare=False, repr=False)
    """Seconds for which a storage that does not answer is asked again; None: as long as is set (`patience.py`)."""

    @classmethod
    def at(cls, place: "str | Path | Folder") -> "Folder":
        """Open a folder without creating it; raises HatRayError for a place that has no clear meaning."""
        return place if isinstance(place, Folder) else cls(places.canonical(str(place)))

    def __getstate__(self) -> dict[str, object]:
        return {"uri": self.uri, "fence": self.fence}

    def __str__(self) -> str:
        """Return the place for people: without its query, so that a file's name may follow."""
        return places.shown(self.uri).partition("?")[0] if not self.is_local else self.uri

    def __repr__(self) -> str:
        return f"Folder({str(self)!r})"

    @property
    def is_local(self) -> bool:
        return not places.is_uri(self.uri)

    @property
    def name(self) -> str:
        """The last part of the folder's path."""
        return places.last_names(self.uri, 1)

    @property
    def label(self) -> str:
        """The last two parts of the folder's path: a name for it among others."""
        return places.last_names(self.uri, 2)

    @classmethod
    def of_file(cls, place: str) -> tuple["Folder", str]:
        """Return the folder and the name of a file that a path or URI names."""
        parent, name = places.split(places.canonical(place))
        return cls(parent), name

    def place_of(self, name: str) -> str:
        """Return the path or URI of a file in here."""
        return places.joined(self.uri, [name])

    def shown(self, name: str) -> str:
        """Return the place of a file in here, for people."""
        return places.shown(places.joined(self.uri, [name]))

    @cached_property
    def _place(self) -> tuple[pafs.FileSystem, str]:
        if self.is_local:
            return pafs.LocalFileSystem(), self.uri
        try:
            file_system, path = file_systems.open_uri(self.uri)
        except (pa.ArrowInvalid, OSError) as error:
            if isinstance(error, OSError) and faults.fault_of(error, remote=True) != faults.Fault.LASTING:
                raise
            raise HatRayError(f"{self} is not a folder that PyArrow can open: {faults.cause(error)}") from error
        return file_system, path

    def path(self, name: str) -> str:
        """Return the path of `name` on this folder's file system; refuse a name that would leave the folder."""
        return f"{self.root}/{file_systems.relative_name(name)}"

    @property
    def file_system(self) -> pafs.FileSystem:
        return self._opened()[0]

    @property
    def root(self) -> str:
        """This folder's own path on its file system."""
        return self._opened()[1]

    def _opened(self) -> tuple[pafs.FileSystem, str]:
        return self._place if self.is_local else self._do(lambda: self._place)

    def child(self, *names: str) -> "Folder":
        names = tuple(file_systems.relative_name(name) for name in names)
        return self._with(Folder(places.joined(self.uri, names), self.fence, self.patience_s), *names)

    def fenced(self, fence: Fence) -> "Folder":
        """Return this folder with a fence, which every folder below it inherits."""
        return self._with(Folder(self.uri, fence, self.patience_s))

    def asked_for(self, seconds: float) -> "Folder":
        """Return this folder with a patience of its own."""
        return self._with(Folder(self.uri, self.fence, seconds))

    def _with(self, made: "Folder", *names: str) -> "Folder":
        """Let a folder here or below share this one's connection."""
        if "_place" in self.__dict__:
            made.__dict__["_place"] = (self._place[0], "/".join([self._place[1], *names]))
        return made

    def _ask_fence(self) -> None:
        if self.fence is not None:
            self.fence.check()

    def exists(self, name: str = ".") -> bool:
        target = self.root if name == "." else self.path(name)
        there = self._do(lambda: self.file_system.get_file_info(target).type != pafs.FileType.NotFound, name)
        return bool(there)

    def require(self) -> None:
        """Raise NotFoundError when this folder does not exist."""
        if not self.exists():
            self._require_bucket()
            raise NotFoundError(f"{self} does not exist: name a folder that does")

    def size(self, name: str) -> int | None:
        """Return the bytes of a file; None when there is no such file."""
        size: int | None = self.info(name).size
        return size

    def info(self, name: str) -> pafs.FileInfo:
        """Return the entry under a name: kind, size and time."""
        return self._do(lambda: self.file_system.get_file_info(self.path(name)), name)

    def list(self) -> list[str]:
        """Return the names directly inside this folder, sorted; empty when the folder does not exist."""
        return sorted(info.base_name for info in self.entries())

    def entries(self, recursive: bool = False) -> tuple[pafs.FileInfo, ...]:
        """Return the entries directly inside this folder, or anywhere below it; empty when it does not exist.

        Raises NotFoundError when the bucket does not exist: a place that was never made is not an empty one.
        """
        # a folder that another process creates while PyArrow looks is taken for one that exists and cannot be read
        selector = pafs.FileSelector(self.root, allow_not_found=True, recursive=recursive)
        found = self._do(lambda: file_systems.undisturbed(lambda: tuple(self.file_system.get_file_info(selector))))
        if not found:
            self._require_bucket()
        return found

    def read_bytes(self, name: str) -> bytes:
        def read() -> bytes:
            with file_systems.open_stream(self.file_system, self.path(name)) as stream:
                return bytes(stream.read())

        return self._do(read, name)

    @contextmanager
    def reading(self, name: str) -> Iterator[pa.NativeFile]:
        """Open a file to be read in any order; what PyArrow cannot make sense of in the block is a DamagedError."""
        try:
            if self.is_local:
                with self._do(lambda: file_systems.open_file(self.file_system, self.path(name)), name) as file:
                    yield file
            else:
                with pa.PythonFile(self._patient_file(name), mode="r") as file:
                    yield file
        except (OSError, pa.ArrowException) as error:
            if isinstance(error, HatRayError):
                raise
            if isinstance(error, OSError) and error.errno is not None:
                raise faults.error_of(error, self.shown(name), not self.is_local) from error
            raise self.damaged(name, faults.cause(error)) from error

    def _patient_file(self, name: str) -> PatientFile:
        def open_file() -> pa.NativeFile:
            return self._do(lambda: file_systems.open_file(self.file_system, self.path(name)), name)

        return PatientFile(open_file, lambda read: self._do(read, name))

    def damaged(self, name: str, why: str) -> DamagedError:
        """Return the error of a file that was read in full and whose content is wrong."""
        return DamagedError(f"{self.shown(name)} is damaged ({why}): restore it, or make it again")

    def write_bytes(self, name: str, content: bytes, durable: bool = True) -> None:
        """Write a file whole or not at all, creating folders as needed."""
        with self.writing(name, durable) as stream:
            stream.write(content)

    @contextmanager
    def writing(self, name: str, durable: bool = True) -> Iterator[pa.NativeFile]:
        """Open a file to be written piece by piece; it appears when the block ends well, and not at all otherwise."""
        target = self.path(name)
        parent, _, base = target.rpartition("/")
        aside = f"{parent}/.{base}.{uuid.uuid4().hex[:8]}.tmp"  # readers of data sets pass over names with a dot
        with self._write_here(aside, target, durable) if self.is_local else self._write_there(name, aside) as stream:
            yield stream

    @contextmanager
    def _write_here(self, aside: str, target: str, durable: bool) -> Iterator[pa.NativeFile]:
        self._ask_fence()
        new = local_disk.missing_folders(Path(target).parent) if durable else []
        with faults.telling(target, remote=False):
            self.file_system.create_dir(os.path.dirname(target), recursive=True)
        try:
            with faults.telling(target, remote=False, only=faults.OF_WRITING):
                with self.file_system.open_output_stream(aside, compression=None) as stream:
                    yield stream
                if durable:
                    local_disk.sync(aside)
                self._ask_fence()
                self.file_system.move(aside, target)
                for folder in [Path(target).parent, *new] if durable else []:
                    local_disk.sync(folder)
        except BaseException:
            with suppress(OSError):
                os.unlink(aside)
            raise

    @contextmanager
    def _write_there(self, name: str, aside: str) -> Iterator[pa.NativeFile]:
        with tempfile.SpooledTemporaryFile(_SPOOL_BYTES) as spool:
            stream = pa.PythonFile(spool, mode="w")
            yield stream
            stream.flush()
            self._ask_fence()
            with local_disk.content_of(spool, _SPOOL_BYTES) as content:
                self._put(name, aside, content)

    def _put(self, name: str, aside: str, content: bytes | mmap) -> None:
        """Upload a file: at once where that is all or nothing, else under another name first."""
        target = self.path(name)
        if self.file_system.type_name in _WITH_BUCKETS:
            self._do(lambda: self._upload(target, content), name)
            return
        try:
            self._do(lambda: self._upload(aside, content), name)
            self._do(lambda: self.file_system.move(aside, target), name)
        except BaseException:
            with suppress(OSError):
                self.file_system.delete_file(aside)
            raise

    def _upload(self, path: str, content: bytes | mmap) -> None:
        self._make_parent(path)
        with self.file_system.open_output_stream(path, compression=None) as stream:
            stream.write(content)  # in one piece: a stream that is closed after some of them keeps those

    def create(self, name: str, content: bytes) -> bool:
        """Write a file, whole, where none of this name stands; return False where one does.

        One of many wins on local and shared disks; elsewhere two that come in the same instant may.
        """
        self._ask_fence()
        if self.is_local:
            target = self.path(name)
            with faults.telling(target, remote=False):
                return local_disk.create(Path(target), content)
        if self.exists(name):
            return False
        self.write_bytes(name, content)
        return self.read_bytes(name) == content

    def read_text(self, name: str) -> str:
        content = self.read_bytes(name)
        try:
            return content.decode()
        except UnicodeDecodeError as error:
            raise self.damaged(name, f"no UTF-8 at byte {error.start}") from error

    def write_text(self, name: str, content: str) -> None:
        self.write_bytes(name, content.encode())

    def read_json(self, name: str) -> Any:
        """Read a JSON file; raises DamagedError when it is not whole."""
        text = self.read_text(name)
        try:
            return json.loads(text)
        except (ValueError, RecursionError) as error:
            raise self.damaged(name, f"no whole JSON: {faults.cause(error)}") from error

    def write_json(self, name: str, value: Any) -> None:
        self.write_text(name, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")

    def read_table(self, name: str) -> pa.Table:
        """Read one Parquet file in this thread; columns come from the file alone, never from its path."""
        content = self.read_bytes(name)
        try:
            return pq.ParquetFile(pa.BufferReader(content)).read(use_threads=False)
        except (OSError, pa.ArrowException) as error:  # nothing is read here but memory
            raise self.damaged(name, faults.cause(error)) from error

    def write_table(self, name: str, table: pa.Table) -> None:
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
        self.write_bytes(name, sink.getvalue().to_pybytes())

    def rename(self, name: str, new_name: str) -> None:
        """Rename a file or sub-folder inside this folder; what stood under the new name is replaced."""
        self.delete(new_name)
        self._ask_fence()
        self._do(lambda: self.file_system.move(self.path(name), self.path(new_name)), name)
        if self.is_local:
            local_disk.sync(os.path.dirname(self.path(new_name)))

    def copy(self, name: str, new_name: str) -> None:
        """Copy a file inside this folder, on the storage's own machines where it can."""
        if (self.size(name) or 0) >= _LARGEST_COPY or self.is_local:
            with self.reading(name) as source, self.writing(new_name) as target:
                while block := source.read(_BLOCK_BYTES):
                    target.write(block)
            return
        self._ask_fence()
        self._do(lambda: self._copy(self.path(name), self.path(new_name)), name)

    def _copy(self, path: str, new_path: str) -> None:
        self._make_parent(new_path)
        self.file_system.copy_file(path, new_path)

    def _make_parent(self, path: str) -> None:
        """Make the folder of a file that is to be written, where a storage has folders."""
        if self.file_system.type_name not in _WITH_BUCKETS:
            self.file_system.create_dir(path.rpartition("/")[0], recursive=True)

    def delete(self, name: str) -> None:
        """Delete a file or a sub-folder; nothing happens when it does not exist."""
        target = self.path(name)
        self._ask_fence()
        self._do(lambda: file_systems.undisturbed(lambda: file_systems.delete(self.file_system, target)), name)

    def delete_if_empty(self) -> None:
        """Delete this folder when nothing stands in it; nothing happens otherwise, nor on a remote storage.

        There a folder that is empty can only be deleted with all that others write into it meanwhile.
        """
        if self.is_local:
            with suppress(OSError):
                os.rmdir(self.root)

    def _do(self, action: Callable[[], Result], name: str = ".") -> Result:
        """Do something on the file system, patiently; a new connection reads the credentials anew."""
        place = self.uri if name == "." else places.joined(self.uri, [name])
        renew = None if self.is_local else lambda: self.__dict__.pop("_place", None)
        return patiently(action, place, not self.is_local, self.patience_s, renew)

    def _require_bucket(self) -> None:
        """Raise NotFoundError when the bucket is known not to exist."""
        file_system, root = self.file_system, self.root
        bucket = root.partition("/")[0]
        key = (self.uri.partition("?")[2], bucket)
        if file_system.type_name not in _WITH_BUCKETS or key in _seen_buckets:
            return
        try:
            there = file_system.get_file_info(bucket).type != pafs.FileType.NotFound
        except OSError:  # one may be allowed to list a folder, and not to look at its bucket
            there = True
        if not there:
            raise NotFoundError(f"{self} does not exist (no bucket {bucket!r}): create it, or name another place")
        _seen_buckets.add(key)
