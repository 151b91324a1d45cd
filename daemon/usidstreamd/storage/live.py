"""One scan's HDF5 file while it grows: written by one thread, read by anybody at any time.

The file is in SWMR mode from before the first chunk until it is finalised. Chunks arrive encoded
and are written as they are; a commit publishes the mains first and what is said about them after,
then syncs. All data goes in by direct chunk writes, the coverage too: HDF5 (2.0) that fails to
flush data from its chunk cache on a full disk crashes the process at the next close.

It knows HDF5 and the file's structure; it never knows blocks, clients or clocks, nor whether what
it is told about coverage is true.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from usidstream.layout import ScanLayout

from ..h5usid import write_simple_attrs
from . import structure
from .address import AddressedWriter
from .chunktable import ChunkTable
from .coverage import COMPLETE, Coverage, CoverageUpdate, incomplete_ranges
from .datasets import LiveMain, Payload
from .errors import (
    StorageError,
    damaged_error,
    half_way_error,
    storage_error,
    sync_error,
)
from .files import journal_dir, publish_new, remove, sync_file
from .finished import FinishedResult
from .record import CREATING_NAME, MainPlan
from .space import CHUNKS_KEEP_FREE_BYTES, COMMITS_KEEP_FREE_BYTES, require_room
from .superblock import require_closed
from .syncs import sync
from .template import TEMPLATE_NAME, save_template

LIBVER = ("v110", "v110")  # superblock 3 for SWMR, and readable from HDF5 1.10 on


class LiveFile:
    """A scan's open file. Made by `create` or `resume`; used by one thread.

    Attributes
    ----------
    path : Path
    layout : ScanLayout
    """

    def __init__(self, path: Path, layout: ScanLayout) -> None:
        self.path = path
        self.layout = layout
        self._file: Any = None
        self._sync_fd = os.open(path, os.O_RDWR | getattr(os, "O_BINARY", 0))
        try:
            self._file = _open_for_writing(path)
            structure.say_acquiring(self._file[structure.measurement_path(layout)])
            self._mains = {
                name: LiveMain(self._file, dataset_path)
                for name, dataset_path in structure.main_paths(layout).items()
            }
            for main in self._mains.values():
                main.unseal()
            self._file.swmr_mode = True
            self._writer = AddressedWriter(self._file.id, self._sync_fd)
        except BaseException:
            self._release()
            raise

    @classmethod
    def create(
        cls,
        path: Path,
        layout: ScanLayout,
        plans: Mapping[str, MainPlan],
        *,
        scan_id: str,
        created: datetime,
    ) -> LiveFile:
        """Create the file with everything in it but data, safely on the disk under its name.

        It is built in the journal directory, which must exist, and published when it is whole; a
        template stays there.

        Parameters
        ----------
        path
            The file's final name; one that exists is never overwritten.
        plans
            For each main, by its name, its chunks and filters.

        Raises
        ------
        StorageError
            ``no_space`` or ``storage_failed``; neither file nor template is left behind.
        LayoutError
            An attribute has one of `reserved_names`.
        """
        temporary = journal_dir(path) / CREATING_NAME
        try:
            require_room(path.parent, 0, COMMITS_KEEP_FREE_BYTES)
            with h5py.File(temporary, "w", libver=LIBVER, locking=False) as h5_file:
                structure.build(h5_file, layout, plans, scan_id=scan_id, created=created)
            sync_file(temporary)
            save_template(temporary, temporary.parent)
            publish_new(temporary, path)
            return cls._open_new(path, layout)
        except BaseException as error:
            remove(temporary.with_name(TEMPLATE_NAME))
            if isinstance(error, OSError | RuntimeError):
                raise storage_error("create", path, error) from error
            raise
        finally:
            remove(temporary)

    @classmethod
    def _open_new(cls, path: Path, layout: ScanLayout) -> LiveFile:
        try:
            return cls(path, layout)
        except BaseException:
            remove(path)
            raise

    @classmethod
    def resume(cls, path: Path, layout: ScanLayout, scan_id: str) -> LiveFile:
        """Open a file that an earlier daemon closed, or interrupted, to go on with it.

        Raises
        ------
        StorageError
            ``file_damaged``: it was not closed, is no HDF5 file, or holds another scan;
            ``storage_failed``: it cannot be opened. The file is as it was.
        """
        with _reading(path, layout, scan_id):
            pass
        try:
            return cls(path, layout)
        except (OSError, RuntimeError) as error:
            raise _unreadable(path, error) from error

    @property
    def is_open(self) -> bool:
        """Whether it can be written; not after `close`, nor after `finalise`, failed or not."""
        return self._file is not None

    # ------------------------------------------------------------ writing

    def require_room(self, nbytes: int) -> None:
        """Raise ``no_space`` unless there is room for chunks of so many bytes, and some more."""
        require_room(self.path, nbytes, CHUNKS_KEEP_FREE_BYTES)

    def write_chunk(self, main: str, row: int, col: int, payload: Payload) -> int:
        """Write one encoded chunk; return its address in the file.

        Parameters
        ----------
        main
            The main's name in the layout.
        row, col
            The chunk's first element.
        payload
            The whole chunk as the dataset's filters decode it.

        Raises
        ------
        StorageError
            ``no_space`` or ``storage_failed``; the chunk does not count as written.
        ValueError
            An unfiltered chunk has a wrong length, or the address is none of a chunk.
        """
        try:
            return self._mains[main].write_chunk(row, col, payload, self._writer)
        except (OSError, RuntimeError) as error:
            raise storage_error("write", self.path, error) from error

    def commit(self, updates: Mapping[str, CoverageUpdate], *, is_last: bool = False) -> None:
        """Publish what was written and its coverage to readers, and make both durable.

        Parameters
        ----------
        updates
            For mains whose coverage changed, by their names. What they say is covered must have
            been written before.
        is_last
            `finalise` follows, which makes them durable.

        Raises
        ------
        StorageError
            ``no_space``: nothing was done.
        SyncError
            It failed half-way: nothing since the last commit is durable, and the file must not be
            relied on for more.
        """
        require_room(self.path, 0, COMMITS_KEEP_FREE_BYTES)
        try:
            # The mains reach the file before what is said about them: a 1 never precedes its data.
            self._file.flush()
            for name, update in updates.items():
                self._mains[name].write_coverage(update)
            self._file.flush()
        except (OSError, RuntimeError) as error:
            raise half_way_error("flush", self.path, error) from error
        if not is_last:
            self._sync()

    def _sync(self) -> None:
        try:
            sync(self._sync_fd, "hdf5")
        except OSError as error:
            raise sync_error(self.path, error) from error

    # ------------------------------------------------------------ reading back

    def read_coverage(self, main: str) -> Coverage:
        """Return the coverage of a main as last committed."""
        return self._mains[main].read_coverage()

    def read_rect(self, main: str, row: int, rows: int, col: int, cols: int) -> npt.NDArray[Any]:
        """Read elements (rows, cols) of a main; what was never written is 0."""
        try:
            return self._mains[main].read(row, rows, col, cols)
        except (OSError, RuntimeError) as error:
            raise storage_error("read", self.path, error) from error

    # ------------------------------------------------------------ the end

    def finalise(
        self, status: str, attrs: Mapping[str, Any], ended: datetime, chunks: ChunkTable
    ) -> FinishedResult:
        """Write checksums and final attributes, and close the file; on return it is on the disk.

        Readers may hold it open all along. The status is set last, so that a file that says it is
        finished has everything else.

        Parameters
        ----------
        status
            ``complete``, ``incomplete``, ``aborted`` or ``interrupted``.
        attrs
            Annotations and final attributes of the measurement.
        ended
            When the scan ended, with time zone.
        chunks
            Those that the file must have.

        Raises
        ------
        StorageError
            It is not finished. Nothing was done where `is_open` still holds; else it failed
            half-way, and the file is not to be relied on.
        ValueError
            The status is none of these, or is ``complete`` while the coverage says otherwise.
        """
        structure.refuse_reserved(attrs)
        result = _result(self.path, status, self._mains)
        nbytes = sum(main.checksums_nbytes for main in self._mains.values())
        require_room(self.path, nbytes, COMMITS_KEEP_FREE_BYTES)
        try:
            self._close_hdf5()
            with _open_for_writing(self.path) as h5_file:
                self._write_end(h5_file, result, attrs, ended, chunks)
            self._sync()
            self._close_descriptor()
        except (OSError, RuntimeError) as error:
            raise half_way_error("finalise", self.path, error) from error
        finally:
            self._release()
        return result

    def _write_end(
        self,
        h5_file: Any,
        result: FinishedResult,
        attrs: Mapping[str, Any],
        ended: datetime,
        chunks: ChunkTable,
    ) -> None:
        mains = {
            name: LiveMain(h5_file, path)
            for name, path in structure.main_paths(self.layout).items()
        }
        for number, main in enumerate(mains.values()):
            main.drop_unused_ranges()
            main.seal(chunks.of_main(number))
        measurement = h5_file[structure.measurement_path(self.layout)]
        write_simple_attrs(measurement, attrs)
        n_complete = _n_complete_everywhere(mains)
        measurement.attrs.modify("positions_complete", np.int64(n_complete))
        structure.set_text(measurement, "acquisition_end", ended.isoformat(timespec="milliseconds"))
        h5_file.flush()
        structure.set_text(measurement, "acquisition_status", result.status)

    def close(self) -> None:
        """Close the file so that the scan can be resumed; on return it is on the disk.

        Raises
        ------
        StorageError
            It is not closed cleanly, and has to be recovered before `resume`.
        """
        try:
            self._close_hdf5()
            self._sync()
            self._close_descriptor()
        except (OSError, RuntimeError) as error:
            raise storage_error("close", self.path, error) from error
        finally:
            self._release()

    def _close_hdf5(self) -> None:
        if self._file is not None:
            h5_file, self._file = self._file, None
            close_firmly(h5_file)

    def _release(self) -> None:
        """Let go of everything, whatever the state; for where a cause is being raised already."""
        with contextlib.suppress(OSError, RuntimeError):
            self._close_hdf5()
        with contextlib.suppress(OSError):
            self._close_descriptor()

    def _close_descriptor(self) -> None:
        if self._sync_fd >= 0:
            fd, self._sync_fd = self._sync_fd, -1
            os.close(fd)


def ended_result(path: Path, layout: ScanLayout, scan_id: str) -> FinishedResult | None:
    """Return the result of a scan whose file was finalised, and wholly so; else ``None``.

    Raises
    ------
    StorageError
        As `LiveFile.resume`.
    """
    with _reading(path, layout, scan_id) as h5_file:
        measurement = h5_file[structure.measurement_path(layout)]
        status = structure.get_text(measurement, "acquisition_status")
        if status == structure.STATUS_ACQUIRING:
            return None
        mains = {name: LiveMain(h5_file, p) for name, p in structure.main_paths(layout).items()}
        if not all(main.is_sealed() for main in mains.values()):
            return None
        return _result(path, status, mains)


@contextlib.contextmanager
def _reading(path: Path, layout: ScanLayout, scan_id: str) -> Iterator[Any]:
    """Open a closed file to look at it, after it is known to be this scan's."""
    require_closed(path)
    try:
        with h5py.File(path, "r", locking=False) as h5_file:
            structure.require_scan(h5_file, layout, scan_id)
            yield h5_file
    except structure.OtherStructureError as error:
        raise damaged_error(path, f"is not the scan's file: {error}") from error
    except (OSError, RuntimeError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> StorageError:
    if getattr(error, "errno", None) is not None:  # the operating system's word, not HDF5's
        return storage_error("read", path, error)
    return damaged_error(path, f"cannot be opened: {error}")


def _open_for_writing(path: Path) -> Any:
    # Readers may hold the file, and a lock of theirs would refuse us. Another writer is known by
    # its flags, looked at before. Nothing is read twice, so a chunk cache would only cost memory.
    return h5py.File(path, "r+", libver=LIBVER, locking=False, rdcc_nbytes=0)


def close_firmly(h5_file: Any) -> None:
    """Close an HDF5 file so that it is gone from the process, even if that raises.

    A first close that fails leaves the file half open (HDF5 2.0: "slist already enabled?") and
    would crash the process at its exit; a second one frees it.
    """
    try:
        h5_file.close()
    except (OSError, RuntimeError):
        with contextlib.suppress(OSError, RuntimeError):
            h5_file.close()
        raise


def _result(path: Path, status: str, mains: Mapping[str, LiveMain]) -> FinishedResult:
    if status not in structure.FINAL_STATUSES:
        raise ValueError(f"status {status!r} is none of {', '.join(structure.FINAL_STATUSES)}")
    missing = {name: incomplete_ranges(main.state_blocks()) for name, main in mains.items()}
    missing = {name: ranges for name, ranges in missing.items() if ranges}
    if status == "complete" and missing:
        raise ValueError(f"{path} is not complete: {', '.join(missing)} have gaps")
    return FinishedResult(file=str(path.absolute()), status=status, missing=missing)


def _n_complete_everywhere(mains: Mapping[str, LiveMain]) -> int:
    """Count the positions that are complete in every main."""
    blocks = zip(*(main.state_blocks() for main in mains.values()), strict=True)
    return sum(
        int(np.count_nonzero(np.all([states == COMPLETE for states in block], axis=0)))
        for block in blocks
    )
