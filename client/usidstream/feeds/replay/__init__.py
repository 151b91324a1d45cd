"""Sends an existing file's data again, bit for bit: h5USID of any age, and NSID.

This module alone imports h5py, and only when a file is opened; its parts get open HDF5 objects and
know nothing of the library. What a file says about its axes is read here into a layout; how the
data reaches a daemon is the Scan's business. Memory does not grow with the file.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from .errors import SourceError
from .recording import Recording, make_recording

__all__ = ["Recording", "SourceError", "open_replay"]

CHUNK_CACHE_BYTES = 64 * 2**20
"""HDF5's cache for each dataset: holds a band of chunks, so that none is decoded twice."""


@contextmanager
def open_replay(path: str | PathLike[str], *, main: str | None = None) -> Iterator[Recording]:
    """Open a file for replay; it is closed at the end of the ``with`` block.

    Parameters
    ----------
    path
        An h5USID file, old or new, or an NSID file.
    main
        The path of a main dataset, or of a group that holds some; all mains of the file by default.

    Raises
    ------
    SourceError
        No such file, not HDF5, no main dataset, mains that do not share their positions, or h5py is
        not installed; tells what to do.
    LayoutError
        The data cannot be described, for instance because of its type; names the field.
    """
    with _open_hdf5(fspath(path)) as h5_file:
        yield make_recording(h5_file, main)


def _open_hdf5(path: str) -> Any:
    try:
        import h5py
    except ModuleNotFoundError as error:
        raise SourceError(
            "Reading HDF5 files needs h5py.", hint="pip install 'usidstream[daemon]'"
        ) from error
    if not Path(path).is_file():
        raise SourceError(f"{path}: there is no such file.", hint="Check the path.")
    if not h5py.is_hdf5(path):
        raise SourceError(f"{path} is not an HDF5 file.", hint="Give an h5USID or NSID file.")
    try:
        return h5py.File(path, "r", rdcc_nbytes=CHUNK_CACHE_BYTES)
    except OSError as error:
        raise SourceError(
            f"{path} cannot be opened: {error}.",
            hint="It is damaged, or a program is still writing to it.",
        ) from error
