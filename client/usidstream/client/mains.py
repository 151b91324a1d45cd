"""The mains of a scan, as a caller names them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from ..delivery import MainShape
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
