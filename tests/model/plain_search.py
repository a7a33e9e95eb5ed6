"""Beam search and its rules once more, as plainly as can be: one sentence, lists, no cache, the whole vocabulary."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

PAD, EOS = 1, 2
NEVER = float("-inf")


@dataclass(frozen=True)
class Plain:
    """A hypothesis: tokens without the end, score, and the model's own log-probabilities, the end's among them."""

    tokens: list[int]
    score: float
    token_scores: list[float]


def prices(
    row: Sequence[float], tokens: list[int], *, least: int, most: int, prefix: list[int], ngram: int, penalty: float
):
    """Return the log-probability of every word to follow, `NEVER` where none may."""
    found = [value * penalty if word in tokens else value for word, value in enumerate(row)]
    found[PAD] = NEVER
    if len(tokens) < least:
        found[EOS] = NEVER
    if ngram:
        seen = {tuple(tokens[start : start + ngram]) for start in range(len(tokens) - ngram + 1)}
        for word in range(len(found)):
            if (*tokens[len(tokens) - ngram + 1 :], word) in seen:
                found[word] = NEVER
    if len(tokens) < len(prefix):
        forced = prefix[len(tokens)]
        found = [row[word] if word == forced else NEVER for word in range(len(row))]
    if len(tokens) >= most or max(found) == NEVER:
        found = [row[word] if word == EOS else NEVER for word in range(len(row))]
    return found


def plain_search(
    logs: Callable[[list[int]], Sequence[float]],
    *,
    beam: int,
    length_penalty: float = 1.0,
    least: int = 1,
    most: int,
    prefix: Sequence[int] = (),
    ngram: int = 0,
    penalty: float = 1.0,
) -> list[Plain]:
    """Return the finished hypotheses, best first; `logs` gives all words' log-probabilities after some tokens."""
    alive: list[tuple[float, list[int], list[float]]] = [(0.0, [], [])]
    finished: list[Plain] = []
    for position in range(most + 1):
        candidates = []
        for total, tokens, scores in alive:
            row = logs(tokens)
            rules = {"least": least, "most": most, "prefix": list(prefix), "ngram": ngram, "penalty": penalty}
            for word, price in enumerate(prices(row, tokens, **rules)):
                candidates.append((total + price, tokens, word, [*scores, row[word]]))
        candidates.sort(key=lambda each: -each[0])
        for total, tokens, word, scores in candidates[:beam]:
            if word == EOS and total > NEVER and len(finished) < beam:
                finished.append(Plain(tokens, total / (position + 1) ** length_penalty, scores))
        if len(finished) >= beam:
            break
        following = [each for each in candidates[: 2 * beam] if each[2] != EOS and each[0] > NEVER]
        alive = [(total, [*tokens, word], scores) for total, tokens, word, scores in following[:beam]]
    return sorted(finished, key=lambda each: -each.score)
