"""The simulated instruments by name, and the choice between them and a layout of the user's own."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ..errors import LayoutError
from ..layout import ScanLayout
from .afm import AfmFeed
from .be import BandExcitationFeed
from .feed import Feed
from .generic import GenericFeed
from .raman import RamanFeed
from .stem import StemFeed
from .timeseries import TimeSeriesFeed

PRESETS: Mapping[str, Any] = MappingProxyType(
    {
        "afm": AfmFeed,
        "be": BandExcitationFeed,
        "raman": RamanFeed,
        "4dstem": StemFeed,
        "timeseries": TimeSeriesFeed,
    }
)


def preset(
    name: str, *, size: tuple[int, ...] | None = None, seed: int = 0, dtype: str | None = None
) -> Feed:
    """Return a simulated instrument.

    Parameters
    ----------
    name
        A key of `PRESETS`.
    size
        Steps of the first position dimensions, fastest first (columns, rows; for ``timeseries``
        also images); the preset's own for those that are not given.
    seed
        Chooses the sample and its noise.
    dtype
        One of the preset's element types; its first by default.

    Raises
    ------
    LayoutError
        Unknown name or type, or a size that does not fit; names the field and the fix.
    """
    if name not in PRESETS:
        raise LayoutError(f"'{name}' is not known.", field="preset", hint=_nearest_preset(name))
    kind = PRESETS[name]
    if dtype is not None and dtype not in kind.DTYPES:
        raise LayoutError(
            f"'{name}' has no {dtype}.", field="dtype", hint=f"Use {' or '.join(kind.DTYPES)}."
        )
    feed: Feed = kind(_fill_size(size, kind.DEFAULT_SIZE), seed, dtype or kind.DTYPES[0])
    return feed


def _fill_size(size: tuple[int, ...] | None, default: tuple[int, ...]) -> tuple[int, ...]:
    given = tuple(size or ())
    if len(given) > len(default) or any(not isinstance(n, int) or n < 1 for n in given):
        raise LayoutError(
            f"{given} does not fit.",
            field="size",
            hint=f"Give up to {len(default)} positive integers, such as {default}.",
        )
    return given + default[len(given) :]


def load_feed(
    preset_or_path: str,
    *,
    size: tuple[int, ...] | None = None,
    seed: int = 0,
    dtype: str | None = None,
) -> Feed:
    """Return the feed of a preset's name, or one for the layout in a TOML file.

    Raises
    ------
    LayoutError
        Neither a preset nor a file; a size or type for a file; whatever is wrong in the file.
    """
    if preset_or_path in PRESETS:
        return preset(preset_or_path, size=size, seed=seed, dtype=dtype)
    if not Path(preset_or_path).is_file():
        raise LayoutError(
            f"'{preset_or_path}' is neither a preset nor a file.",
            field="preset",
            hint=f"{_nearest_preset(preset_or_path)} Or give the path of a layout's TOML file.",
        )
    if size is not None or dtype is not None:
        raise LayoutError(
            "a layout file has its own.", field="size", hint="Leave size and dtype out, or edit it."
        )
    return GenericFeed(ScanLayout.load(preset_or_path), seed)


def _nearest_preset(name: str) -> str:
    close = difflib.get_close_matches(name, PRESETS, n=1)
    return f"Did you mean '{close[0]}'?" if close else f"Presets: {', '.join(PRESETS)}."
