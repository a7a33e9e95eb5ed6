"""Corpus scores with sacreBLEU: always with the signature that makes a figure repeatable."""

from collections.abc import Sequence
from dataclasses import dataclass

from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from hat_ray.errors import CorpusError


@dataclass(frozen=True)
class TextScore:
    """Scores of a list of hypotheses, 0 to 100, higher is better."""

    bleu: float
    bleu_signature: str
    chrf: float | None
    chrf_signature: str | None
    brevity_penalty: float
    """1 when the hypotheses are at least as long as the references; below 1 they are short and BLEU pays for it."""


def score_text(
    hypotheses: Sequence[str], references: Sequence[Sequence[str]], *, tokenizer: str = "13a", chrf: bool = True
) -> TextScore:
    """Score hypotheses against one or several references: `references[k][i]` is the k-th reference of sentence i."""
    _require_parallel(hypotheses, references)
    streams = [list(stream) for stream in references]
    bleu_metric, chrf_metric = BLEU(tokenize=tokenizer), CHRF()
    bleu = bleu_metric.corpus_score(list(hypotheses), streams)
    chrf_score = chrf_metric.corpus_score(list(hypotheses), streams) if chrf else None
    return TextScore(
        bleu=float(bleu.score),
        bleu_signature=str(bleu_metric.get_signature()),
        chrf=float(chrf_score.score) if chrf_score else None,
        chrf_signature=str(chrf_metric.get_signature()) if chrf_score else None,
        brevity_penalty=float(bleu.bp),
    )


def _require_parallel(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> None:
    if not hypotheses or not references:
        raise CorpusError(f"a score needs at least one sentence and one reference, got {len(hypotheses)} sentences")
    for number, stream in enumerate(references, start=1):
        if len(stream) != len(hypotheses):
            raise CorpusError(
                f"hypotheses and references must have equally many lines, got {len(hypotheses)} hypotheses "
                f"and {len(stream)} lines in reference {number}"
            )
