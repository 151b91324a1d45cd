"""A whole scan: its positions, and the mains that share them.

Positions are numbered with the first dimension fastest: row = i0 + n0 * (i1 + n1 * (i2 + ...)), and
columns likewise over a main's spectroscopic dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from typing import Any, Self

from ..errors import LayoutError, error_for
from . import toml
from .attributes import MAX_ATTRS_BYTES, AttributeValue, attrs_nbytes, check_attrs, same_attrs
from .dimension import Dimension, PositionTable
from .fields import at, check_keys, check_name, check_number, check_unique, kind_of, nearest
from .main import MainLayout, check_dimensions, read_dimensions

MAX_MAIN_BYTES = 2**62
"""Size of one main: keeps every offset in it within int64, with room for arithmetic."""

MAX_LAYOUT_ATTRS_COUNT = 16_384
"""Attributes of a scan and its mains together."""

MAX_MAINS = 1000
"""Mains of a scan: their groups are numbered Channel_000 to Channel_999."""


@dataclass(frozen=True, eq=False, kw_only=True)
class ScanLayout:
    """What a scan is.

    Parameters
    ----------
    name
        Prefix of the measurement's group: ``Measurement`` becomes ``Measurement_000``.
    positions
        Dimensions, fastest first, or a `PositionTable`.
    mains
        At least one main dataset; each has its own name.
    attrs
        Attributes of the measurement.
    pixel_time_s
        Time that the instrument takes for a position, in seconds; sizes chunks and time-outs.

    Raises
    ------
    LayoutError
        Names the field, as ``mains[1].spectroscopic[0].values``, and the fix.
    """

    name: str = "Measurement"
    positions: Sequence[Dimension] | PositionTable
    mains: Sequence[MainLayout]
    attrs: Mapping[str, AttributeValue | Any] = field(default_factory=dict)
    pixel_time_s: float | None = None

    def __post_init__(self) -> None:
        check_name(self.name, "name")
        if not isinstance(self.positions, PositionTable):
            object.__setattr__(self, "positions", check_dimensions(self.positions, "positions"))
        object.__setattr__(self, "mains", self._check_mains())
        object.__setattr__(self, "attrs", check_attrs(self.attrs))
        object.__setattr__(self, "pixel_time_s", self._check_pixel_time())
        self._check_sizes()

    @property
    def n_positions(self) -> int:
        """N: the number of positions, the rows of every main."""
        return math.prod(self.position_shape)

    @property
    def position_shape(self) -> tuple[int, ...]:
        """Steps of each position dimension, fastest first; ``(N,)`` for a table."""
        if isinstance(self.positions, PositionTable):
            return (self.positions.size,)
        return tuple(dimension.size for dimension in self.positions)

    @property
    def nbytes(self) -> int:
        """Raw bytes of all mains."""
        return self.n_positions * sum(main.row_nbytes for main in self.mains)

    def main(self, name: str) -> MainLayout:
        """Return the main of this name; an unknown one raises ``unknown_main``."""
        for main in self.mains:
            if main.name == name:
                return main
        raise error_for(
            "unknown_main",
            f"The scan '{self.name}' has no main {name!r}.",
            hint=nearest(name, (main.name for main in self.mains)),
        )

    def shape(self, main_name: str) -> tuple[int, int]:
        """Return the shape (N, M) of a main."""
        return self.n_positions, self.main(main_name).n_spectroscopic

    def _check_mains(self) -> tuple[MainLayout, ...]:
        if not isinstance(self.mains, list | tuple) or not 1 <= len(self.mains) <= MAX_MAINS:
            raise LayoutError(
                f"must be a list of 1 to {MAX_MAINS} mains.",
                field="mains",
                hint="Give mains=[MainLayout(...)].",
            )
        for i, main in enumerate(self.mains):
            if not isinstance(main, MainLayout):
                raise LayoutError(
                    f"must be a MainLayout, not {kind_of(main)}.",
                    field=f"mains[{i}]",
                    hint="Use MainLayout(name, quantity, units, dtype, ...).",
                )
        check_unique((main.name for main in self.mains), "mains[{}].name")
        return tuple(self.mains)

    def _check_pixel_time(self) -> float | None:
        if self.pixel_time_s is None:
            return None
        seconds = check_number(self.pixel_time_s, "pixel_time_s")
        if seconds <= 0:
            raise LayoutError(
                f"{seconds} is not positive.", field="pixel_time_s", hint="Give it in seconds."
            )
        return seconds

    def _check_sizes(self) -> None:
        for i, main in enumerate(self.mains):
            if self.n_positions * main.row_nbytes > MAX_MAIN_BYTES:
                raise LayoutError(
                    f"{self.n_positions} positions x {main.n_spectroscopic} elements"
                    f" x {main.np_dtype.itemsize} bytes are more than 2**62 bytes.",
                    field=f"mains[{i}]",
                    hint="Check the sizes of the dimensions.",
                )
        count = len(self.attrs) + sum(len(main.attrs) for main in self.mains)
        if count > MAX_LAYOUT_ATTRS_COUNT:
            raise LayoutError(
                f"with those of the mains are {count}, more than {MAX_LAYOUT_ATTRS_COUNT}.",
                field="attrs",
                hint="Gather some in one array.",
                code="bad_attribute",
            )
        total = attrs_nbytes(self.attrs) + sum(attrs_nbytes(main.attrs) for main in self.mains)
        if total > MAX_ATTRS_BYTES:
            raise LayoutError(
                f"with those of the mains hold {total} bytes, more than {MAX_ATTRS_BYTES}.",
                field="attrs",
                hint="Store large arrays as a main.",
                code="bad_attribute",
            )

    def to_dict(self) -> dict[str, Any]:
        """Return the layout as a plain dict for the wire; arrays stay arrays."""
        if isinstance(self.positions, PositionTable):
            positions: Any = self.positions.to_dict()
        else:
            positions = [dimension.to_dict() for dimension in self.positions]
        plain: dict[str, Any] = {"name": self.name, "positions": positions}
        if self.pixel_time_s is not None:
            plain["pixel_time_s"] = self.pixel_time_s
        return plain | {
            "attrs": dict(self.attrs),
            "mains": [main.to_dict() for main in self.mains],
        }

    @classmethod
    def from_dict(cls, table: object) -> Self:
        """Make a layout of a plain dict, as a message or a TOML file brings it.

        Raises
        ------
        LayoutError
            Also for unknown keys, naming the nearest, and for keys of later versions.
        """
        known = check_keys(
            table,
            required=("positions", "mains"),
            optional=("name", "attrs", "pixel_time_s"),
            reserved=("open_ended",),
        )
        arguments = dict(known)
        positions = arguments["positions"]
        if isinstance(positions, Mapping):
            with at("positions"):
                arguments["positions"] = PositionTable.from_dict(positions)
        else:
            arguments["positions"] = read_dimensions(positions, "positions")
        arguments["mains"] = _read_mains(arguments["mains"])
        return cls(**arguments)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Self:
        """Read a layout from a TOML file; errors name the file."""
        return cls.from_dict(toml.load(path))

    @classmethod
    def loads(cls, text: str) -> Self:
        """Read a layout from TOML text."""
        return cls.from_dict(toml.loads(text))

    def dumps(self) -> str:
        """Write the layout as TOML text; needs the package tomli-w."""
        return toml.dumps(self.to_dict())

    __hash__ = None  # type: ignore[assignment]  # equal by content, which may be large

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ScanLayout):
            return NotImplemented
        compared = ("name", "positions", "mains", "pixel_time_s")
        if any(getattr(self, key) != getattr(other, key) for key in compared):
            return False
        return same_attrs(self.attrs, other.attrs)


def _read_mains(tables: object) -> list[MainLayout]:
    if not isinstance(tables, list | tuple):
        raise LayoutError(
            f"must be a list, not {kind_of(tables)}.",
            field="mains",
            hint="In TOML each main is a [[mains]] table.",
        )
    mains = []
    for i, table in enumerate(tables):
        with at(f"mains[{i}]"):
            mains.append(MainLayout.from_dict(table))
    return mains
