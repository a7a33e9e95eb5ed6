"""BLEU of a model in training, on the first lines of the validation set, translated greedily.

Decisions
- sacreBLEU's counts are sums over sentences. Each worker translates its share of the lines, and the counts are added:
  the score is that of one worker.
- A worker's lines are grouped by length, so that padding costs little.
"""

from collections.abc import Sequence

import torch
from sacrebleu.metrics.bleu import BLEU, MAX_NGRAM_ORDER

from hat_ray.corpus.batches import pad_sources
from hat_ray.corpus.corpus import Corpus
from hat_ray.corpus.vocabulary import EOS
from hat_ray.model.beam import beam_search
from hat_ray.model.subtransformer import SubTransformer
from hat_ray.train.workers import Workers

_ROWS = 64
_LENGTH_FACTOR, _LENGTH_EXTRA = 1.2, 10  # the defaults of `evaluate`


class ValidationBleu:
    """The first `lines` validation sentences, this worker's share of them ready to be translated."""

    def __init__(self, corpus: Corpus, lines: int, workers: Workers) -> None:
        table, self._vocabularies, self._workers = corpus.valid, corpus.vocabularies, workers
        share = range(min(lines, len(table)))[workers.rank :: workers.world_size]
        rows = sorted(share, key=lambda row: (len(table.source[row]), row))
        self._groups = [rows[start : start + _ROWS] for start in range(0, len(rows), _ROWS)]
        self._sources = {row: table.source[row].tolist() for row in rows}
        text, decode = table.target_text, self._vocabularies.target.decode
        self._references = {row: text[row] if text else decode(table.target[row].tolist()) for row in rows}

    def of(self, model: SubTransformer) -> float:
        """Return BLEU, 0 to 100, over all workers' shares; the model is put back into the mode that it was in."""
        training = model.training
        model.eval()
        hypotheses = [text for rows in self._groups for text in self._translated(model, rows)]
        model.train(training)
        return self._score(hypotheses, [self._references[row] for rows in self._groups for row in rows])

    def _translated(self, model: SubTransformer, rows: Sequence[int]) -> list[str]:
        sources = [self._sources[row] for row in rows]
        longest = [min(int(_LENGTH_FACTOR * len(one) + _LENGTH_EXTRA), model.max_positions - 1) for one in sources]
        source = pad_sources(sources).to(model.device)
        found = beam_search(model, source, beam=1, max_length=longest)
        return [self._vocabularies.target.decode(_words(best[0].tokens)) for best in found]

    def _score(self, hypotheses: list[str], references: list[str]) -> float:
        own = [0.0] * (2 * MAX_NGRAM_ORDER + 2)
        if hypotheses:
            found = BLEU().corpus_score(hypotheses, [references])
            own = [*found.counts, *found.totals, found.sys_len, found.ref_len]
        sums = torch.tensor(own, dtype=torch.float64, device=self._workers.device)
        self._workers.all_reduce(sums)
        counts = [int(number) for number in sums.tolist()]
        right, made = counts[:MAX_NGRAM_ORDER], counts[MAX_NGRAM_ORDER : 2 * MAX_NGRAM_ORDER]
        score = BLEU.compute_bleu(right, made, counts[-2], counts[-1], smooth_method="exp")
        return float(score.score)


def _words(tokens: Sequence[int]) -> Sequence[int]:
    return tokens[:-1] if tokens[-1:] == (EOS,) else tokens
