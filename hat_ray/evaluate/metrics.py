"""The metrics of sacreBLEU, and COMET, by the names that people know, each with its signature."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from sacrebleu.metrics.ter import TER

from hat_ray.errors import CorpusError
from hat_ray.evaluate.comet.metric import CometMetric, CometText
from hat_ray.evaluate.tokenizers import tokenizer_of

MetricName = Literal["bleu", "chrf", "chrf++", "ter", "comet"]
METRICS: tuple[str, ...] = get_args(MetricName)
SHOWN: Mapping[str, str] = {"bleu": "BLEU", "chrf": "chrF", "chrf++": "chrF++", "ter": "TER", "comet": "COMET"}


@dataclass(frozen=True)
class MetricScore:
    """A score of one metric with the signature that makes it repeatable."""

    metric: str
    score: float
    """0 to 100 of most. TER counts edits in per cent of the reference's words: less is better. COMET's is the mean of
    what its model gives to sentences, times 100."""
    signature: str


def metric_of(
    name: str, tokenizer: str, references: Sequence[Sequence[str]] | None = None, comet: CometText | None = None
) -> Any:
    """Return sacreBLEU's metric of a name; `references` prepares it for them. `comet` is what COMET reads besides.

    TER cuts Chinese, Japanese and Korean into characters where the tokenizer is one of theirs.
    """
    if name == "comet":
        if comet is None:
            raise CorpusError("COMET needs the folder of its model and the sources: name both, or leave comet out")
        return CometMetric(comet, references)
    streams = None if references is None else [list(stream) for stream in references]
    tokenizer = tokenizer_of(tokenizer)
    if name == "bleu":
        return BLEU(tokenize=tokenizer, references=streams)
    if name == "ter":
        is_asian = tokenizer in ("zh", "ja-mecab", "ko-mecab")
        return TER(normalized=is_asian, asian_support=is_asian, references=streams)
    return CHRF(word_order=2 if name == "chrf++" else 0, references=streams)


def score_by(
    names: Sequence[str],
    hypotheses: Sequence[str],
    references: Sequence[Sequence[str]],
    tokenizer: str,
    comet: CometText | None = None,
) -> tuple[MetricScore, ...]:
    """Score hypotheses by several metrics against one or several references."""
    require_parallel(hypotheses, references)
    found = []
    for name in names:
        metric = metric_of(name, tokenizer, comet=comet)
        value = metric.corpus_score(list(hypotheses), [list(stream) for stream in references])
        found.append(MetricScore(SHOWN[name], float(value.score), str(metric.get_signature())))
    return tuple(found)


def require_parallel(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> None:
    """Raise CorpusError unless every reference has as many lines as there are hypotheses, and there is one."""
    if not hypotheses or not references:
        raise CorpusError(f"a score needs at least one sentence and one reference, got {len(hypotheses)} sentences")
    for number, stream in enumerate(references, start=1):
        if len(stream) != len(hypotheses):
            raise CorpusError(
                f"hypotheses and references must have equally many lines, got {len(hypotheses)} hypotheses "
                f"and {len(stream)} lines in reference {number}"
            )
