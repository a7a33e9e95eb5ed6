"""Evaluate one model on a corpus's test set: translate, score, and put the floors beside the score.

How much memory a process has held.
"""

import logging
import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from hat_ray.core.progress import Progress, no_progress
from hat_ray.corpus.corpus import Corpus
from hat_ray.corpus.tokens import TokenTable
from hat_ray.corpus.vocabulary import Vocabularies
from hat_ray.errors import CorpusError
from hat_ray.evaluate.comet.metric import CometText
from hat_ray.evaluate.comet.model import CometModel
from hat_ray.evaluate.config import EvaluateConfig
from hat_ray.evaluate.metrics import MetricScore
from hat_ray.evaluate.multi_bleu import multi_bleu
from hat_ray.evaluate.scoring import Floors, floors, score_text
from hat_ray.evaluate.significance import PairedComparison
from hat_ray.evaluate.translate import translate
from hat_ray.model.protocol import Engine


def peak_memory_bytes() -> int:
    """Return the most memory that this process has held."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Score:
    """A test-set score with its settings; BLEU and chrF from 0 to 100."""

    bleu: float
    bleu_signature: str
    chrf: float | None
    chrf_signature: str | None
    brevity_penalty: float
    sentences: int
    beam: int
    length_penalty: float
    seconds: float
    """Wall time of the translation alone."""
    sentences_per_second: float
    peak_memory_bytes: int
    """The most that the process has held by then, whatever else it did before included."""
    multi_bleu: float | None = None
    """BLEU of tokenised text, where `evaluate.metric` asks for it."""
    multi_bleu_signature: str | None = None
    others: tuple[MetricScore, ...] = ()
    """Those of `evaluate.more_metrics`."""


@dataclass(frozen=True)
class Translations:
    """A test set and its translation, line by line."""

    sources: tuple[str, ...]
    references: tuple[str, ...]
    hypotheses: tuple[str, ...]


@dataclass(frozen=True)
class Evaluation:
    """A score with its inputs."""

    score: Score
    translations: Translations


@dataclass(frozen=True)
class FinalTiming:
    """A retrained model on one device, timed once more."""

    latency_ms: float
    corrected_ms: float | None
    p10_ms: float | None
    p90_ms: float | None
    relative_error: float | None

    def at_rest(self, value: float | None) -> float | None:
        """Return one of these times as the quiet device would show it: what limits and predictions are about."""
        return value * self.corrected_ms / self.latency_ms if value and self.latency_ms and self.corrected_ms else None


@dataclass(frozen=True)
class EvaluatedModel:
    """A retrained model's score, and its timings by device."""

    score: Score
    measured: dict[str, FinalTiming]
    others: dict[str, Score] = field(default_factory=dict)
    """Scores of the same architecture's other trainings, by their folders."""


@dataclass(frozen=True)
class EvaluateOutput:
    """Output of stage `evaluate`: the models by architecture id, and the scores that need no model."""

    models: dict[str, EvaluatedModel]
    floors: Floors | None
    comparisons: tuple[PairedComparison, ...] = ()
    """Each winner with each of its rivals."""


def evaluate(
    model: Engine, corpus: Corpus, config: EvaluateConfig | None = None, progress: Progress = no_progress
) -> Evaluation:
    """Translate the test set (its first `config.sentences`) and score it against its reference."""
    config = (config or EvaluateConfig()).for_language(corpus.summary.target_language)
    sources, references = scored_text(corpus, config)
    comet = None if config.comet_model is None else CometText(CometModel.open(config.comet_model), sources)
    started = time.perf_counter()
    hypotheses = translate(model, corpus.vocabularies, sources, config, progress)
    seconds = time.perf_counter() - started
    text = score_text(
        hypotheses,
        [references],
        tokenizer=config.tokenizer,
        chrf=config.chrf,
        others=config.more_metrics,
        comet=comet,
    )
    tokenised: tuple[float | None, str | None] = (None, None)
    if config.metric == "multi-bleu":
        tokenised = multi_bleu(hypotheses, references, corpus.summary.target_language)
    score = Score(
        bleu=text.bleu,
        bleu_signature=text.bleu_signature,
        chrf=text.chrf,
        chrf_signature=text.chrf_signature,
        brevity_penalty=text.brevity_penalty,
        sentences=len(sources),
        beam=config.beam,
        length_penalty=config.length_penalty,
        seconds=seconds,
        sentences_per_second=len(sources) / max(seconds, 1e-9),
        peak_memory_bytes=peak_memory_bytes(),
        multi_bleu=tokenised[0],
        multi_bleu_signature=tokenised[1],
        others=text.others,
    )
    log.info("BLEU %.2f on %d sentences (%.1f a second)", score.bleu, score.sentences, score.sentences_per_second)
    return Evaluation(score, Translations(tuple(sources), tuple(references), tuple(hypotheses)))


def corpus_floors(corpus: Corpus, config: EvaluateConfig | None = None) -> Floors | None:
    """Return the floors of the test set that `evaluate` scores; None when `config.floor_pairs` is 0."""
    config = (config or EvaluateConfig()).for_language(corpus.summary.target_language)
    if not config.floor_pairs:
        return None
    sources, references = scored_text(corpus, config)
    train_sources, train_targets = _decoded(corpus.train, corpus.vocabularies, config.floor_pairs)
    return floors(sources, [references], train_sources, train_targets, tokenizer=config.tokenizer, chrf=config.chrf)


def scored_text(corpus: Corpus, config: EvaluateConfig) -> tuple[Sequence[str], Sequence[str]]:
    """Return the source and the reference lines that are scored, as they stand in the corpus: never decoded tokens."""
    table = corpus.test
    if table.source_text is None or table.target_text is None:
        raise CorpusError(
            "a score needs the test set's own text, but this corpus was prepared without it: prepare it again"
        )
    return table.source_text[: config.sentences], table.target_text[: config.sentences]


def _decoded(table: TokenTable, vocabularies: Vocabularies, limit: int) -> tuple[list[str], list[str]]:
    """Return a table's first `limit` pairs as text; the training set is kept as tokens only."""
    pairs = [table.sentence(row) for row in range(min(limit, len(table)))]
    return (
        [vocabularies.source.decode(source.tolist()) for source, _ in pairs],
        [vocabularies.target.decode(target.tolist()) for _, target in pairs],
    )
