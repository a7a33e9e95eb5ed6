"""Files that come from outside: opened only when they are plain files, read within a bound, decoded as text.

Decisions
- A FIFO, a device, a socket or a folder is refused by its kind before a byte is read: it may never begin or never end.
- The kind is asked once by name and once of the open file, so nothing can be put in its place between.
- A path that is wrong is the user's mistake. Any other failure of the storage passes through as the OSError that it is.
"""

import codecs
import errno
import os
import stat
from io import BufferedReader
from pathlib import Path

from hat_ray.errors import HatRayError

TEXT_BYTES = 1 << 18
"""Most bytes of a recipe or another YAML file; the largest that ships has seven thousand."""
LINES_BYTES = 1 << 30
"""Most bytes of a text whose lines are read whole."""
_HEAD_BYTES = 1 << 10
_SHOWN = 80
_WRONG_PATH = {
    errno.ENOENT: "does not exist",
    errno.ENOTDIR: "does not exist (a part of its path is a file)",
    errno.EACCES: "may not be read (permission denied)",
    errno.EPERM: "may not be read (operation not permitted)",
    errno.ELOOP: "is a link that leads back to itself",
    errno.ENAMETOOLONG: "has a name that is too long",
    errno.ENXIO: "is a socket or a device without a driver",
}
_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_FORMATS = (
    (b"PAR1\x15", "a Parquet file"),
    (b"ARROW1\0\0", "an Arrow file"),
    (b"\x1f\x8b", "a gzip file"),
    (b"BZh91AY&SY", "a bzip2 file"),
    (b"\xfd7zXZ", "an xz file"),
    (b"\x28\xb5\x2f\xfd", "a zstd file"),
    (b"\x7fELF", "a program"),
    (b"%PDF-", "a PDF file"),
    (b"\x89PNG", "a picture"),
    (b"\xff\xd8\xff", "a picture"),
)


def expanded(path: str | Path) -> Path:
    """Return a path with `~` written out; one of nobody stays as it is, and is then found missing."""
    return Path(os.path.expanduser(path))


def open_plain(path: str | Path, what: str, error: type[HatRayError]) -> BufferedReader:
    """Open a plain file to read its bytes; raises `error`, in words that begin with `what`, for anything else."""
    place = expanded(path)
    try:
        _require_plain(os.stat(place).st_mode, what, path, error)
        number = os.open(place, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            _require_plain(os.fstat(number).st_mode, what, path, error)
            return open(number, "rb")
        except BaseException:
            os.close(number)
            raise
    except OSError as failure:
        if failure.errno not in _WRONG_PATH:
            raise
        reason = _WRONG_PATH[failure.errno]
        looked = "" if place.is_absolute() else f" (looked at {printable(str(place.absolute()), 200)})"
        raise error(f"{what} {printable(str(path), 200)} {reason}{looked}: check its path") from failure
    except ValueError as failure:  # a NUL within the path
        raise error(f"{what} {printable(str(path))} cannot be a path ({failure}): check its path") from failure


def read_text(path: str | Path, what: str, error: type[HatRayError], most_bytes: int = TEXT_BYTES) -> str:
    """Read a small text file whole: UTF-8, or UTF-16 or UTF-32 with a byte order mark; raises `error` otherwise."""
    with open_plain(path, what, error) as file:
        content = file.read(most_bytes + 1)
    return decode_text(content, f"{what} {printable(str(path), 200)}", error, most_bytes)


def read_lines(path: str | Path, what: str, error: type[HatRayError]) -> list[str]:
    """Read the lines of a text file, as `read_text` reads it; a carriage return before a line feed belongs to it."""
    text = read_text(path, what, error, LINES_BYTES).removesuffix("\n")
    return [line.removesuffix("\r") for line in text.split("\n")]


def decode_text(content: bytes, name: str, error: type[HatRayError], most_bytes: int = TEXT_BYTES) -> str:
    """Decode a small text file's bytes; raises `error`, in words that begin with `name`, when they are no text."""
    if binary := binary_format(content[:_HEAD_BYTES]):
        raise error(f"{name} is {binary}, no text: name another file")
    if len(content) > most_bytes:
        raise error(f"{name} has more than {most_bytes} bytes, which is the most that is read: name another file")
    encoding = next((encoding for mark, encoding in _MARKS if content.startswith(mark)), "utf-8")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as failure:
        if encoding.startswith("utf-8"):
            line = content.count(b"\n", 0, failure.start) + 1
            raise error(
                f"{name}, line {line}: the byte 0x{content[failure.start]:02x} is not UTF-8: save the file as UTF-8, "
                "for instance with iconv"
            ) from failure
        raise error(f"{name} begins with the mark of {encoding.upper()} but is damaged: save it as UTF-8") from failure
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise error(
            f"{name}, line {line}: a NUL character, so it is no text or UTF-16 without a mark: save it as UTF-8"
        )
    return text


def kind_of(mode: int) -> str | None:
    """Return the kind of a file with this `st_mode` in words, or None for a plain file."""
    if stat.S_ISREG(mode):
        return None
    return next((name for test, name in _KINDS if test(mode)), "no plain file")


def binary_format(head: bytes) -> str | None:
    """Return the kind of binary file that begins with these bytes, or None when it may be text."""
    if head.startswith(b"PK\x03\x04"):
        return "a PyTorch checkpoint" if b"/data.pkl" in head or b"/version" in head else "a zip archive"
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return "a PyTorch checkpoint or another pickle"
    if len(head) > 9 and head[8:10] == b'{"' and int.from_bytes(head[:8], "little") < 1 << 32:
        return "a safetensors file"
    if head[257:262] == b"ustar":
        return "a tar archive"
    return next((name for magic, name in _FORMATS if head.startswith(magic)), None)


def printable(text: str, most: int = _SHOWN) -> str:
    """Return text that is fit for one line of a message: cut, and what cannot be printed escaped."""
    cut = text if len(text) <= most else f"{text[:most]}..."
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in cut)


def _require_plain(mode: int, what: str, path: str | Path, error: type[HatRayError]) -> None:
    if kind := kind_of(mode):
        raise error(f"{what} {printable(str(path), 200)} is {kind}: name a plain file")
