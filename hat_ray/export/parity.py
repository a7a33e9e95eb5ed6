"""Whether an exported model says what the model itself says, on real sentences.

Decisions
- The exported side is the loader that is exported with it, whole: sub-words, batches, its own beam search.
- Token agreement is 2 * (tokens in common, in order) / (tokens of both), over all sentences together.
- Logits are compared step by step while both are fed the model's own best translation; with short-lists those of the
  words on them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

import torch

from hat_ray.core.progress import Progress, silent
from hat_ray.corpus.batches import pad_sources
from hat_ray.corpus.vocabulary import EOS, Vocabulary
from hat_ray.errors import ExportError
from hat_ray.evaluate.config import EvaluateConfig
from hat_ray.evaluate.scoring import score_text
from hat_ray.evaluate.translate import translate_tokens
from hat_ray.model.protocol import Translator as Model
from hat_ray.model.subtransformer import SubTransformer
from hat_ray.runtime.capability import arithmetic
from hat_ray.runtime.onnx.runtime import OnnxModel
from hat_ray.runtime.standalone import engine_ctranslate2 as ct2_loader
from hat_ray.runtime.standalone.engine_onnx import Translator

LOGIT_SENTENCES = 32
"""Sentences whose logits are compared."""

_LISTED = -1e8  # what is on no short-list has less

Tokens = tuple[int, ...]


@dataclass(frozen=True)
class Bounds:
    """How far an exported model may be from the model itself."""

    min_token_agreement: float | None
    """None: any; int8 chooses other words where two are nearly as good, and BLEU says whether that matters."""
    max_bleu_loss: float
    max_logit_error: float | None = None
    """None: any; logits of int8 differ by what quantisation costs."""


INT8_BLEU_LOSS = 0.3
"""BLEU that int8 may lose by default."""
BOUNDS = {"fp32": Bounds(0.99, 0.1, 1e-3), "int8": Bounds(None, INT8_BLEU_LOSS)}
BOUNDS_CT2 = {"fp32": Bounds(0.98, 0.3, 1e-3), "int8": Bounds(None, INT8_BLEU_LOSS)}
"""CTranslate2's own beam search ends, and breaks ties, a little differently."""


@dataclass(frozen=True)
class Parity:
    """How far an exported model is from the model itself."""

    sentences: int
    identical: int
    """Sentences with the same tokens."""
    token_agreement: float
    """0 to 1."""
    bleu: float
    exported_bleu: float
    bleu_signature: str
    logit_error: float
    """The largest absolute difference of two logits; of CTranslate2 of two words' logarithms of probability."""
    logit_sentences: int
    arithmetic: str
    """By which instructions the processor that checked it multiplies."""

    @property
    def bleu_loss(self) -> float:
        return self.bleu - self.exported_bleu

    def require(self, bounds: Bounds) -> None:
        """Raise ExportError where a bound is broken."""
        if bounds.min_token_agreement is not None and self.token_agreement < bounds.min_token_agreement:
            what = f"token agreement must be at least {bounds.min_token_agreement:g}, got {self.token_agreement:.4f}"
        elif self.bleu_loss > bounds.max_bleu_loss:
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
    exported: Translator | ct2_loader.Translator,
    vocabulary: Vocabulary,
    sources: Sequence[str],
    references: Sequence[str],
    config: EvaluateConfig,
    progress: Progress = silent,
) -> Parity:
    """Translate `sources` with both and compare what comes out."""
    if not sources:
        raise ExportError("the parity check needs at least one sentence of the test set, got none")
    ours = translate_tokens(model, vocabulary, sources, config, progress)
    settings = {name: getattr(config, name) for name in exported.manifest["search"]}
    theirs = [tuple(tokens) for tokens in exported.translate_tokens(sources, **settings)]
    texts = [[vocabulary.decode(tokens) for tokens in side] for side in (ours, theirs)]
    own, other = (score_text(side, [references], tokenizer=config.tokenizer, chrf=False) for side in texts)
    full = [row for row, line in enumerate(sources) if line.strip()][:LOGIT_SENTENCES]
    encoded = vocabulary.encode_lines([sources[row] for row in full])
    pairs = [
        ([*source[:-1][: config.max_source_length - 1], EOS], ours[row])
        for row, source in zip(full, encoded, strict=True)
    ]
    error = _error_of(model, exported)
    return Parity(
        sentences=len(sources),
        identical=sum(a == b for a, b in zip(ours, theirs, strict=True)),
        token_agreement=agreement(ours, theirs),
        bleu=own.bleu,
        exported_bleu=other.bleu,
        bleu_signature=own.bleu_signature,
        logit_error=max((error(source, target) for source, target in pairs), default=0.0),
        logit_sentences=len(pairs),
        arithmetic=arithmetic(exported.manifest["runtime"], exported.manifest["dtype"]),
    )


def _error_of(
    model: SubTransformer, exported: Translator | ct2_loader.Translator
) -> Callable[[Sequence[int], Sequence[int]], float]:
    """Return what tells, of a source and a translation, how far the two models' figures are apart."""
    if isinstance(exported, ct2_loader.Translator):
        return lambda source, target: word_error(model, exported, source, target)
    served = OnnxModel(exported.graphs, model.max_positions)
    return lambda source, target: logit_error(model, served, source, target)


def agreement(ours: Sequence[Tokens], theirs: Sequence[Tokens]) -> float:
    """Return the share of tokens, from 0 to 1, that stand in both translations in the same order."""
    total = sum(map(len, ours)) + sum(map(len, theirs))
    pairs = zip(ours, theirs, strict=True)
    common = sum(
        len(a) if a == b else sum(block.size for block in SequenceMatcher(None, a, b, False).get_matching_blocks())
        for a, b in pairs
    )
    return 2 * common / total if total else 1.0


@torch.inference_mode()
def logit_error(model: Model, other: Model, source: Sequence[int], target: Sequence[int]) -> float:
    """Feed both a translation token by token; return the largest absolute difference of two logits."""
    states = [each.start(pad_sources([source]), 1) for each in (model, other)]
    worst = 0.0
    for token in (EOS, *target):
        fed = torch.tensor([token])
        ours, theirs = (each.step(fed, state) for each, state in zip((model, other), states, strict=True))
        known = theirs > _LISTED  # on a short-list, or there is none
        worst = max(worst, float((ours - theirs)[known].abs().max()))
    return worst


@torch.inference_mode()
def word_error(model: Model, other: ct2_loader.Translator, source: Sequence[int], target: Sequence[int]) -> float:
    """Let both judge a translation; return the largest difference of the logarithms of its words' probabilities."""
    state = model.start(pad_sources([source]), 1)
    own = []
    for fed, token in zip((EOS, *target), (*target, EOS), strict=True):
        own.append(float(model.step(torch.tensor([fed]), state).log_softmax(1)[0, token]))
    theirs = other.log_probabilities(source[:-1], target)
    return max(abs(a - b) for a, b in zip(own, theirs, strict=True))
