"""Translate a stream: lines come in as they come, translations go out in the same order, a group at a time.

A group holds the lines that are ready: hundreds of a file, one of a person who types. Inside a group sentences of like
length are translated together.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hat_ray.core.progress import Progress, no_progress
from hat_ray.corpus.protection.terms import MOST_BYTES, Terms
from hat_ray.errors import CorpusError, HatRayError
from hat_ray.evaluate.comet.metric import CometText
from hat_ray.evaluate.comet.model import CometModel
from hat_ray.evaluate.evaluate import peak_memory_bytes
from hat_ray.evaluate.scoring import TextScore, score_text
from hat_ray.export.loaded import LoadedModel
from hat_ray.front.front_end import FrontEnd
from hat_ray.front.text import ByteStream, EncodingError, read_lines
from hat_ray.model.hypotheses.found import json_line
from hat_ray.model.hypotheses.knobs import Decoding
from hat_ray.model.hypotheses.lines import Numbers
from hat_ray.storage import plain_file

GROUP_LINES = 512
"""Lines translated together at most."""


@dataclass(frozen=True)
class TranslationScore:
    """The quality of a file's translations, and their cost; scores from 0 to 100."""

    text: TextScore
    copy_floor: TextScore
    """The score of the sources themselves: what any model must beat."""
    sentences: int
    sentences_per_second: float
    peak_memory_bytes: int
    """The process's, the model's loading included."""


def read_groups(stream: ByteStream, most: int = GROUP_LINES) -> Iterator[list[str]]:
    """Yield lines as they come, `most` at once; a line ends with a line feed only, so that outputs match inputs."""
    try:
        yield from read_lines(stream, most)
    except EncodingError as error:
        raise CorpusError(str(error)) from error


def read_glossary(path: Path, label: str) -> Terms:
    """Read a glossary's file, which messages call by its label; raise HatRayError, in one line, where it is none."""
    with plain_file.open_plain(path, label, HatRayError) as file:
        content = file.read(MOST_BYTES + 1)
    try:
        return Terms.read(content, plain_file.printable(str(path)))
    except ValueError as error:
        raise HatRayError(str(error)) from error


def translate_stream(
    model: LoadedModel,
    groups: Iterator[list[str]],
    progress: Progress = no_progress,
    decoding: Decoding | None = None,
    front: FrontEnd | None = None,
) -> Iterator[tuple[str, str]]:
    """Yield each line with its translation, which is one line; without a front end lines are translated as they are."""
    done = 0
    for lines in groups:
        before, size = done, len(lines)

        def show(ready: int, total: int, figures: object, before: int = before, size: int = size) -> None:
            progress(before + ready * size // max(total, 1), before + size, {})

        def decode(texts: Sequence[str], numbers: Numbers, show: Progress = show) -> list[str]:
            return translate_group(model, texts, show, decoding, numbers)

        translations = decode(lines, done + 1) if front is None else front.translate(lines, decode, done + 1)
        done += size
        yield from zip(lines, translations, strict=True)


def details_stream(
    model: LoadedModel, groups: Iterator[list[str]], decoding: Decoding, progress: Progress = no_progress
) -> Iterator[tuple[str, str, str]]:
    """Yield each line with its best translation and with all its hypotheses as one line of JSON."""
    done = 0
    for lines in groups:
        found = model.hypotheses(lines, decoding, first=done + 1)
        for number, (line, hypotheses) in enumerate(zip(lines, found, strict=True), done + 1):
            yield line, hypotheses[0].text, json_line(number, hypotheses)
        done += len(lines)
        progress(done, done, {})


def translate_group(
    model: LoadedModel,
    lines: Sequence[str],
    progress: Progress = no_progress,
    decoding: Decoding | None = None,
    first: Numbers = 1,
) -> list[str]:
    """Return the translation of every line, each one line, in order."""
    return [" ".join(text.split("\n")) for text in model.translate(lines, progress, decoding, first=first)]


def score_stream(
    pairs: list[tuple[str, str]],
    references: list[list[str]],
    tokenizer: str,
    seconds: float,
    others: Sequence[str] = (),
    comet: CometModel | None = None,
) -> TranslationScore:
    """Score sources and translations against one or several references; `seconds` is what translating took.

    `others` are further metrics, and `comet` the model of that one.
    """
    sources, translations = (list(side) for side in zip(*pairs, strict=True)) if pairs else ([], [])
    read = None if comet is None else CometText(comet, sources)
    return TranslationScore(
        text=score_text(translations, references, tokenizer=tokenizer, others=others, comet=read),
        copy_floor=score_text(sources, references, tokenizer=tokenizer, others=others, comet=read),
        sentences=len(pairs),
        sentences_per_second=len(pairs) / max(seconds, 1e-9),
        peak_memory_bytes=peak_memory_bytes(),
    )
