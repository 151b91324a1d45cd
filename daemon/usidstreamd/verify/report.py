"""What a verification found: plain data, and the limit of how much of one kind is told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

MAX_FAULTS_PER_PLACE_COUNT = 20

READ_ERRORS = (OSError, RuntimeError, ValueError, KeyError, TypeError, AttributeError)
"""What h5py raises for a damaged object, depending on where it is damaged."""


@dataclass
class MainReport:
    """One main dataset.

    Parameters
    ----------
    path
        Where it stands in the file.
    shape, dtype
        Of the dataset.
    complete, partial
        Numbers of positions that are said to be so; None where there is no coverage.
    status
        ``acquisition_status`` of its measurement; None where there is none.
    checksums
        Number of chunks whose stored bytes were compared with a checksum; None where none are held.
    """

    path: str
    shape: tuple[int, int]
    dtype: str
    complete: int | None = None
    partial: int | None = None
    status: str | None = None
    checksums: int | None = None


@dataclass
class Report:
    """What was found in a file.

    Parameters
    ----------
    file
        The path as it was given.
    faults
        One sentence each, beginning with the place in the file; empty for a sound file.
    notes
        What is unusual but not wrong.
    mains
        The main datasets.
    chunks, nbytes
        Chunks that were decoded, or blocks where there are none, and their bytes in the file.
    """

    file: str
    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    mains: list[MainReport] = field(default_factory=list)
    chunks: int = 0
    nbytes: int = 0
    _told: Counter[str] = field(default_factory=Counter, repr=False)

    def fault(self, place: str, text: str) -> None:
        """Add a fault of an object of the file, or of the file itself where place is empty."""
        place = place or self.file
        self._told[place] += 1
        if self._told[place] <= MAX_FAULTS_PER_PLACE_COUNT:
            self._add(f"{place}: {text}")
        elif self._told[place] == MAX_FAULTS_PER_PLACE_COUNT + 1:
            self._add(f"{place}: and further faults of the same object")

    def _add(self, fault: str) -> None:
        self.faults.append(fault)

    def note(self, place: str, text: str) -> None:
        """Add what is unusual but not wrong."""
        self.notes.append(f"{place}: {text}")

    def fill(self, plain: Mapping[str, Any]) -> None:
        """Take over what `to_dict` gave, but for the faults."""
        self.notes = list(plain["notes"])
        self.mains = [
            MainReport(**(main | {"shape": tuple(main["shape"])})) for main in plain["mains"]
        ]
        self.chunks, self.nbytes = plain["chunks"], plain["nbytes"]

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain data, for JSON."""
        return {
            "file": self.file,
            "sound": not self.faults,
            "faults": list(self.faults),
            "notes": list(self.notes),
            "mains": [asdict(main) for main in self.mains],
            "chunks": self.chunks,
            "nbytes": self.nbytes,
        }
