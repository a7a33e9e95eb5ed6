"""Translate lines as a request wants it: with the model's own beam search where that does, else with all rules."""

from collections.abc import Sequence
from dataclasses import replace

from hat_ray.core.progress import Progress, no_progress
from hat_ray.corpus.vocabulary import Vocabularies
from hat_ray.corpus.vocabulary.subwords import is_blank
from hat_ray.errors import HatRayError
from hat_ray.evaluate.config import EvaluateConfig
from hat_ray.evaluate.translate import translate_tokens
from hat_ray.model.hypotheses.found import Found, Hypothesis, Task
from hat_ray.model.hypotheses.knobs import Decoding, why_not
from hat_ray.model.hypotheses.lines import LineSearch, Numbers, TooLongError
from hat_ray.model.hypotheses.stepwise import find_on
from hat_ray.model.protocol import Engine, evaluating


def translate_as(
    model: Engine,
    vocabularies: Vocabularies,
    lines: Sequence[str],
    config: EvaluateConfig,
    wanted: Decoding,
    progress: Progress = no_progress,
    first: Numbers = 1,
) -> list[str]:
    """Return the best translation of every line, in order; an empty line stays empty.

    `first` are the numbers by which messages name lines.
    """
    if not wanted.is_plain:
        found = hypotheses(model, vocabularies, lines, config, replace(wanted, alignments=False), progress, first)
        return [each[0].text for each in found]
    search = _searching(model, vocabularies, config, wanted, len(lines), first)
    best = translate_tokens(model, vocabularies, lines, config.model_copy(update=wanted.changes()), progress, first)
    if wanted.retry_loops:
        rows = [row for row, tokens in enumerate(best) if tokens]
        sources = {row: search.tokens_of(lines[row]) for row in rows}
        with evaluating(model):
            again = search.without_loops(sources, {row: [Found(best[row], 0.0)] for row in rows})
        best = [again[row][0].tokens if row in again else tokens for row, tokens in enumerate(best)]
    return [vocabularies.target.decode(tokens) for tokens in best]


def hypotheses(
    model: Engine,
    vocabularies: Vocabularies,
    lines: Sequence[str],
    config: EvaluateConfig,
    wanted: Decoding,
    progress: Progress = no_progress,
    first: Numbers = 1,
) -> list[list[Hypothesis]]:
    """Return the `n_best` hypotheses of every line, the best first; an empty line has one, which is empty.

    `first` are the numbers by which messages name lines.
    """
    search = _searching(model, vocabularies, config, wanted, len(lines), first)
    try:
        with evaluating(model):
            return search.lines(lines, is_blank, lambda done: progress(done, len(lines), {}))
    except TooLongError as error:
        raise HatRayError(str(error)) from error


def require(wanted: Decoding, beam: int, lines: int | None = None) -> None:
    """Raise HatRayError, in one line, for a request that breaks a rule; `beam` is the one it comes to."""
    if (reason := why_not(wanted, beam, lines)) is not None:
        raise HatRayError(reason)


def _searching(
    model: Engine, vocabularies: Vocabularies, config: EvaluateConfig, wanted: Decoding, lines: int, first: Numbers
) -> LineSearch:
    search = {**config.search_settings(), **wanted.changes()}
    require(wanted, int(search["beam"]), lines)
    if (beam := search["beam"]) > model.target_vocab_size // 2 - 1:
        raise HatRayError(f"beam must be from 1 to half of the vocabulary, got {beam}")

    def find(task: Task, asked: Decoding) -> list[list[Found]]:
        return find_on(model, task, asked)

    return LineSearch(vocabularies.source, vocabularies.target, search, model.max_positions, find, wanted, first)
