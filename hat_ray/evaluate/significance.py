"""Is one model's BLEU above another's? Paired bootstrap over sentences (Koehn, 2004), by sacreBLEU.

The p value is the chance that test sets like this one, of models that are equally good, differ by as much. It is about
the choice of sentences. What another seed of the training would give is another question: the spread over seeds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sacrebleu.metrics.bleu import BLEU
from sacrebleu.significance import PairedTest

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
