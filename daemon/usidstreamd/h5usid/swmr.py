"""Opens HDF5 files that are being written, or that a writer has left, without ever hanging.

A SWMR reader reads metadata whose checksum is wrong again, for its writer may be about to put it
right, and waits twice as long each time: HDF5's hundred attempts never end on a file whose writer
was killed between two halves of a page. The number of attempts is a property of the file access
list that h5py does not offer; it is set here through the C function in the library that h5py has
loaded. The waits are 1, 2, 4, ... ns, so that n attempts take about 2^n ns at most
(https://support.hdfgroup.org/documentation, H5Pset_metadata_read_attempts; the doubling is in
H5_retry_init's callers).
"""

from __future__ import annotations

import contextlib
import ctypes
import time
from functools import cache
from os import PathLike, fspath
from typing import Any

import h5py

METADATA_READ_ATTEMPTS_COUNT = 24
"""About 17 ms for one piece of metadata, a thousand times what a page takes to be written."""

MAX_TRIES_COUNT = 5
TRY_PAUSE_S = 0.05


def open_swmr(path: str | PathLike[str]) -> Any:
    """Open a file for reading that has, or had, a SWMR writer.

    Returns
    -------
    h5py.File

    Raises
    ------
    OSError
        The file has no such writer, or its metadata is torn; after 17 ms at most for each piece of
        metadata that is read.
    """
    access = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
    access.set_libver_bounds(h5py.h5f.LIBVER_EARLIEST, h5py.h5f.LIBVER_LATEST)
    access.set_file_locking(False, ignore_when_disabled=True)
    access.set_fclose_degree(h5py.h5f.CLOSE_STRONG)
    _cap_attempts()(access.id, METADATA_READ_ATTEMPTS_COUNT)
    flags = h5py.h5f.ACC_RDONLY | h5py.h5f.ACC_SWMR_READ
    return h5py.File(h5py.h5f.open(fspath(path).encode(), flags, fapl=access))


@cache
def _cap_attempts() -> Any:
    """Return the C function, from the HDF5 library that h5py itself has loaded."""
    for library in (h5py.h5p.__file__, "hdf5"):  # the second: Windows looks at one library alone
        with contextlib.suppress(OSError, AttributeError):
            cap = ctypes.CDLL(library).H5Pset_metadata_read_attempts
            cap.argtypes, cap.restype = [ctypes.c_int64, ctypes.c_uint], ctypes.c_int
            return cap
    raise OSError(
        "this build of h5py hides its HDF5 library, so that reading a growing file might hang; "
        "install h5py's own wheel: pip install --force-reinstall h5py"
    )


def open_readable(path: str | PathLike[str]) -> tuple[Any, bool]:
    """Open a file for reading, whatever its writer is doing.

    A few tries: between SWMR and closing, a writer sets attributes and lets nobody in.

    Returns
    -------
    h5py.File
    is_growing : bool
        Whether the file is marked as open for a SWMR writer; dead writers leave the mark.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    OSError
        It cannot be read; the message names what to do.
    """
    for attempt in range(MAX_TRIES_COUNT):
        if attempt:
            time.sleep(TRY_PAUSE_S)
        try:
            return h5py.File(path, "r", locking=False), False
        except FileNotFoundError:
            raise
        except OSError as error:
            plain = error
        try:
            return open_swmr(path), True
        except OSError as error:
            swmr = error
    if not h5py.is_hdf5(path):
        raise OSError(f"{path} is not an HDF5 file: {plain}")
    raise unreadable(path, swmr)


def unreadable(path: str | PathLike[str], cause: OSError) -> OSError:
    """Say that a file cannot be read, and what helps."""
    return OSError(
        f"{path} cannot be read: {cause}. If its writer has died, `usidstreamd recover` puts it "
        "right; it changes nothing while a daemon serves the file."
    )
