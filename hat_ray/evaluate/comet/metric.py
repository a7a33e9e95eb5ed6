"""COMET as a metric of sacreBLEU: with a signature, and good for its paired bootstrap."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sacrebleu.metrics.base import Score, Signature

from hat_ray.errors import CorpusError
from hat_ray.evaluate.comet.model import CometModel, library

_SCALE = 100


@dataclass(frozen=True)
class CometText:
    """What COMET reads beside translations and references."""

    model: CometModel
    sources: Sequence[str]


class CometMetric:
    """The part of sacreBLEU's `Metric` that scores and tests of significance ask for.

    The score of a text is the mean of its sentences' scores, in hundredths as papers print it.
    """

    def __init__(self, text: CometText, references: Sequence[Sequence[str]] | None = None) -> None:
        """`references` are taken where a call names none."""
        self.num_refs, self.kind = 0, ""
        self.text, self._references = text, references

    def corpus_score(self, hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> Any:
        """Return the score of a text."""
        return self._aggregate_and_compute(self._extract_corpus_statistics(hypotheses, references))

    def get_signature(self) -> Any:
        """Return what a score depends on; known once there is one."""
        return _CometSignature({"num_refs": self.num_refs}, self)

    def _extract_corpus_statistics(
        self, hypotheses: Sequence[str], references: Sequence[Sequence[str]] | None
    ) -> list[list[float]]:
        """Return each sentence's score and its weight; sacreBLEU adds these up."""
        streams = references or self._references or ()
        if len(streams) != 1:
            raise CorpusError(f"COMET compares with one reference, got {len(streams)}: name one, or leave comet out")
        if len(self.text.sources) != len(hypotheses):
            raise CorpusError(
                f"COMET needs the source of each translation, got {len(self.text.sources)} sources and "
                f"{len(hypotheses)} translations"
            )
        found = self.text.model.scores(self.text.sources, hypotheses, streams[0])
        self.num_refs, self.kind = int(found.kind == "comet"), found.kind
        return [[score, 1.0] for score in found.scores]

    def _aggregate_and_compute(self, statistics: Sequence[Sequence[float]]) -> Any:
        return self._compute_score_from_stats(np.array(statistics, np.float64).sum(0))

    def _compute_score_from_stats(self, total: Any) -> Any:
        return Score("COMET", float(_SCALE * total[0] / total[1]))


class _CometSignature(Signature):  # type: ignore[misc]
    def __init__(self, arguments: dict[str, Any], metric: CometMetric) -> None:
        super().__init__(arguments)
        model = metric.text.model
        own = {"model": model.name, "type": metric.kind, "sha256": model.digest, "scale": _SCALE}
        self._abbr.update({name: name for name in own})
        self.info.update({**own, "version": library()})
