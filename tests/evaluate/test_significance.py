"""Paired bootstrap over sentences."""

import random

from sacrebleu.metrics.bleu import BLEU
from sacrebleu.significance import PairedTest

from hat_ray.evaluate.significance import PairedComparison, paired_bootstrap

WORDS = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k"]
_RNG = random.Random(0)
REFERENCES = [" ".join(_RNG.choice(WORDS) for _ in range(12)) for _ in range(150)]


def noisy(share: float, seed: int) -> list[str]:
    """The references with a share of their words drawn anew."""
    rng = random.Random(seed)
    return [" ".join(w if rng.random() > share else rng.choice(WORDS) for w in line.split()) for line in REFERENCES]


def test_a_real_difference_is_told_from_chance_and_equal_texts_are_alike() -> None:
    found = paired_bootstrap(
        noisy(0.1, 1), {"worse": noisy(0.2, 2), "as good": noisy(0.1, 3), "equal": noisy(0.1, 1)}, REFERENCES
    )
    assert found["worse"] < 0.01
    assert found["as good"] > 0.05
    assert found["equal"] == 1.0
    assert paired_bootstrap(noisy(0.1, 1), {}, REFERENCES) == {}


def test_values_are_sacrebleus_own() -> None:
    systems = [("mine", noisy(0.1, 1)), ("other", noisy(0.12, 4))]
    _, theirs = PairedTest(systems, {"BLEU": BLEU()}, [REFERENCES], test_type="bs", n_samples=1000)()
    assert paired_bootstrap(systems[0][1], {"other": systems[1][1]}, REFERENCES)["other"] == theirs["BLEU"][1].p_value


def test_of_several_seeds_the_least_favourable_one_counts() -> None:
    assert PairedComparison("a", "b", (0.01, 0.2, 0.03)).p == 0.2
