"""Ranges of positions in words, for whoever reads them. Pure."""

from __future__ import annotations

from collections.abc import Sequence


def ranges_in_words(ranges: Sequence[tuple[int, int]], most: int) -> str:
    """Say how many positions half-open ranges hold, and which.

    Parameters
    ----------
    ranges
        Each from its first position to behind its last.
    most
        Ranges that are named; the rest is counted.

    Examples
    --------
    >>> ranges_in_words([(0, 3), (7, 8), (9, 11)], most=2)
    '6 positions: 0..2, 7 and 1 more ranges'
    """
    shown = ranges[:most]
    words = ", ".join(f"{a}..{b - 1}" if b - a > 1 else f"{a}" for a, b in shown)
    count = sum(b - a for a, b in ranges)
    rest = len(ranges) - len(shown)
    return f"{count} positions: {words}" + (f" and {rest} more ranges" if rest else "")
