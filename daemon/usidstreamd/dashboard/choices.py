"""What the page's boxes offer for a scan's mains, and what is meant by what is chosen there.

Pure: from views to the words and keys of the boxes, and back to mains, reductions and titles.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from .views import MainView

MAX_PANELS_COUNT = 4
AT_COLUMN = "at a column"
LATEST = "latest"

_VALUE_WORDS: Mapping[str, str] = MappingProxyType(
    {LATEST: "newest image", "mean": "mean", "max": "maximum", "at:0": "value"}
)
_SEVERAL = "+"
"""Behind the number of a main: it, and those that follow it, side by side."""


def channels_offered(views: Sequence[MainView]) -> list[tuple[str, str]]:
    """Return key and words of what can be shown: mains side by side, and each alone."""
    alone = [(f"{number}", view.name) for number, view in enumerate(views)]
    if len(views) < 2:
        return alone
    groups = range(0, len(views), MAX_PANELS_COUNT)
    return [(f"{first}{_SEVERAL}", _group_words(first, len(views))) for first in groups] + alone


def is_channel(key: str) -> bool:
    """Tell whether a key is one of `channels_offered`, not what stands there before."""
    return key.rstrip(_SEVERAL).isdecimal()


def mains_shown(key: str, n_mains: int) -> list[int]:
    """Return the numbers of the mains that a key of `channels_offered` shows."""
    first = int(key.rstrip(_SEVERAL))
    if not key.endswith(_SEVERAL):
        return [first]
    return list(range(first, min(first + MAX_PANELS_COUNT, n_mains)))


def values_offered(view: MainView) -> list[tuple[str, str]]:
    """Return key and words of what can be shown of each spectrum."""
    offered = [(reduction, _VALUE_WORDS[reduction]) for reduction in view.reductions]
    return [*offered, (AT_COLUMN, AT_COLUMN)] if view.n_columns > 1 else offered


def column_wanted(value: str, view: MainView) -> int | None:
    """Return the column that a reduction ``at:COLUMN`` of a page's address asks for, if it does."""
    if view.n_columns > 1 and value.startswith("at:") and value[3:].isdecimal():
        return min(int(value[3:]), view.n_columns - 1)
    return None


def reduction_of(view: MainView, value: str, column: int) -> str:
    """Return what is shown of a main's spectra: its only value where there is but one.

    Parameters
    ----------
    value
        A key of `values_offered`, perhaps of another main.
    column
        The one that is chosen, perhaps beyond this main's last.
    """
    if view.n_columns == 1:
        return "at:0"
    if value == AT_COLUMN:
        return f"at:{min(column, view.n_columns - 1)}"
    return value if value in view.reductions else "mean"


def column_of(reduction: str) -> int | None:
    """Return the column that a reduction shows, if it shows one."""
    column = reduction.partition(":")[2]
    return int(column) if column else None


def panel_title(view: MainView, reduction: str, latest: int | None = None) -> str:
    """Return the title of a map: the main's name and what is shown of it.

    Parameters
    ----------
    latest
        The column that is the newest image, once that is known.
    """
    column = latest if reduction == LATEST else column_of(reduction)
    if view.n_columns == 1:
        return view.name
    if column is not None:
        return f"{view.name} at {_column_words(view, column)}"
    return f"{view.name}, {_VALUE_WORDS[reduction]}"


def _group_words(first: int, n_mains: int) -> str:
    last = min(first + MAX_PANELS_COUNT, n_mains)
    return "all" if n_mains <= MAX_PANELS_COUNT else f"{first + 1} to {last}"


def _column_words(view: MainView, column: int) -> str:
    words, rest = [], column
    for axis in view.spectrum:
        rest, step = divmod(rest, len(axis.values))
        if len(axis.values) > 1:
            words.append(f"{axis.name} {axis.values[step]:.4g} {axis.units}".rstrip())
    return ", ".join(words)
