"""Translations that end in a loop: the same few tokens again and again. Needs no library."""

from collections.abc import Sequence

LOOP_COPIES = 3
"""Copies in a row that are a loop, where they are long enough and the source has fewer."""
LOOP_TOKENS = 8
"""Tokens that a loop has at least."""
RETRY_SIZES = (3, 2, 1)
"""`no_repeat_ngram_size` of each new trial."""


def is_loop(tokens: Sequence[int], source: Sequence[int] = ()) -> bool:
    """Report whether a translation ends in a loop, and its source does not: a source may well repeat itself.

    >>> is_loop([9, 4, 5, 6, 4, 5, 6, 4, 5, 6]), is_loop([4, 4, 4, 4]), is_loop([4] * 8), is_loop([4] * 8, [7] * 9)
    (True, False, True, False)
    """
    found = looped_tokens(tokens)
    return found >= LOOP_TOKENS and found > looped_tokens(source)


def looped_tokens(tokens: Sequence[int]) -> int:
    """Return the tokens of the longest loop that a text ends in, give or take a few tokens of its end; 0: none."""
    return max((_at_end(tokens, period) for period in range(1, len(tokens) // LOOP_COPIES + 1)), default=0)


def _at_end(tokens: Sequence[int], period: int) -> int:
    """Return the tokens at the end that stand there `period` earlier as well, those ones included."""
    longest = 0
    for cut in range(min(period, 3)):  # a full stop may follow the loop
        end = len(tokens) - cut
        equal = 0
        while equal < end - period and tokens[end - 1 - equal] == tokens[end - 1 - equal - period]:
            equal += 1
        if equal + period >= LOOP_COPIES * period:
            longest = max(longest, equal + period)
    return longest
