"""A folder on any file system that PyArrow knows (local path, s3://, gs://, hdfs://), with atomic writes.

Decisions
- A file appears whole or not at all: it is written under a temporary name and then renamed. On object stores a
  rename is a copy; there the upload itself is already all-or-nothing.
- Names are relative and may not leave the folder.
- A `Folder` pickles as its URI, so that actors on other nodes open it for themselves.
- A folder may carry a fence: then nothing in it or below it is written, renamed or deleted before the fence agrees,
  in whatever process that happens.
"""

import errno
import json
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, Protocol, TypeVar

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from hat_ray.errors import HatRayError

Result = TypeVar("Result")
_LARGEST_COPY = 4 << 30  # object stores copy no larger file in one request
_COPIED_AT_ONCE = 16 << 20
_TRIES = 10  # of what another process disturbs


class Fence(Protocol):
    """The right to write into a folder; it may end at any moment."""

    def check(self) -> None:
        """Raise HatRayError when the right has ended."""


@dataclass(frozen=True)
class Folder:
    """One folder, named by an absolute local path or a URI."""

    uri: str
    fence: Fence | None = field(default=None, compare=False, repr=False)
    """What must agree to each change of this folder; None: nobody is asked."""

    @classmethod
    def at(cls, place: "str | Path | Folder") -> "Folder":
        """Open a folder without creating it; a local path becomes absolute."""
        if isinstance(place, Folder):
            return place
        text = str(place)
        if "://" in text:
            return cls(text.rstrip("/"))
        return cls(str(Path(text).expanduser().absolute()))

    def __getstate__(self) -> dict[str, object]:
        return {"uri": self.uri, "fence": self.fence}

    def __str__(self) -> str:
        return self.uri

    @property
    def is_local(self) -> bool:
        return "://" not in self.uri

    @property
    def name(self) -> str:
        """The last part of the folder's path."""
        return self.uri.rsplit("/", 1)[-1]

    @cached_property
    def _place(self) -> tuple[pafs.FileSystem, str]:
        if self.is_local:
            return pafs.LocalFileSystem(), self.uri
        try:
            file_system, path = pafs.FileSystem.from_uri(self.uri)
        except (pa.ArrowInvalid, OSError) as error:
            raise HatRayError(f"{self.uri} is not a folder that PyArrow can open: {_first_line(error)}") from error
        return file_system, path

    def path(self, name: str) -> str:
        """Return the path of `name` on this folder's file system; refuse a name that would leave the folder."""
        pure = PurePosixPath(name)
        if pure.is_absolute() or ".." in pure.parts or "\\" in name:
            raise HatRayError(f"a file name must stay inside its folder, got {name!r}")
        return f"{self._place[1]}/{pure}"

    @property
    def file_system(self) -> pafs.FileSystem:
        return self._place[0]

    @property
    def root(self) -> str:
        """This folder's own path on its file system."""
        return self._place[1]

    def child(self, *names: str) -> "Folder":
        for name in names:
            self.path(name)
        return Folder("/".join([self.uri, *names]), self.fence)

    def fenced(self, fence: Fence) -> "Folder":
        """Return this folder with a fence, which every folder below it inherits."""
        return Folder(self.uri, fence)

    def _ask_fence(self) -> None:
        if self.fence is not None:
            self.fence.check()

    def exists(self, name: str = ".") -> bool:
        target = self.root if name == "." else self.path(name)
        return bool(self.file_system.get_file_info(target).type != pafs.FileType.NotFound)

    def list(self) -> list[str]:
        """Return the names directly inside this folder, sorted; empty when the folder does not exist."""
        return sorted(info.base_name for info in self.entries())

    def entries(self, recursive: bool = False) -> tuple[pafs.FileInfo, ...]:
        """Return what stands directly inside this folder, or anywhere below it; empty when it does not exist."""
        # a folder that another process creates while PyArrow looks is taken for one that exists and cannot be read
        selector = pafs.FileSelector(self.root, allow_not_found=True, recursive=recursive)
        return _undisturbed(lambda: tuple(self.file_system.get_file_info(selector)))

    def read_bytes(self, name: str) -> bytes:
        with self.file_system.open_input_stream(self.path(name), compression=None) as stream:
            return bytes(stream.read())

    def write_bytes(self, name: str, content: bytes) -> None:
        """Write a file whole or not at all, creating folders as needed."""
        with self.writing(name) as stream:
            stream.write(content)

    @contextmanager
    def writing(self, name: str) -> Iterator[pa.NativeFile]:
        """Open a file to be written piece by piece; it appears when the block ends well, and not at all otherwise."""
        target = self.path(name)
        parent, _, base = target.rpartition("/")
        aside = f"{parent}/.{base}.{uuid.uuid4().hex[:8]}.tmp"  # readers of data sets pass over names with a dot
        self._ask_fence()
        self.file_system.create_dir(parent, recursive=True)
        try:
            with self.file_system.open_output_stream(aside, compression=None) as stream:
                yield stream
            self._ask_fence()
            self.file_system.move(aside, target)
        except BaseException:
            if self.file_system.get_file_info(aside).type != pafs.FileType.NotFound:
                self.file_system.delete_file(aside)
            raise

    def create(self, name: str, content: bytes) -> bool:
        """Write a file, whole, where none of this name stands; return False where one does. One of many wins."""
        if not self.is_local:
            return self._create_elsewhere(name, content)
        target = Path(self.path(name))
        target.parent.mkdir(parents=True, exist_ok=True)
        aside = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.tmp")
        try:
            with open(aside, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            return _link(aside, target)
        finally:
            aside.unlink(missing_ok=True)

    def _create_elsewhere(self, name: str, content: bytes) -> bool:
        if self.exists(name):
            return False
        self.write_bytes(name, content)
        return self.read_bytes(name) == content

    def read_text(self, name: str) -> str:
        return self.read_bytes(name).decode()

    def write_text(self, name: str, content: str) -> None:
        self.write_bytes(name, content.encode())

    def read_json(self, name: str) -> Any:
        return json.loads(self.read_bytes(name))

    def write_json(self, name: str, value: Any) -> None:
        self.write_text(name, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")

    def read_table(self, name: str) -> pa.Table:
        """Read one Parquet file; columns come from the file alone, never from its path."""
        with self.file_system.open_input_file(self.path(name)) as source:
            return pq.ParquetFile(source).read()

    def write_table(self, name: str, table: pa.Table) -> None:
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="zstd")
        self.write_bytes(name, sink.getvalue().to_pybytes())

    def rename(self, name: str, new_name: str) -> None:
        """Rename a file or sub-folder inside this folder; what stood under the new name is replaced."""
        self.delete(new_name)
        self._ask_fence()
        self.file_system.move(self.path(name), self.path(new_name))

    def copy(self, name: str, new_name: str) -> None:
        """Copy a file inside this folder, on the storage's own machines where it can."""
        size = self.file_system.get_file_info(self.path(name)).size or 0
        if size < _LARGEST_COPY:
            self._ask_fence()
            self.file_system.create_dir(self.path(new_name).rpartition("/")[0], recursive=True)
            self.file_system.copy_file(self.path(name), self.path(new_name))
            return
        source = self.file_system.open_input_stream(self.path(name), compression=None)
        with source, self.writing(new_name) as target:
            while block := source.read(_COPIED_AT_ONCE):
                target.write(block)

    def delete(self, name: str = ".") -> None:
        """Delete a file, a sub-folder, or (by default) this whole folder; nothing happens when it does not exist."""
        target = self.root if name == "." else self.path(name)
        self._ask_fence()
        _undisturbed(lambda: self._delete(target))

    def _delete(self, target: str) -> None:
        kind = self.file_system.get_file_info(target).type
        if kind == pafs.FileType.Directory:
            self.file_system.delete_dir(target)
        elif kind != pafs.FileType.NotFound:
            self.file_system.delete_file(target)


def _undisturbed(action: Callable[[], Result]) -> Result:
    """Try again what another process disturbs by creating or deleting the same thing at the same moment."""
    for _ in range(_TRIES - 1):
        with suppress(FileNotFoundError):
            return action()
    return action()


def _link(aside: Path, target: Path) -> bool:
    """Give a file a second name, if that is free: one atomic step, also on shared file systems."""
    try:
        os.link(aside, target)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK):
            raise
        try:  # no hard links here (exFAT, some shares): the name is taken first, and the content follows
            with open(target, "xb") as file:
                file.write(aside.read_bytes())
        except FileExistsError:
            return False
    return True


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
