"""The claimed content of a PyTorch checkpoint, read before memory is taken for it, and without executing anything.

PyTorch's own reader believes a file: it reserves what a storage claims (256 GB where that is what stands there), grows
a storage to what a tensor's strides reach, and unpacks compressed entries. So the file is walked through beforehand,
with a stack machine that knows what such files consist of and makes none of it.

Decisions
- Names are allowed by a list much shorter than PyTorch's: `bytearray` or `torch.Tensor` with a number reserve memory.
- A storage must stand in the file with exactly the bytes that it claims, and a tensor must lie inside its storage and
  have no more elements: tied weights share a storage, but nothing can be spread out from a few bytes.
- Keys of dictionaries are plain: the hash of nested tuples takes time without end.
"""

import errno
import io
import pickletools
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from typing import IO, Any, cast

MOST_OPERATIONS = 2_000_000
"""Steps of a pickle: HAT's checkpoints have some thousand, a large optimizer's state some ten thousand."""

_ITEM_BYTES = {
    **{"DoubleStorage": 8, "LongStorage": 8, "FloatStorage": 4, "IntStorage": 4, "HalfStorage": 2},
    **{"BFloat16Storage": 2, "ShortStorage": 2, "CharStorage": 1, "ByteStorage": 1, "BoolStorage": 1},
}
_TENSOR = ("torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_tensor")
_PARAMETER = "torch._utils._rebuild_parameter"
_EMPTY = ("collections.OrderedDict", "argparse.Namespace")
_VALUES = ("torch.Size", "torch.device")
METERS = tuple(f"fairseq.meters.{name}" for name in ("AverageMeter", "TimeMeter", "StopwatchMeter"))
ALLOWED = frozenset(
    [*_TENSOR, _PARAMETER, *_EMPTY, *_VALUES, *METERS, *(f"torch.{name}" for name in _ITEM_BYTES)]
    + [f"torch.{name}" for name in ("float64", "float32", "float16", "bfloat16", "int64", "int32", "uint8", "bool")]
)
"""Names that a checkpoint may refer to."""

_LONGEST_NAME = 1_000
_PLAIN = (str, bytes, int, float, bool, type(None))
_LITERALS = frozenset(["BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINSTRING"])
_CONSTANTS: dict[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_LEGACY_PICKLES = ("magic number", "protocol", "system", "content", "storage keys")


class ClaimError(ValueError):
    """A checkpoint whose claims break a rule."""


@dataclass(frozen=True, slots=True)
class Storage:
    """Numbers that stand in the file, as its pickle claims."""

    key: str
    item_bytes: int
    numel: int

    @property
    def nbytes(self) -> int:
        return self.item_bytes * self.numel


@dataclass(frozen=True, slots=True)
class _Name:
    """A name that the pickle refers to."""

    path: str


class _Made:
    """Stands for whatever a pickle makes: a list, a dictionary, a tensor, an object."""


_MARK, _MADE = _Name("mark"), _Made()


def check_file(file: IO[bytes]) -> None:
    """Raise ClaimError unless what a checkpoint claims stands in it, in the zipped or the legacy format."""
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    if file.read(4) == b"PK\x03\x04":
        _check_zip(file, size)
    else:
        file.seek(0)
        _check_legacy(file, size)


def _check_zip(file: IO[bytes], size: int) -> None:
    try:
        with zipfile.ZipFile(file) as archive:
            members = {info.filename: info for info in archive.infolist()}
            total = sum(info.file_size for info in archive.infolist())
            if len(members) != len(archive.infolist()):
                raise ClaimError("an entry of its archive stands in it twice")
            if total > size:
                raise ClaimError(f"its entries claim {total} bytes, the file has {size}: it is compressed or damaged")
            pickles = [name for name in members if name.endswith("/data.pkl") and name.count("/") == 1]
            if len(pickles) != 1:
                raise ClaimError("its archive must hold one data.pkl")
            with archive.open(pickles[0]) as content:
                storages = scan(content)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError) as error:
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # of a place before the file's begin
            raise
        raise ClaimError(f"its archive is damaged: {error}") from error
    folder = pickles[0].partition("/")[0]
    for storage in storages:
        entry = members.get(f"{folder}/data/{storage.key}")
        found = None if entry is None else entry.file_size
        if found != storage.nbytes:
            raise ClaimError(f"storage {storage.key!r:.40} claims {storage.nbytes} bytes, the file has {found or 0}")


def _check_legacy(file: IO[bytes], size: int) -> None:
    storages = [storage for _ in _LEGACY_PICKLES for storage in scan(file)]
    claimed, left = sum(8 + storage.nbytes for storage in storages), size - file.tell()
    if claimed > left:
        raise ClaimError(f"its storages claim {claimed} bytes, the file has {left}")


def scan(file: IO[bytes]) -> list[Storage]:
    """Walk through one pickle, to just behind its end, and return the storages that it refers to."""
    machine = _Machine()
    try:
        for count, (operation, argument, _) in enumerate(pickletools.genops(cast(IO[bytes], _Bounded(file)))):
            if count > MOST_OPERATIONS:
                raise ClaimError(f"its pickle has more than {MOST_OPERATIONS} operations")
            machine.step(operation.name, argument)
    except (IndexError, KeyError, OverflowError) as error:
        raise ClaimError("its pickle is damaged") from error
    return list(machine.storages.values())


class _Bounded:
    """A file that is never read beyond its end: Python reserves the memory of a whole request."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self.tell = file, file.tell
        here = file.tell()
        self._end = file.seek(0, io.SEEK_END)
        file.seek(here)

    def read(self, count: int) -> bytes:
        return self._file.read(min(count, self._end - self._file.tell()))

    def readline(self) -> bytes:
        return self._file.readline(_LONGEST_NAME)


class _Machine:
    """The stack and the memory of one pickle."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memory: dict[int, Any] = {}
        self.storages: dict[str, Storage] = {}

    def step(self, name: str, argument: Any) -> None:
        """Do one operation."""
        if name in _LITERALS:
            self.stack.append(argument)
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name])
        elif name in ("EMPTY_LIST", "EMPTY_DICT", "EMPTY_SET"):
            self.stack.append(_MADE)
        elif name in ("BINPUT", "LONG_BINPUT"):
            self.memory[argument] = self.stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            self.stack.append(self.memory[argument])
        elif name == "MARK":
            self.stack.append(_MARK)
        elif name == "GLOBAL":
            self.stack.append(_name(argument))
        elif name not in ("PROTO", "STOP"):
            self._combine(name)

    def _combine(self, name: str) -> None:
        """Do an operation that takes from the stack."""
        if name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            self.stack.append(tuple(self._pop(int(name[-1]))))
        elif name == "TUPLE":
            self.stack.append(tuple(self._pop_to_mark()))
        elif name in ("APPEND", "BUILD"):
            self._pop(1)
        elif name == "APPENDS":
            self._pop_to_mark()
        elif name == "SETITEM":
            _require_plain(self._pop(2)[:1])
        elif name == "SETITEMS":
            _require_plain(self._pop_to_mark()[::2])
        elif name in ("REDUCE", "NEWOBJ"):
            self.stack.append(_make(*self._pop(2)))
        elif name == "BINPERSID":
            self.stack.append(self._storage(self._pop(1)[0]))
        else:
            raise ClaimError(f"its pickle has the operation {name}, which no checkpoint needs")

    def _pop(self, count: int) -> list[Any]:
        items = self.stack[-count:]
        if len(items) < count or any(item is _MARK for item in items):
            raise ClaimError("its pickle is damaged")
        del self.stack[-count:]
        return items

    def _pop_to_mark(self) -> list[Any]:
        place = next((i for i in range(len(self.stack) - 1, -1, -1) if self.stack[i] is _MARK), None)
        if place is None:
            raise ClaimError("its pickle is damaged")
        items = self.stack[place + 1 :]
        del self.stack[place:]
        return items

    def _storage(self, told: Any) -> Storage:
        """Read `("storage", type, key, place, elements)`; legacy files add a view, which is None in all but oldest."""
        if (
            not isinstance(told, tuple)
            or len(told) not in (5, 6)
            or told[0] != "storage"
            or told[5:] not in ((), (None,))
        ):
            raise ClaimError("it refers to something outside that is no storage")
        _, kind, key, place, numel = told[:5]
        if not isinstance(kind, _Name) or not isinstance(key, str) or not isinstance(place, str):
            raise ClaimError("a storage of it has no type or no name")
        item_bytes = _ITEM_BYTES.get(kind.path.removeprefix("torch."))
        if item_bytes is None or type(numel) is not int or numel < 0:
            raise ClaimError(
                f"storage {key!r:.40} must have a type of number and a size, got {kind.path} and {numel!r:.40}"
            )
        storage = Storage(key, item_bytes, numel)
        if self.storages.setdefault(key, storage) != storage:
            raise ClaimError(f"storage {key!r:.40} is claimed with two sizes")
        return storage


def _name(argument: str) -> _Name:
    path = argument.replace(" ", ".")
    if path not in ALLOWED:
        raise ClaimError(f"GLOBAL {path[:100]} is no part of a checkpoint")
    return _Name(path)


def _make(name: Any, arguments: Any) -> Any:
    """Return the stand-in of an object; a tensor must lie inside its storage."""
    if not isinstance(name, _Name) or not isinstance(arguments, tuple):
        raise ClaimError("its pickle is damaged")
    if name.path in _TENSOR:
        _require_inside(*arguments[:4])
    elif name.path == _PARAMETER:
        if not arguments or arguments[0] is not _MADE:
            raise ClaimError("a parameter of it is no tensor")
    elif name.path in _VALUES:
        _require_plain(arguments[0] if len(arguments) == 1 and isinstance(arguments[0], tuple) else arguments)
        return arguments[0] if name.path == "torch.Size" else _MADE
    elif arguments or name.path not in (*_EMPTY, *METERS):
        raise ClaimError(f"{name.path} must be made of nothing, got {len(arguments)} values")
    return _MADE


def _require_inside(storage: Any = None, offset: Any = None, size: Any = None, strides: Any = None) -> None:
    numbers = [offset, *(size if isinstance(size, tuple) else [None])]
    numbers += strides if isinstance(strides, tuple) else [None]
    whole = all(type(number) is int and number >= 0 for number in numbers)
    if not isinstance(storage, Storage) or not whole or len(size) != len(strides) or len(size) > 8:
        raise ClaimError("a tensor of it has no storage, shape or strides")
    count = 1
    for length in size:
        count *= length
    reach = offset + sum((length - 1) * stride for length, stride in zip(size, strides, strict=True)) + 1
    if count and (count > storage.numel or reach > storage.numel):
        raise ClaimError(
            f"a tensor of shape {size} and strides {strides} does not fit in its storage of {storage.numel} elements"
        )


def _require_plain(keys: Iterable[Any]) -> None:
    for key in keys:
        if not isinstance(key, _PLAIN):
            raise ClaimError("a key or a size of it is no plain value")
