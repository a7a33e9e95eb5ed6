"""Translate with a model that hat-ray exported. Needs no hat-ray: the libraries of its sub-words and its runtime.

    python translate.py < source.txt > target.txt

    from translate import ExportedTranslator
    ExportedTranslator("folder").translate(["A dog runs."])

This is the front end that every export has: manifest, lines, command line. The exporter puts the text of the sub-words'
modules in the place of their import, and the text of the runtime's `engine_*.py` behind this text.

Exit codes: 0 success; 1 output cannot be written; 2 a mistake in what was given, named in one line. A reader that ends
early (`| head -1`) or Ctrl-C ends it by its signal, and quietly.

Decisions
- What is read has bounds: sizes, numbers of files, and every number that memory or time depends on.
- Names are plain names of plain files in the folder itself: no path, no link, no pipe, no device.
- A SHA-256 of each file, and of the manifest itself, shows damage, and no forgery: the author of a changed file can
  change its hash as well. An export is not signed; take it from where you would take a program.
"""

import sys

if __name__ == "__main__" and not getattr(sys.flags, "safe_path", False):
    del sys.path[0]  # the exported folder, or the current one: what lies there is data, and is not to be imported

import signal

if __name__ == "__main__":  # Ctrl-C, and a reader that ends early, end it at once and quietly, as they end any filter
    for signal_name in {"SIGINT", "SIGPIPE"} & set(dir(signal)):
        signal.signal(getattr(signal, signal_name), signal.SIG_DFL)

import argparse
import hashlib
import json
import os
import re
import stat
from collections.abc import Callable, Mapping, Sequence
from io import BufferedReader
from pathlib import Path
from typing import Any, cast

from hat_ray.corpus.protection.masking import protection_for
from hat_ray.corpus.protection.terms import MOST_BYTES, Terms
from hat_ray.corpus.vocabulary.subwords import (
    MODEL_FILE,
    SENTENCEPIECE,
    Subwords,
    is_blank,
    open_sides,
    open_subwords,
)
from hat_ray.front.front_end import FrontEnd
from hat_ray.front.text import read_lines
from hat_ray.model.hypotheses.found import Found, Hypothesis, Task, json_line
from hat_ray.model.hypotheses.knobs import KNOBS, Decoding, why_not
from hat_ray.model.hypotheses.lines import LineSearch, Numbers, cut_overlong, plan_batches

MANIFEST, SEAL = "manifest.json", "sealed_sha256"

_MOST_MANIFEST_BYTES = 1 << 20
_MOST_FILES = 64
_MOST_BYTES = 16 << 30
_NAME, _SHA256 = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"), re.compile(r"[0-9a-f]{64}")
_NUMBERS: Mapping[str, tuple[type, float, float]] = {
    "vocab_size": (int, 1, 10_000_000),
    "max_positions": (int, 2, 1_000_000),
    "special_tokens.pad": (int, 0, 10_000_000),
    "special_tokens.eos": (int, 0, 10_000_000),
    "search.beam": (int, 1, 1_000),
    "search.length_penalty": (float, 0, 100),
    "search.max_length_factor": (float, 0, 1_000),
    "search.max_length_extra": (int, 1, 1_000_000),
    "search.max_source_length": (int, 2, 1_000_000),
    "search.batch_tokens": (int, 1, 10_000_000),
}


def read_manifest(folder: str | Path, kind: str, version: int) -> dict[str, Any]:
    """Return the manifest of an export of a kind and format; raises ValueError, in one line, where a thing is wrong."""
    place = Path(folder)
    try:
        manifest = json.loads(_plain_bytes(place / MANIFEST, _MOST_MANIFEST_BYTES), parse_constant=_no_number)
        if not isinstance(manifest, dict):
            raise ValueError(f"{MANIFEST} must hold an object")
        if manifest.get("kind") != kind or manifest.get("format") != version:
            raise ValueError(f"{MANIFEST} is not of an export that this loader reads (format {version})")
        if manifest.pop(SEAL, None) != seal_of(manifest):
            raise ValueError(f"{MANIFEST} is damaged: its content does not match its SHA-256")
        for name, (number, least, most) in _NUMBERS.items():
            _require_number(name, _at(manifest, name), number, least, most)
        if max(manifest["special_tokens"][name] for name in ("pad", "eos")) >= manifest["vocab_size"]:
            raise ValueError("special_tokens must lie within vocab_size")
        _require_files(place, manifest)
    except (FileNotFoundError, NotADirectoryError, ValueError, TypeError, RecursionError) as error:
        why = " ".join(str(error).split())[:500]
        raise ValueError(f"{place} is not a whole export of hat-ray ({why}): export the model again") from error
    return manifest


def kind_of(folder: str | Path) -> object:
    """Return the kind of export that a folder's manifest names; None where it names none."""
    try:
        manifest = json.loads(_plain_bytes(Path(folder) / MANIFEST, _MOST_MANIFEST_BYTES))
    except (OSError, ValueError, RecursionError):
        return None
    return manifest.get("kind") if isinstance(manifest, dict) else None


def seal_of(manifest: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a manifest without its seal."""
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def _require_files(place: Path, manifest: Mapping[str, Any]) -> None:
    """Raise ValueError unless all that the manifest names is there, in bounds, and as it was."""
    files = manifest.get("files")
    if not isinstance(files, dict) or not 0 < len(files) <= _MOST_FILES:
        raise ValueError(f"files must name 1 to {_MOST_FILES} files with their SHA-256")
    for name in _named(manifest):
        if name not in files:
            raise ValueError(f"{name!r} must be one of files")
    left = _MOST_BYTES
    for name, expected in files.items():
        if not _NAME.fullmatch(name) or name == MANIFEST or not _SHA256.fullmatch(str(expected)):
            raise ValueError(f"files must have plain names and a SHA-256, got {name!r:.140}")
        found, size = _digest(place / name, left)
        left -= size
        if found != expected:
            raise ValueError(f"{name} is damaged: its SHA-256 differs")


def _named(manifest: Mapping[str, Any]) -> list[str]:
    """Return the files that other entries of the manifest name."""
    graphs = manifest.get("graphs", {})
    if not isinstance(graphs, dict) or not all(isinstance(name, str) for name in graphs.values()):
        raise ValueError("graphs must name files")
    lists = [manifest["short_lists"]] if "short_lists" in manifest else []
    own = [] if "vocabularies" in manifest else [manifest.get("vocabulary")]
    names = [*own, *graphs.values(), *lists]
    if not all(isinstance(name, str) for name in names):
        raise ValueError("vocabulary, graphs and short_lists must name files")
    return [str(name) for name in names]


def _digest(path: Path, most: int) -> tuple[str, int]:
    """Return a plain file's SHA-256 and its size."""
    with os.fdopen(_open_plain(path, most), "rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
        return found, stream.tell()


def _plain_bytes(path: Path, most: int) -> bytes:
    with os.fdopen(_open_plain(path, most), "rb") as stream:
        return stream.read(most)


def _open_plain(path: Path, most: int) -> int:
    """Open a file that is neither a link nor anything that could wait, or never end; its descriptor."""
    about = path.lstat()
    if not stat.S_ISREG(about.st_mode) or about.st_size > most:
        raise ValueError(f"{path.name} must be a plain file of at most {most} bytes")
    return os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))


def _at(manifest: Mapping[str, Any], name: str) -> object:
    """Return what stands at a dotted name; None where nothing does."""
    value: object = manifest
    for key in name.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _require_number(name: str, value: object, number: type, least: float, most: float) -> None:
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not (whole or (number is float and isinstance(value, float))) or not least <= value <= most:  # type: ignore[operator]
        kind = "a whole number" if number is int else "a number"
        raise ValueError(f"{name} must be {kind} from {least:g} to {most:g}, got {value!r:.60}")


def _no_number(text: str) -> float:
    raise ValueError(f"{MANIFEST} must hold finite numbers, got {text}")


class LineTranslator:
    """An exported model: lines of text in, lines of text out. An engine's class opens and decodes."""

    kind: str
    """What the manifest calls the export."""
    version: int
    """The manifest's format."""

    def __init__(self, folder: str | Path, threads: int = 1, manifest: dict[str, Any] | None = None) -> None:
        """Load it; raise ValueError, in one line, where it is damaged. `manifest`: its own, if it was read already.

        0 threads: one for each core.
        """
        place = Path(folder)
        self.manifest = manifest or read_manifest(place, self.kind, self.version)
        self.engine = self._open(place, threads)
        self.source, self.target = open_vocabularies(place, self.manifest)
        self._front = self.front_end()

    def translate(
        self, lines: Sequence[str], *, first: Numbers = 1, split: bool = True, **settings: float
    ) -> list[str]:
        """Return each line's translation, in order, as the program does; `settings` replace the manifest's of search.

        Without `split` lines are whole, and cut with a warning if they have more than `max_source_length` tokens.
        """
        if split:
            return self._front.translate(lines, lambda texts, at: self._whole(texts, at, settings))
        return self._whole(lines, first, settings)

    def _whole(self, lines: Sequence[str], first: Numbers, settings: Mapping[str, float]) -> list[str]:
        best = self.translate_tokens(lines, first=first, **settings)
        return [" ".join(self.target.decode(tokens).split("\n")).strip() for tokens in best]

    def translate_tokens(self, lines: Sequence[str], *, first: Numbers = 1, **settings: float) -> list[list[int]]:
        """Return the tokens of every line's translation, without its end of sentence; none for an empty line."""
        search = {**self.manifest["search"], **settings}
        longest = self._longest_source(search)
        full = {row: self.source.encode(line) for row, line in enumerate(lines) if not is_blank(line)}
        sources = cut_overlong(full, longest, first)
        translations: list[list[int]] = [[] for _ in lines]
        for rows in plan_batches({row: len(one) for row, one in sources.items()}, int(search["batch_tokens"])):
            batch = [sources[row] for row in rows]
            best = self._decode(batch, search, [self._longest(source, search) for source in batch])
            for row, tokens in zip(rows, best, strict=True):
                translations[row] = tokens
        return translations

    def front_end(self, split: bool = True, *, protect: bool = True, terms: Terms | None = None) -> FrontEnd:
        """Return what cuts lines into sentences that the model can read.

        With `protect` URLs, placeholders and the like, and the `terms` of a glossary, come through as they are, where
        the model knows symbols for them. Raises ValueError for a glossary where it does not.
        """
        encode = self.source.encode_lines
        longest = self._longest_source(self.manifest["search"])
        step = protection_for(self.source.pieces(), self.target.pieces(), terms) if protect else None
        return FrontEnd(lambda texts: [len(tokens) for tokens in encode(texts)], longest, split, step)

    def _longest_source(self, search: Mapping[str, Any]) -> int:
        """Return the most tokens of a source, its end of sentence among them."""
        return min(int(search["max_source_length"]), int(self.manifest["max_positions"]))

    def _longest(self, source: Sequence[int], search: Mapping[str, Any]) -> int:
        """Return the most tokens of a source's translation, its end of sentence not counted."""
        most = int(search["max_length_factor"] * len(source) + search["max_length_extra"])
        return min(most, int(self.manifest["max_positions"]) - 1)

    def hypotheses(
        self, lines: Sequence[str], decoding: Decoding, *, first: Numbers = 1, **settings: float
    ) -> list[list[Hypothesis]]:
        """Return the `n_best` hypotheses of every line, the best first; an empty line has one, which is empty.

        Raises ValueError, in one line, for a setting that makes no sense here. `first` are the numbers of lines.
        """
        search = {**self.manifest["search"], **settings, **decoding.changes()}
        if (reason := why_not(decoding, int(search["beam"]), len(lines))) is not None:
            raise ValueError(reason)
        most = self.manifest["max_positions"]
        return LineSearch(self.source, self.target, search, most, self._find, decoding, first).lines(lines, is_blank)

    def _find(self, task: Task, wanted: Decoding) -> list[list[Found]]:
        """Return the hypotheses of each source of a batch, best first."""
        raise NotImplementedError

    def _open(self, place: Path, threads: int) -> Any:
        """Return the engine of a folder whose manifest was read."""
        raise NotImplementedError

    def _decode(self, sources: list[list[int]], search: Mapping[str, Any], most: Sequence[int]) -> list[list[int]]:
        """Return the best translation of each source, without ends of sentence; `most` are each one's tokens."""
        raise NotImplementedError


def open_vocabularies(folder: str | Path, manifest: Mapping[str, Any]) -> tuple[Subwords, Subwords]:
    """Load the sub-words of both sides of an exported folder; raise ValueError where they are of another model."""
    place, target_size = Path(folder), manifest["vocab_size"]

    def read(name: str) -> bytes:
        return (place / name).read_bytes()

    try:
        if "vocabularies" in manifest:
            source, target = open_sides(manifest["vocabularies"], manifest["files"], read)
        else:
            source = target = open_subwords(SENTENCEPIECE, {MODEL_FILE: read(manifest["vocabulary"])})
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{place} has sub-words that cannot be opened: {error}; or export again") from error
    for side, wanted in ((source, manifest.get("source_vocab_size", target_size)), (target, target_size)):
        if len(side) != wanted:
            raise ValueError(f"{place} has sub-words of {len(side)} entries, not {wanted!r:.20}: export again")
    return source, target


def translate_stdin(open_translator: Callable[[Path, int], Any], folder: Path) -> int:
    """Translate by the command's options, with the model that a function opens; return the exit code."""
    parser = argparse.ArgumentParser(description="Translate lines from stdin to stdout, in order.")
    parser.add_argument("--folder", default=folder, type=Path, help="the exported model")
    parser.add_argument("--threads", default=1, type=_at_least(0), help="0: one for each core")
    parser.add_argument("--beam", default=None, type=_at_least(1), help="hypotheses kept; default: the manifest's")
    parser.add_argument("--chunk", default=256, type=_at_least(1), help="lines translated together")
    parser.add_argument("--no-split", action="store_true", help="translate each line whole, not by its sentences")
    parser.add_argument("--no-protect", action="store_true", help="translate URLs, placeholders and the like as words")
    parser.add_argument("--glossary", default=None, type=Path, help="file of lines: term, tab, its translation")
    _add_decoding(parser)
    options = parser.parse_args()
    wanted = _decoding_of(options)
    try:
        if options.glossary is not None and (options.no_protect or options.details or wanted.prefix):
            raise ValueError("--glossary is not for --no-protect, --prefix or hypotheses: leave it or them out")
        if sys.stdin is None or sys.stdout is None:
            raise ValueError("stdin and stdout must be open: give it lines by `< FILE`")
        if (reason := why_not(wanted, options.beam or wanted.n_best)) is not None:
            raise ValueError(reason)
        translator = open_translator(options.folder, options.threads)
        front = None
        if not (options.details or wanted.prefix):
            terms = None if options.glossary is None else _terms_of(options.glossary)
            front = translator.front_end(not options.no_split, protect=not options.no_protect, terms=terms)
        number, stdin = 1, cast("BufferedReader", sys.stdin.buffer)
        for chunk in read_lines(stdin, options.chunk):
            lines = _translated(translator, chunk, wanted, front, options.details, number)
            sys.stdout.buffer.write("".join(f"{line}\n" for line in lines).encode())
            sys.stdout.buffer.flush()
            number += len(chunk)
        if front is not None:
            front.finish()
    except ValueError as error:
        return _tell(error, 2)
    except OSError as error:
        return _tell(error, 1)
    return 0


def _terms_of(path: Path) -> Terms:
    """Read a glossary; raise ValueError, in one line, where it is none."""
    try:
        return Terms.read(_plain_bytes(path.resolve(), MOST_BYTES), str(path))
    except OSError as error:
        raise ValueError(f"{path}: the glossary cannot be read: {error.strerror}") from error


def _add_decoding(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("decoding")
    plain = Decoding()
    for name, knob in KNOBS.items():
        default, flag = getattr(plain, name), f"--{name.replace('_', '-')}"
        if isinstance(default, bool):
            group.add_argument(flag, action="store_true", help=knob.help)
        elif name != "beam":
            whole = isinstance(default, int) or name == "seed"
            group.add_argument(flag, type=int if whole else float, default=default, help=knob.help)
    group.add_argument("--prefix", default="", help="text that every translation begins with")
    group.add_argument("--alignments", action="store_true", help="align sub-words with those of the source")
    group.add_argument("--details", action="store_true", help="print each line's hypotheses with scores, as JSON")


def _decoding_of(options: argparse.Namespace) -> Decoding:
    names = {*KNOBS, "prefix", "alignments"}
    wanted = Decoding(**{name: value for name, value in vars(options).items() if name in names})
    options.details = options.details or wanted.n_best > 1 or wanted.alignments
    return wanted


def _translated(
    translator: Any, lines: list[str], wanted: Decoding, front: FrontEnd | None, details: bool, first: int
) -> list[str]:
    """Return what is printed of lines: their translations, or all details; `first` is the first one's number."""

    def decode(texts: list[str], numbers: Numbers) -> list[str]:
        if wanted.is_plain and not wanted.retry_loops:
            return list(translator.translate(texts, first=numbers, split=False, **wanted.changes()))
        return [found[0].text for found in translator.hypotheses(texts, wanted, first=numbers)]

    if details:
        found = translator.hypotheses(lines, wanted, first=first)
        return [json_line(row, hypotheses) for row, hypotheses in enumerate(found, first)]
    return decode(lines, first) if front is None else front.translate(lines, decode, first)


def _at_least(least: int) -> Callable[[str], int]:
    def whole(text: str) -> int:
        if (number := int(text)) < least:
            raise argparse.ArgumentTypeError(f"must be at least {least}, got {number}")
        return number

    return whole


def _tell(error: Exception, code: int) -> int:
    """Print the mistake in one line; what waits in stdout is given up."""
    if sys.stderr is not None:
        print(f"translate.py: error: {' '.join(str(error).split())}", file=sys.stderr)  # noqa: T201
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # else Python would try once more to write it, and complain
    return code
