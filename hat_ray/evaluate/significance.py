"""Is one model's BLEU above another's? Paired bootstrap over sentences (Koehn, 2004), by sacreBLEU.

The p value is the chance that test sets like this one, of models that are equally good, differ by as much. It is about
the choice of sentences. What another seed of the training would give is another question: the spread over seeds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sacrebleu.metrics.bleu import BLEU
from sacrebleu.significance import PairedTest

from hat_ray.evaluate.comet.metric import CometText
from hat_ray.evaluate.metrics import SHOWN, metric_of, require_parallel
from hat_ray.evaluate.tokenizers import tokenizer_of

RESAMPLES = 1_000


@dataclass(frozen=True)
class PairedComparison:
    """A winner and a rival, compared on the same sentences."""

    winner: str
    """The id of its architecture; likewise `rival`."""
    rival: str
    p_values: tuple[float, ...]
    """One for each seed that both were trained with."""

    @property
    def p(self) -> float:
        """The least favourable of the seeds."""
        return max(self.p_values)


def paired_bootstrap(
    system: Sequence[str], others: Mapping[str, Sequence[str]], references: Sequence[str], *, tokenizer: str = "13a"
) -> dict[str, float]:
    """Return the p value of each other system's difference in BLEU from `system`, by its name.

    Resampling has sacreBLEU's own seed, so that the same translations give the same values.
    """
    if not others:
        return {}
    metric = BLEU(tokenize=tokenizer_of(tokenizer), references=[list(references)])
    systems = [("", list(system)), *((name, list(lines)) for name, lines in others.items())]
    _, found = PairedTest(systems, {"BLEU": metric}, None, test_type="bs", n_samples=RESAMPLES)()
    mine, *theirs = next(values for name, values in found.items() if name != "System")
    return {
        name: 1.0 if one.score == mine.score else float(one.p_value)  # the test itself calls equal texts unlike
        for name, one in zip(others, theirs, strict=True)
    }


@dataclass(frozen=True)
class SystemComparison:
    """Two systems by one metric on the same sentences."""

    metric: str
    first: float
    second: float
    p: float
    """The chance that equally good systems differ by as much on sentences like these."""
    interval: tuple[float, float]
    """Where 95 % of resampled test sets have the first's score. Likewise `other_interval` the second's."""
    other_interval: tuple[float, float]
    signature: str


def compare_systems(
    first: Sequence[str],
    second: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    metrics: Sequence[str] = ("bleu", "chrf"),
    tokenizer: str = "auto",
    comet: CometText | None = None,
) -> tuple[SystemComparison, ...]:
    """Compare two translations of the same sentences by each metric; `references[k][i]` is sentence i's k-th.

    `comet` is what COMET reads, if it is a metric. Resampling has sacreBLEU's own seed, so that the same translations
    give the same values.
    """
    for system in (first, second):
        require_parallel(system, references)
    prepared = {SHOWN[name]: metric_of(name, tokenizer, references, comet) for name in metrics}
    systems = [("first", list(first)), ("second", list(second))]
    signatures, found = PairedTest(systems, prepared, None, test_type="bs", n_samples=RESAMPLES)()
    results = [values for name, values in found.items() if name != "System"]  # under names of its own, in order
    compared = []
    for name, signature, (mine, theirs) in zip(prepared, signatures.values(), results, strict=True):
        same = list(first) == list(second)  # the test itself calls equal texts unlike
        intervals = [(float(one.mean - one.ci), float(one.mean + one.ci)) for one in (mine, theirs)]
        p = 1.0 if same or theirs.p_value is None else float(theirs.p_value)
        compared.append(
            SystemComparison(
                name, float(mine.score), float(theirs.score), p, intervals[0], intervals[1], str(signature)
            )
        )
    return tuple(compared)
