"""A training policy by its short name, such as `front/sandwich+distill`, and what it changes in a recipe."""

from collections.abc import Sequence
from dataclasses import dataclass

from hat_ray.core.config import nearest_name

SHARINGS = ("front", "middle", "importance")
SAMPLINGS = ("uniform", "sandwich", "stratified")
DISTILL = "distill"
SHARE = 0.5
"""Share of the loss that `+distill` takes from the largest architecture where the recipe does not set it."""


@dataclass(frozen=True)
class PolicySpec:
    """Which slice of a weight is shared, which architectures an update trains, and how much is distilled."""

    sharing: str
    sampling: str
    distillation: float | None = None
    """Share of the loss; None for none, 0 for the recipe's own share."""

    @property
    def name(self) -> str:
        share = f"={self.distillation:g}" if self.distillation else ""
        return f"{self.sharing}/{self.sampling}" + (f"+{DISTILL}{share}" if self.distillation is not None else "")

    @property
    def slug(self) -> str:
        """The name as a folder's name."""
        return self.name.replace("/", ".").replace("+", ".").replace("=", "-")

    def share(self, recipes: float) -> float:
        """Return the share of the loss that is distilled, given the recipe's own."""
        if self.distillation is None:
            return 0.0
        return self.distillation or recipes or SHARE


def parse_policy(text: str) -> PolicySpec:
    """Read `sharing/policy`, `sharing/policy+distill` or `sharing/policy+distill=0.3`; raises ValueError."""
    head, plus, tail = text.strip().partition("+")
    sharing, slash, sampling = head.partition("/")
    if not slash:
        raise ValueError(f"a policy must read sharing/policy, such as front/uniform, got {text!r}")
    _require(sharing, SHARINGS, "sharing", text)
    _require(sampling, SAMPLINGS, "policy", text)
    if not plus:
        return PolicySpec(sharing, sampling)
    word, equals, share = tail.partition("=")
    _require(word, (DISTILL,), "addition", text)
    if sampling != "sandwich":
        raise ValueError(f"+{DISTILL} needs the sandwich policy, which trains the largest in each update, got {text!r}")
    return PolicySpec(sharing, sampling, _share(share, text) if equals else 0.0)


def _require(value: str, known: Sequence[str], kind: str, text: str) -> None:
    if value not in known:
        near = nearest_name(value, list(known))
        hint = f"did you mean {near}?" if near else f"known are {', '.join(known)}"
        raise ValueError(f"{text!r} has an unknown {kind} {value!r}; {hint}")


def _share(text: str, whole: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 < share <= 1:
        raise ValueError(f"the distilled share must lie above 0 and not above 1, got {whole!r}")
    return share
