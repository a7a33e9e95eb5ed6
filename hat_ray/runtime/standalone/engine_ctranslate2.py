"""The engine of an export for CTranslate2. Needs ctranslate2.

`model.bin`, `config.json` and the vocabulary beside them are CTranslate2's own: all its tools read this folder, with
the pieces of the vocabulary and a final </s> as tokens of a sentence.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

try:
    import ctranslate2
except ModuleNotFoundError:  # named when a model is opened
    ctranslate2 = None

from hat_ray.corpus.vocabulary.cutting import one_line
from hat_ray.model.hypotheses.found import Found, Task, coverage
from hat_ray.model.hypotheses.knobs import Decoding
from hat_ray.runtime.standalone.translate import LineTranslator, translate_stdin

KIND, FORMAT = "hat-ray export for CTranslate2", 2

_READ_BY_CTRANSLATE2 = (
    "model.bin",
    "config.json",
    "vmap.txt",
    *(f"{side}_vocabulary.{kind}" for side in ("shared", "source", "target") for kind in ("json", "txt")),
)


class ExportedTranslator(LineTranslator):
    """An exported model on CTranslate2."""

    kind, version = KIND, FORMAT

    def _open(self, place: Path, threads: int) -> Any:
        if ctranslate2 is None:
            raise ValueError(f"{place} needs the library ctranslate2: pip install ctranslate2")
        for name in _READ_BY_CTRANSLATE2:
            if os.path.lexists(place / name) and name not in self.manifest["files"]:
                raise ValueError(f"{place / name} is no part of this export: delete it, or export again")
        kind = self.manifest["compute_type"]
        try:
            return ctranslate2.Translator(
                str(place), device="cpu", compute_type=kind, intra_threads=threads, inter_threads=1
            )
        except Exception as error:  # the library's have no type in common
            raise ValueError(f"{place} cannot be run here ({one_line(error)}): export again") from error

    def _decode(self, sources: list[list[int]], search: Mapping[str, Any], most: Sequence[int]) -> list[list[int]]:
        try:
            found = translate_within(
                self.engine,
                [self._pieces(source) for source in sources],
                most,
                beam_size=int(search["beam"]),
                length_penalty=search["length_penalty"],
                max_input_length=0,
                disable_unk=not self.manifest.get("unknown_words", True),
            )
        except RuntimeError as error:
            raise ValueError(
                f"CTranslate2 cannot translate with this export ({one_line(error)}): export the model again"
            ) from error
        return [[self._tokens[piece] for piece in best] for best in found]

    def _find(self, task: Task, wanted: Decoding) -> list[list[Found]]:
        words = distinct(self.source.pieces()), distinct(self.target.pieces())
        return find_by_ctranslate2(self.engine, words, task, wanted, self.manifest.get("unknown_words", True))

    def _pieces(self, tokens: Sequence[int]) -> list[str]:
        return [self._words[token] for token in tokens]

    @cached_property
    def _words(self) -> list[str]:
        """The source's words, as CTranslate2 knows them."""
        return distinct(self.source.pieces())

    @cached_property
    def _tokens(self) -> dict[str, int]:
        """The target's ids by word."""
        return {word: token for token, word in enumerate(distinct(self.target.pieces()))}


def translate_within(
    translator: Any, sources: Sequence[Sequence[str]], most: Sequence[int], beam_size: int, **options: Any
) -> list[list[str]]:
    """Return the best translation of each source, of at most `most` words; its neighbours do not change it.

    CTranslate2 takes one limit a call. All sources are translated within the largest one. Where a search reached the
    last step of its own limit, or found fewer hypotheses, it is repeated within that limit.
    """
    if not sources:
        return []
    found = _batch(translator, sources, max(most), beam_size, options)
    again: dict[int, list[int]] = {}
    for row, (limit, hypotheses) in enumerate(zip(most, found, strict=True)):
        if limit < max(most) and (len(hypotheses) < beam_size or max(map(len, hypotheses)) + 1 >= limit):
            again.setdefault(limit, []).append(row)
    for limit, rows in again.items():
        for row, hypotheses in zip(
            rows, _batch(translator, [sources[row] for row in rows], limit, beam_size, options), strict=True
        ):
            found[row] = hypotheses
    return [hypotheses[0] for hypotheses in found]


def _batch(
    translator: Any, sources: Sequence[Sequence[str]], limit: int, beam_size: int, options: Mapping[str, Any]
) -> list[list[list[str]]]:
    """Return all finished hypotheses of each source, the best first."""
    found = translator.translate_batch(
        [list(source) for source in sources],
        beam_size=beam_size,
        num_hypotheses=beam_size,
        max_decoding_length=limit,
        **options,
    )
    return [one.hypotheses for one in found]


def find_by_ctranslate2(
    translator: Any,
    words: tuple[Sequence[str], Sequence[str]],
    task: Task,
    wanted: Decoding,
    unknown_words: bool,
) -> list[list[Found]]:
    """Return the hypotheses of each source, best first, by the library's own options of the same names.

    `words` are those of the source and of the target, in the order of their ids. Scores are the library's: a prefix
    costs nothing there. What coverage costs is computed here: the library's own counts the padding behind a source as
    well. Raises ValueError, in one line, for what the library cannot do.
    """
    if wanted.seed is not None:
        raise ValueError(
            "CTranslate2 draws from one generator for all its threads: leave seed out, or take another runtime"
        )
    own, target = words
    end = target[task.sources[0][-1]]
    ids = {word: token for token, word in enumerate(target)}
    options = {
        "beam_size": 1 if wanted.sampling else task.beam,
        "num_hypotheses": task.beam if wanted.coverage_penalty and not wanted.sampling else wanted.n_best,
        "length_penalty": task.length_penalty,
        "no_repeat_ngram_size": wanted.no_repeat_ngram_size,
        "repetition_penalty": wanted.repetition_penalty,
        "sampling_topk": wanted.top_k if wanted.sampling else 1,
        "sampling_temperature": wanted.temperature,
        "max_input_length": 0,
        "disable_unk": not unknown_words,
        "return_scores": True,
        "return_attention": wanted.needs_attention,
        "return_end_token": wanted.needs_attention,
    }
    found: list[list[Found]] = [[] for _ in task.sources]
    calls: dict[tuple[int, int, int], list[int]] = {}  # the library takes one pair of bounds a call, and
    for row, pair in enumerate(
        zip(task.least, task.most, strict=True)
    ):  # mixes up the first step's attention in a batch
        calls.setdefault((*pair, row if wanted.needs_attention else 0), []).append(row)
    for (least, most, _), rows in calls.items():
        sources = [[own[token] for token in task.sources[row]] for row in rows]
        prefixes = [[target[token] for token in task.prefixes[row]] or None for row in rows]
        options |= {"min_decoding_length": least, "max_decoding_length": most}
        try:
            results = translator.translate_batch(sources, target_prefix=prefixes if any(prefixes) else None, **options)
            made = [[best[:-1] if best[-1:] == [end] else best for best in each.hypotheses] for each in results]
            pairs = [(source, best) for source, each in zip(sources, made, strict=True) for best in each]
            scored = iter(translator.score_batch(*map(list, zip(*pairs, strict=True)), max_input_length=0))
        except (RuntimeError, ValueError) as error:
            raise ValueError(f"CTranslate2 cannot translate so ({one_line(error)}): change the settings") from error
        for row, each, bests in zip(rows, results, made, strict=True):
            attended = each.attention if wanted.needs_attention else [[] for _ in bests]
            ranked = [
                Found(
                    tuple(ids[word] for word in best),
                    float(score) + (wanted.coverage_penalty and wanted.coverage_penalty * _coverage(seen)),
                    tuple(map(float, next(scored).log_probs)),
                    _most_attended(seen[: len(best)]) if wanted.alignments else (),
                )
                for best, score, seen in zip(bests, each.scores, attended, strict=True)
            ]
            found[row] = sorted(ranked, key=lambda one: one.score, reverse=True)[: wanted.n_best]
    return found


def _coverage(attended: Sequence[Sequence[float]]) -> float:
    """Return the coverage of the steps' shares (T, S)."""
    return coverage(map(sum, zip(*attended, strict=True)))


def _most_attended(attended: Sequence[Sequence[float]]) -> tuple[tuple[int, int], ...]:
    """Return the source's token that each step's shares (T, S) are largest at."""
    return tuple((max(range(len(shares)), key=shares.__getitem__), place) for place, shares in enumerate(attended))


def distinct(pieces: Sequence[str]) -> list[str]:
    """Return the words of a vocabulary, of which no two are alike: a dictionary may hold a symbol twice."""
    seen: set[str] = set()
    words = []
    for token, piece in enumerate(pieces):
        words.append(f"{piece}#{token}" if piece in seen else piece)
        seen.add(piece)
    return words


if __name__ == "__main__":
    sys.exit(translate_stdin(ExportedTranslator, Path(__file__).parent))
