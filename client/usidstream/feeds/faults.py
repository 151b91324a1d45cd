"""What goes wrong with instruments, on purpose: switches of the simulator that test a daemon.

`FAULTS` is the whole list. Faults of single writes are made by `FaultyScan`, which stands between
the simulator and the scan; faults in time (stall, crash, abort) by the simulator itself.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any, Literal, Protocol, cast

import numpy as np
import numpy.typing as npt

from ..errors import BlockError
from ..layout import ScanLayout
from .texture import uniform


@dataclass(frozen=True)
class FaultKind:
    """What a fault does, and what its number means."""

    argument: Literal["fraction", "seconds", "count"]
    meaning: str
    refused_with: str | None = None


FAULTS: Mapping[str, FaultKind] = MappingProxyType(
    {
        "drop": FaultKind("fraction", "this fraction of the writes is never made"),
        "duplicate": FaultKind(
            "fraction", "this fraction of the writes is made twice", "already_covered"
        ),
        "stray": FaultKind(
            "fraction", "so many writes more go to rows beyond the scan", "out_of_bounds"
        ),
        "corrupt": FaultKind("fraction", "this fraction of the writes is damaged on the wire"),
        "stall": FaultKind("seconds", "in the middle of the scan nothing comes for so long"),
        "crash": FaultKind("count", "the process dies after so many pixels, without a word"),
        "abort": FaultKind("count", "the operator aborts the scan after so many pixels"),
    }
)
"""The kinds of fault; ``refused_with`` is the error that the daemon answers, as expected."""


SETTLE_TIMEOUT_S = 60.0

MAX_AMOUNT = 1e15
"""Largest number of a switch: seconds or pixels beyond any scan."""


@dataclass(frozen=True)
class Fault:
    """One switch: a key of `FAULTS` and its number."""

    kind: str
    amount: float


def parse_fault(text: str) -> Fault:
    """Read ``kind=number``.

    Raises
    ------
    ValueError
        Unknown kind, or a number that does not fit it; tells what would.
    """
    kind, _, number = text.partition("=")
    if kind not in FAULTS:
        close = difflib.get_close_matches(kind, FAULTS, n=1)
        hint = f"did you mean '{close[0]}'?" if close else f"use one of {', '.join(FAULTS)}."
        raise ValueError(f"Fault '{kind}' is not known; {hint}")
    argument = FAULTS[kind].argument
    try:
        amount = float(number)
    except ValueError:
        amount = -1.0
    largest = 1.0 if argument == "fraction" else MAX_AMOUNT
    if not 0 <= amount <= largest or (argument == "count" and amount != int(amount)):
        raise ValueError(f"Fault '{kind}' needs a {argument}, such as {kind}={_EXAMPLES[argument]}")
    return Fault(kind, amount)


_EXAMPLES = {"fraction": "0.01", "seconds": "5", "count": "500"}


class Writable(Protocol):
    """The write calls of a client's Scan."""

    def write(self, row: int, spectrum: Any, *, main: str | None = None) -> None:
        """Write a pixel."""

    def write_block(
        self, row: int, block: npt.NDArray[Any], *, col: int = 0, main: str | None = None
    ) -> None:
        """Write a rectangle."""

    def write_at(
        self, rows: npt.NDArray[Any], block: npt.NDArray[Any], *, main: str | None = None
    ) -> None:
        """Write scattered pixels."""


class ScanLike(Writable, Protocol):
    """What the faults need besides."""

    def wait_durable(self, timeout_s: float | None = None) -> Any:
        """Wait until everything written is safe."""


class FaultyScan:
    """Passes writes on to a scan, except that some go wrong.

    Errors that the faults provoke are counted, and the call that told them is made again: a scan
    tells an error about an earlier block once, before it takes the next. ``made`` counts the
    faults, ``refused`` the errors by code.

    Parameters
    ----------
    scan
        What is written to. ``corrupt`` needs its method ``corrupt_next_block()``.
    layout
        The scan's layout.
    faults
        Any; those in time are left alone.
    seed
        Chooses which writes are hit; the same ones in any order of the scan.
    """

    def __init__(
        self, scan: ScanLike, layout: ScanLayout, faults: Iterable[Fault], seed: int = 0
    ) -> None:
        self._scan = scan
        self._layout = layout
        self._seed = seed
        self._fractions = {fault.kind: fault.amount for fault in faults}
        self._expected = {FAULTS[kind].refused_with for kind in self._fractions} - {None}
        self.made = dict.fromkeys(("drop", "duplicate", "stray", "corrupt"), 0)
        self.refused: dict[str, int] = {}
        if "corrupt" in self._fractions and not hasattr(scan, "corrupt_next_block"):
            raise ValueError("Fault 'corrupt' needs a scan with the method corrupt_next_block.")

    def write(self, row: int, spectrum: Any, *, main: str | None = None) -> None:
        """Write a pixel, or not."""
        for shift, is_extra in self._shifts(row, 0):
            self._make(partial(self._scan.write, row + shift, spectrum, main=main), is_extra)

    def write_block(
        self, row: int, block: npt.NDArray[Any], *, col: int = 0, main: str | None = None
    ) -> None:
        """Write a block, or not."""
        for shift, is_extra in self._shifts(row, col):
            write = partial(self._scan.write_block, row + shift, block, col=col, main=main)
            self._make(write, is_extra)

    def write_at(
        self, rows: npt.NDArray[Any], block: npt.NDArray[Any], *, main: str | None = None
    ) -> None:
        """Write scattered pixels, or not."""
        for shift, is_extra in self._shifts(int(rows[0]), 0):
            self._make(partial(self._scan.write_at, rows + shift, block, main=main), is_extra)

    def settle(self) -> None:
        """Collect the errors about the last writes, which no other call would tell."""
        if self._expected:
            self._make(partial(self._scan.wait_durable, timeout_s=SETTLE_TIMEOUT_S))

    def _shifts(self, row: int, col: int) -> list[tuple[int, bool]]:
        """Return the writes to make of one: what to add to the rows, and whether it is a fault."""
        shifts = [(0, False)]
        if self._hits("drop", row, col):
            shifts = []
        elif self._hits("duplicate", row, col):
            shifts.append((0, True))
        if shifts and self._hits("corrupt", row, col):
            cast(Any, self._scan).corrupt_next_block()
        if self._hits("stray", row, col):
            shifts.append((self._layout.n_positions, True))
        return shifts

    def _make(self, write: Callable[[], Any], is_extra: bool = False) -> None:
        while True:
            try:
                write()
            except BlockError as error:
                self._count(error)
                if not is_extra:
                    continue
            return

    def _count(self, error: BlockError) -> None:
        """Count a provoked error; any other is raised, and so are more than there were faults."""
        if error.code not in self._expected or sum(self.refused.values()) >= sum(
            self.made.values()
        ):
            raise error
        self.refused[error.code] = self.refused.get(error.code, 0) + 1

    def _hits(self, kind: str, row: int, col: int) -> bool:
        fraction = self._fractions.get(kind)
        if not fraction:
            return False
        salt = self._seed + 1 + list(FAULTS).index(kind)
        place = np.uint64(row) ^ (np.uint64(col) << np.uint64(40))
        is_hit = bool(uniform(place, salt)[0] < fraction)
        self.made[kind] += is_hit
        return is_hit
