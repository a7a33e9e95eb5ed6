"""The settings of a request for translations, by the names that people know, with their bounds. Needs no library."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields


@dataclass(frozen=True)
class Knob:
    """The bounds of a setting, and its help."""

    least: float
    most: float
    help: str


KNOBS: Mapping[str, Knob] = {
    "beam": Knob(1, 1_000, "Hypotheses kept while searching. Default: the model's."),
    "length_penalty": Knob(
        0, 100, "Exponent of the length that divides a hypothesis's log-probability. Default: the model's."
    ),
    "max_length_factor": Knob(
        0, 1_000, "Tokens of a translation for each of its source, at most. Default: the model's."
    ),
    "min_length_factor": Knob(0, 1_000, "Tokens of a translation for each of its source, at least. Default: 0."),
    "n_best": Knob(1, 1_000, "Hypotheses of each line, the best first. Default: 1."),
    "no_repeat_ngram_size": Knob(0, 1_000, "No run of this many tokens comes twice; 0 (default): any may."),
    "repetition_penalty": Knob(
        0.01, 100, "Factor of the log-probability of a token that stands there already; 1 (default): none."
    ),
    "coverage_penalty": Knob(
        0, 100, "Weight of source tokens that a translation leaves out, when hypotheses are ranked; 0 (default): none."
    ),
    "sampling": Knob(0, 1, "Draw translations at random, by their probability, instead of searching the best."),
    "temperature": Knob(0.01, 100, "Of sampling: above 1 unlikely tokens are drawn more often. Default: 1."),
    "top_k": Knob(0, 1_000_000, "Of sampling: draw among this many best tokens; 0 (default): among all."),
    "seed": Knob(0, 2**63 - 1, "Of sampling: the same seed draws the same. Default: other draws each time."),
    "retry_loops": Knob(
        0, 1, "Translate a line again, without repeated n-grams, where its translation ends in a loop."
    ),
}
"""Every setting that is a number or a switch."""

MOST_PREFIX = 100_000
"""Characters of a prefix at most."""


@dataclass(frozen=True)
class Decoding:
    """How lines are to be decoded. At its defaults nothing differs from the model's own beam search.

    >>> Decoding(n_best=3, no_repeat_ngram_size=4).is_plain, Decoding(beam=8).is_plain
    (False, True)
    """

    beam: int | None = None
    """Hypotheses kept while searching; None: the model's own. Likewise the next two."""
    length_penalty: float | None = None
    """Exponent of the length, end of sentence included, that divides a hypothesis's log-probability."""
    max_length_factor: float | None = None
    """A translation has at most this many tokens for each of its source, and the model's `max_length_extra` more."""
    min_length_factor: float = 0.0
    """A translation has at least this many tokens for each of its source."""
    n_best: int = 1
    """Hypotheses that are returned; at most `beam`. Of sampling: translations that are drawn."""
    no_repeat_ngram_size: int = 0
    """No run of this many tokens comes twice in a translation; 0: any may."""
    repetition_penalty: float = 1.0
    """A token that stands in the translation already has its log-probability multiplied by this."""
    coverage_penalty: float = 0.0
    """Weight of the sum, over the source's tokens, of log(min(attention it got, 1)): Wu et al. (2016), section 7.

    It is added to the score of a hypothesis that has ended, after the length has divided that: it ranks hypotheses and
    steers no step. The attention is what `alignments` take, the mean of the last decoder layer's heads, summed over the
    steps that found the translation and its end. The source's end of sentence counts as well.
    """
    sampling: bool = False
    """Draw each token by its probability. There is no beam then."""
    temperature: float = 1.0
    """Logits are divided by it before a token is drawn."""
    top_k: int = 0
    """Tokens are drawn among this number of best ones; 0: among all."""
    seed: int | None = None
    """The same seed draws the same for the same line, whatever stands beside it. None: other draws each time."""
    prefix: str | tuple[str, ...] = ""
    """Text that every translation begins with; a tuple has one for each line."""
    retry_loops: bool = False
    """Decode a line again with `no_repeat_ngram_size` where its translation ends in a loop."""
    alignments: bool = False
    """Align each token with the source token that the last layer attends to most."""

    @property
    def needs_attention(self) -> bool:
        """Whether the runtime has to show what each step attends to."""
        return self.alignments or self.coverage_penalty > 0

    @property
    def is_plain(self) -> bool:
        """Whether the model's own beam search does all that is asked for."""
        changes = {"beam", "length_penalty", "max_length_factor", "retry_loops"}
        return all(getattr(self, each.name) == each.default for each in fields(self) if each.name not in changes)

    def changes(self) -> dict[str, float]:
        """Return the settings of the model's own beam search that are given."""
        given = {name: getattr(self, name) for name in ("beam", "length_penalty", "max_length_factor")}
        return {name: value for name, value in given.items() if value is not None}

    def prefix_of(self, row: int) -> str:
        """Return the text that a line's translation begins with."""
        return self.prefix if isinstance(self.prefix, str) else self.prefix[row]


def why_not(wanted: Decoding, beam: int, lines: int | None = None) -> str | None:
    """Return the rule that a request breaks, in one line; None: it breaks none. `beam` is the one it comes to."""
    for name in KNOBS:
        if (reason := why_no_number(name, getattr(wanted, name))) is not None:
            return reason
    prefixes = list(wanted.prefix) if isinstance(wanted.prefix, tuple | list) else [wanted.prefix]
    if not all(isinstance(prefix, str) and len(prefix) <= MOST_PREFIX for prefix in prefixes):
        return f"prefix must be text of at most {MOST_PREFIX} characters: shorten it"
    if lines is not None and not isinstance(wanted.prefix, str) and len(prefixes) != lines:
        return f"prefix must be one text, or one for each of {lines} lines, got {len(prefixes)}"
    return _why_not_together(wanted, beam)


def why_no_number(name: str, value: object) -> str | None:
    """Return why a setting cannot have a value; None: it can."""
    knob, default = KNOBS[name], _DEFAULTS[name]
    if value is None and default is None:
        return None
    if isinstance(default, bool):
        return None if isinstance(value, bool) else f"{name} must be true or false, got {value!r:.60}"
    whole = isinstance(default, int) or name in ("beam", "seed")
    if isinstance(value, bool) or not isinstance(value, int if whole else int | float) or not math.isfinite(value):
        return f"{name} must be {'a whole number' if whole else 'a number'}, got {value!r:.60}"
    if not knob.least <= value <= knob.most:
        return f"{name} must be from {knob.least:g} to {knob.most:g}, got {value!r:.60}"
    return None


def _why_not_together(wanted: Decoding, beam: int) -> str | None:
    if wanted.sampling:
        return "sampling has no beam: leave beam out, or sampling" if wanted.beam is not None else None
    for name in ("temperature", "top_k", "seed"):
        if getattr(wanted, name) != _DEFAULTS[name]:
            return f"{name} is a setting of sampling: add sampling, or leave {name} out"
    if wanted.n_best > beam:
        return f"n_best can be at most the beam, which is {beam}, got {wanted.n_best}: raise beam"
    return None


_DEFAULTS = {each.name: each.default for each in fields(Decoding)}
