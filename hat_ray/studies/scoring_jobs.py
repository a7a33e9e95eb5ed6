"""Score architectures with inherited weights, and models with their own: pieces of work that travel to a worker.

What is scored once is kept beside the model, so that more architectures or BLEU cost only what is new. A piece uses one
thread: pieces run side by side, one a core.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from hat_ray.core.codec import Loss, read, write
from hat_ray.corpus.batches import collate, make_unshuffled_batches
from hat_ray.corpus.corpus import Corpus
from hat_ray.errors import CorpusError
from hat_ray.evaluate.config import EvaluateConfig
from hat_ray.evaluate.scoring import score_text
from hat_ray.evaluate.translate import translate
from hat_ray.model.checkpoints.native import load_sub, load_super
from hat_ray.model.subtransformer import SubTransformer
from hat_ray.search.scorer import CandidateScorer
from hat_ray.space.architecture import Architecture
from hat_ray.storage.folder import Folder
from hat_ray.train.checkpoints import fingerprint
from hat_ray.train.job import MODEL, SUPERNET

KEPT = "scores.json"
_REMEDY = "delete the file and run it again"


@dataclass(frozen=True)
class Scores:
    """Validation loss in bits a token, and BLEU where it was asked for."""

    loss_bits: float
    bleu: float | None = None


@dataclass(frozen=True)
class InheritedJob:
    """Scores architectures with the weights of one SuperTransformer."""

    supernet: Folder
    kept: Folder
    """Folder of the scores; it belongs to exactly these weights."""
    corpus: Folder
    architectures: tuple[Architecture, ...]
    max_tokens: int
    label_smoothing: float
    bleu: EvaluateConfig | None = None

    def __call__(self) -> list[Scores]:
        with one_thread():
            return self._scores()

    def _scores(self) -> list[Scores]:
        known = read(self.kept, KEPT, dict[str, dict[str, Loss]], _REMEDY) if self.kept.exists(KEPT) else {}
        losses = known.setdefault("loss_bits", {})
        bleus = known.setdefault(_key(self.bleu), {}) if self.bleu else {}
        missing = [a for a in self.architectures if a.id not in losses]
        untranslated = [a for a in self.architectures if self.bleu and a.id not in bleus]
        if missing or untranslated:
            corpus, model = Corpus.load(self.corpus), load_super(self.supernet, SUPERNET)
            batches = [collate(corpus.valid, rows) for rows in make_unshuffled_batches(corpus.valid, self.max_tokens)]
            scorer = CandidateScorer(model, batches, self.label_smoothing)
            losses.update({architecture.id: scorer(architecture) for architecture in missing})
            for architecture in untranslated:
                assert self.bleu is not None
                bleus[architecture.id] = valid_bleu(model.extract(architecture).eval(), corpus, self.bleu)
            write(self.kept, KEPT, known)
        return [Scores(losses[a.id], bleus.get(a.id)) for a in self.architectures]


@dataclass(frozen=True)
class BleuJob:
    """Scores one model that was trained from scratch."""

    model: Folder
    corpus: Folder
    bleu: EvaluateConfig

    def __call__(self) -> float:
        known = read(self.model, KEPT, dict[str, float], _REMEDY) if self.model.exists(KEPT) else {}
        key = _key(self.bleu)
        if key not in known:
            with one_thread():
                known[key] = valid_bleu(load_sub(self.model, MODEL).eval(), Corpus.load(self.corpus), self.bleu)
            write(self.model, KEPT, known)
        return known[key]


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute with one CPU thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def valid_bleu(model: SubTransformer, corpus: Corpus, config: EvaluateConfig) -> float:
    """Translate the first `config.sentences` of the validation set and return their BLEU: the test set stays unseen."""
    sources, references = corpus.valid.source_text, corpus.valid.target_text
    if sources is None or references is None:
        raise CorpusError("BLEU needs the validation set's text, which this corpus lacks: prepare it again")
    lines = sources[: config.sentences]
    hypotheses = translate(model, corpus.vocabularies, lines, config)
    return score_text(hypotheses, [references[: config.sentences]], tokenizer=config.tokenizer, chrf=False).bleu


def _key(config: EvaluateConfig) -> str:
    return f"bleu-{fingerprint(config.result_settings())}"
