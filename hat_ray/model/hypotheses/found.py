"""What decoding is asked for and finds, in tokens and as text. Needs no library."""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

Pairs = tuple[tuple[int, int], ...]
"""Which source token belongs to which token of the translation, each counted from 0."""


_LEAST_SHARE = 2.0**-126


@dataclass(frozen=True)
class Found:
    """A hypothesis of a source."""

    tokens: tuple[int, ...]
    """Without its end of sentence."""
    score: float
    """Its log-probability with all penalties, divided by length ** length_penalty, and what coverage costs (nats)."""
    token_scores: tuple[float, ...] = ()
    """The model's log-probability of each token and of the end of sentence, without penalties."""
    alignment: Pairs = ()


@dataclass(frozen=True)
class Hypothesis:
    """A hypothesis of a line."""

    text: str
    score: float
    """Its log-probability with all penalties, divided by length ** length_penalty, and what coverage costs (nats)."""
    tokens: tuple[str, ...] = ()
    """Its sub-words."""
    token_scores: tuple[float, ...] = ()
    """The model's log-probability of each sub-word and of the end of sentence, without penalties."""
    alignment: Pairs = ()
    """Pairs of a sub-word of the source and one of the translation, each counted from 0."""


@dataclass(frozen=True)
class Task:
    """A batch of sources, each with its bounds, to be decoded as `Decoding` asks for. B sources."""

    sources: Sequence[Sequence[int]]
    """Each ends with the end of sentence."""
    prefixes: Sequence[Sequence[int]]
    """Tokens that each translation begins with."""
    least: Sequence[int]
    """Tokens of each translation at least, the end of sentence not counted. Likewise `most`."""
    most: Sequence[int]
    beam: int
    length_penalty: float


def coverage(attended: Iterable[float]) -> float:
    """Return the sum of log(min(attention that a source token got in all, 1)): 0 where each got 1 or more (nats).

    A token that got next to nothing counts as one with the smallest normal float, and not without limit.
    """
    return math.fsum(math.log(min(max(one, _LEAST_SHARE), 1.0)) for one in attended)


def json_line(number: int, hypotheses: Sequence[Hypothesis]) -> str:
    """Return a line's hypotheses as one line of JSON; `number` counts the lines from 1."""
    found = [
        {
            "text": one.text,
            "score": one.score,
            "tokens": list(one.tokens),
            "token_scores": list(one.token_scores),
            **({"alignment": [list(pair) for pair in one.alignment]} if one.alignment else {}),
        }
        for one in hypotheses
    ]
    return json.dumps({"line": number, "hypotheses": found}, ensure_ascii=False)
