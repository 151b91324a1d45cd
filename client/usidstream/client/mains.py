"""The mains of a scan, as a caller names them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from ..delivery import MainShape, conform, prefers_shuffle
from ..errors import BlockError
from ..layout import ScanLayout


class Mains:
    """The mains of one scan, by name."""

    def __init__(self, shapes: Iterable[MainShape]) -> None:
        self._shapes = {shape.name: shape for shape in shapes}

    @classmethod
    def of(cls, layout: ScanLayout) -> Mains:
        """Return the mains of a layout."""
        return cls(
            MainShape(
                main.name,
                layout.n_positions,
                main.n_spectroscopic,
                main.np_dtype,
                tuple(dimension.size for dimension in main.spectroscopic),
            )
            for main in layout.mains
        )

    def __iter__(self) -> Iterator[MainShape]:
        return iter(self._shapes.values())

    def __len__(self) -> int:
        return len(self._shapes)

    def get(self, name: Any) -> MainShape:
        """Return a main by its name, the only one for None; raise ``unknown_main``, naming all."""
        if name is None:
            return self._only()
        shape = self._shapes.get(name) if isinstance(name, str) else None
        if shape is None:
            raise BlockError(f"no main {name!r}; the scan has {self}", code="unknown_main")
        return shape

    def _only(self) -> MainShape:
        if len(self) != 1:
            raise BlockError(
                f"the scan has several mains ({self}): say which",
                code="unknown_main",
                hint="Give main=..., or a dict of main names and spectra.",
            )
        return next(iter(self))

    def __str__(self) -> str:
        return ", ".join(map(repr, self._shapes))


def choose_shuffle(mains: Mains, sample: Any) -> dict[str, bool]:
    """Return by main whether its bytes are to be shuffled, as a sample of its data shows.

    Parameters
    ----------
    sample
        Rows of the only main, shape (n, M), or a dict of such by main.

    Raises
    ------
    BlockError
        A main is unknown, or its sample does not fit it.
    """
    samples = sample if isinstance(sample, Mapping) else {None: sample}
    chosen: dict[str, bool] = {}
    for name, values in samples.items():
        shape = mains.get(name)
        table = conform.table(shape, values, None, None)
        chosen[shape.name] = prefers_shuffle(np.asarray(table, shape.dtype))
    return chosen
