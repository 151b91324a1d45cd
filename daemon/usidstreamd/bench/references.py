"""How a scan is written without this project: the guide's loop, and blocks, by plain h5py.

They get decoded blocks and know neither sockets nor clocks.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import h5py
import numpy as np
import numpy.typing as npt

from usidstream.layout import MainLayout, ScanLayout

LOOP_CACHE_BYTES = 8 << 20
BLOCK_BYTES = 1 << 20
GZIP_LEVEL = 4


class Reference(Protocol):
    """Takes what arrives."""

    def take(self, main: str, row: int, col: int, block: npt.NDArray[Any]) -> None:
        """Take a block of rows ``row ...`` and columns ``col ...``, shape (rows, columns)."""

    def close(self) -> None:
        """Write what is left and close the file."""


class Nothing:
    """Takes everything and writes nothing: what socket and protocol alone cost."""

    def take(self, main: str, row: int, col: int, block: npt.NDArray[Any]) -> None:
        """See `Reference.take`."""

    def close(self) -> None:
        """See `Reference.close`."""


class Loop:
    """``dset[i] = row`` with h5py's automatic chunks, as in the guide to writing h5USID files.

    Parameters
    ----------
    path
        Of the file to make.
    layout
        The whole scan: h5py's automatic chunks depend on its shape, so they are the same where only
        a first part of it is sent.
    """

    def __init__(self, path: Path, layout: ScanLayout) -> None:
        self._file = h5py.File(path, "w", rdcc_nbytes=LOOP_CACHE_BYTES)
        self._datasets = {
            main.name: self._file.create_dataset(
                main.name,
                layout.shape(main.name),
                main.np_dtype,
                chunks=True,
                compression="gzip",
                compression_opts=GZIP_LEVEL,
            )
            for main in layout.mains
        }

    def take(self, main: str, row: int, col: int, block: npt.NDArray[Any]) -> None:
        """See `Reference.take`."""
        dataset = self._datasets[main]
        if block.shape[1] == dataset.shape[1]:
            for index, spectrum in enumerate(block, row):
                dataset[index] = spectrum
        else:
            for index, column in enumerate(block.T, col):
                dataset[row : row + len(block), index] = column

    def close(self) -> None:
        """See `Reference.close`."""
        self._file.close()


class Blocks:
    """``dset[a:b] = block`` with blocks that are whole chunks of 1 MiB, gzip 4 and shuffle.

    Takes whole rows, in order.
    """

    def __init__(self, path: Path, layout: ScanLayout) -> None:
        self._file = h5py.File(path, "w")
        self._mains = {main.name: _Gathered(self._file, layout, main) for main in layout.mains}

    def take(self, main: str, row: int, col: int, block: npt.NDArray[Any]) -> None:
        """See `Reference.take`."""
        if col:
            raise ValueError("blocks of whole rows only")
        self._mains[main].take(row, block)

    def close(self) -> None:
        """See `Reference.close`."""
        for main in self._mains.values():
            main.flush()
        self._file.close()


class _Gathered:
    """Rows of a main, gathered until they are a whole chunk."""

    def __init__(self, file: h5py.File, layout: ScanLayout, main: MainLayout) -> None:
        n_rows, n_cols = layout.shape(main.name)
        rows = min(n_rows, max(1, BLOCK_BYTES // main.row_nbytes))
        self._dataset = file.create_dataset(
            main.name,
            (n_rows, n_cols),
            main.np_dtype,
            chunks=(rows, n_cols),
            compression="gzip",
            compression_opts=GZIP_LEVEL,
            shuffle=True,
        )
        self._buffer = np.empty((rows, n_cols), main.np_dtype)
        self._first = 0
        self._used = 0

    def take(self, row: int, block: npt.NDArray[Any]) -> None:
        if row != self._first + self._used:
            raise ValueError(f"row {row} out of order")
        while len(block):
            part = block[: len(self._buffer) - self._used]
            self._buffer[self._used : self._used + len(part)] = part
            self._used += len(part)
            block = block[len(part) :]
            if self._used == len(self._buffer):
                self.flush()

    def flush(self) -> None:
        self._dataset[self._first : self._first + self._used] = self._buffer[: self._used]
        self._first += self._used
        self._used = 0
