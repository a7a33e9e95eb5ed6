"""Whether an exported model translates real sentences like the model itself.

Decisions
- The exported side is the loader that is exported with it, whole: sub-words, batches, its own beam search.
- Token agreement is 2 * (tokens in common, in order) / (tokens of both), over all sentences together.
- Logits are compared step by step while both are fed the model's own best translation; with short-lists those of the
  words on them.
"""

import logging
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import SequenceMatcher

from hat_ray.core.progress import Progress, no_progress
from hat_ray.corpus.vocabulary import EOS, SPECIAL_IDS, Vocabularies, Vocabulary
from hat_ray.errors import ExportError
from hat_ray.evaluate.config import EvaluateConfig
from hat_ray.evaluate.scoring import score_text
from hat_ray.evaluate.translate import translate_tokens
from hat_ray.model.hypotheses.lines import log as of_lines
from hat_ray.model.subtransformer import SubTransformer
from hat_ray.runtime.protocol import Bounds, OpenedExport, Runtime

LOGIT_SENTENCES = 32
"""Sentences whose logits are compared."""

Tokens = tuple[int, ...]


@dataclass(frozen=True)
class CheckText:
    """The sentences that a check translates."""

    sources: Sequence[str]
    references: Sequence[str] | None
    """Their translations; None: there are none, so nothing is judged by BLEU."""


def drawn_text(vocabulary: Vocabulary, sentences: int) -> CheckText:
    """Draw sentences of a vocabulary's own entries, 4 to 24 tokens each: what is checked where there is no text."""
    rng = random.Random(0)
    words = range(len(SPECIAL_IDS), len(vocabulary))
    drawn = ([rng.choice(words) for _ in range(rng.randint(4, 24))] for _ in range(sentences))
    return CheckText([" ".join(vocabulary.decode(tokens).split()) for tokens in drawn], None)


@dataclass(frozen=True)
class Parity:
    """Distance between an exported model and the model itself."""

    sentences: int
    identical: int
    """Sentences with the same tokens."""
    token_agreement: float
    """0 to 1."""
    bleu: float | None
    """None where there were no references; likewise `exported_bleu` and `bleu_signature`."""
    exported_bleu: float | None
    bleu_signature: str | None
    logit_error: float
    """The largest absolute difference of two logits; of CTranslate2 of two words' logarithms of probability."""
    logit_sentences: int
    arithmetic: str
    """By which instructions the processor that checked it multiplies."""

    @property
    def bleu_loss(self) -> float | None:
        """BLEU of the model less that of the export; None where there were no references."""
        return None if self.bleu is None or self.exported_bleu is None else self.bleu - self.exported_bleu

    def require(self, bounds: Bounds) -> None:
        """Raise ExportError where a bound is broken."""
        if bounds.min_token_agreement is not None and self.token_agreement < bounds.min_token_agreement:
            what = f"token agreement must be at least {bounds.min_token_agreement:g}, got {self.token_agreement:.4f}"
        elif self.bleu_loss is not None and self.bleu_loss > bounds.max_bleu_loss:
            what = f"at most {bounds.max_bleu_loss:g} BLEU may be lost, got {self.bleu:.2f} -> {self.exported_bleu:.2f}"
        elif bounds.max_logit_error is not None and not self.logit_error <= bounds.max_logit_error:
            what = f"logits may differ by at most {bounds.max_logit_error:g}, got {self.logit_error:.3g}"
        else:
            return
        raise ExportError(
            f"the exported model differs too much on {self.sentences} sentences ({self.arithmetic}): {what}; "
            "take dtype fp32, or allow more with --min-agreement and --max-bleu-loss"
        )


def compare(
    model: SubTransformer,
    opened: OpenedExport,
    runtime: Runtime,
    vocabularies: Vocabularies,
    text: CheckText,
    config: EvaluateConfig,
    progress: Progress = no_progress,
) -> Parity:
    """Translate a text with both and compare what comes out."""
    sources, references = text.sources, text.references
    exporter, exported = runtime.exporter, opened.translator
    assert exporter is not None
    if not sources:
        raise ExportError("the parity check needs at least one sentence of the test set, got none")
    settings = {name: getattr(config, name) for name in exported.manifest["search"]}
    with _each_warning_once():
        ours = translate_tokens(model, vocabularies, sources, config, progress)
        theirs = [tuple(tokens) for tokens in exported.translate_tokens(sources, **settings)]
    texts = [[vocabularies.target.decode(tokens) for tokens in side] for side in (ours, theirs)]
    own, other = (
        score_text(side, [references], tokenizer=config.tokenizer, chrf=False) if references else None for side in texts
    )
    full = [row for row, line in enumerate(sources) if line.strip()][:LOGIT_SENTENCES]
    encoded = vocabularies.source.encode_lines([sources[row] for row in full])
    pairs = [
        ([*source[:-1][: config.max_source_length - 1], EOS], ours[row])
        for row, source in zip(full, encoded, strict=True)
    ]
    return Parity(
        sentences=len(sources),
        identical=sum(a == b for a, b in zip(ours, theirs, strict=True)),
        token_agreement=agreement(ours, theirs),
        bleu=own.bleu if own else None,
        exported_bleu=other.bleu if other else None,
        bleu_signature=own.bleu_signature if own else None,
        logit_error=max((exporter.difference(model, opened.engine, *pair) for pair in pairs), default=0.0),
        logit_sentences=len(pairs),
        arithmetic=runtime.arithmetic(exported.manifest["dtype"]),
    )


@contextmanager
def _each_warning_once() -> Iterator[None]:
    """Let each warning of lines that are cut through once: both sides cut the same ones."""
    seen: set[str] = set()

    def is_new(record: logging.LogRecord) -> bool:
        known = (message := record.getMessage()) in seen
        seen.add(message)
        return not known

    of_lines.addFilter(is_new)
    try:
        yield
    finally:
        of_lines.removeFilter(is_new)


def agreement(ours: Sequence[Tokens], theirs: Sequence[Tokens]) -> float:
    """Return the share of tokens, from 0 to 1, that stand in both translations in the same order."""
    total = sum(map(len, ours)) + sum(map(len, theirs))
    pairs = zip(ours, theirs, strict=True)
    common = sum(
        len(a) if a == b else sum(block.size for block in SequenceMatcher(None, a, b, False).get_matching_blocks())
        for a, b in pairs
    )
    return 2 * common / total if total else 1.0
