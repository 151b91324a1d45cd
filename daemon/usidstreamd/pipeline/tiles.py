"""Tiles on their way into the file: encoded in the codec pool, written by the storage thread.

Knows which writes are under way and, once each is done, where its chunks lie. A *barrier* is passed
when all writes that were under way at its making are done. HDF5 has one lock for all files of the
process, so a write may hang because of a file that is not this scan's: whoever cannot wait takes
such tiles another way, and says so. It knows nothing of rows, acks or when anything is durable.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy.typing as npt

from .. import storage
from ..assembly import Assembly, Tile
from ..codecs import Codec

Post: TypeAlias = Callable[[Any], None]

STALL_S = 0.5
"""Writes hang when none has been done for so long."""


@dataclass(frozen=True, slots=True)
class EncodeFailed:
    """A tile could not be encoded or handed to the storage thread."""

    error: BaseException


@dataclass(frozen=True, slots=True)
class EncoderLetGo:
    """A codec thread reads a tile no more whose writer was closed meanwhile."""

    token: int


@dataclass(frozen=True, slots=True)
class MainParts:
    """A main's assembly, codec and HDF5 chunk shape."""

    assembly: Assembly
    codec: Codec
    chunks: tuple[int, int]


@dataclass(slots=True)
class _Write:
    main: str
    tile: Tile
    is_complete: bool
    nbytes: int
    encode_s: float = 0.0


@dataclass(slots=True)
class _Barrier:
    tokens: set[int]
    then: Callable[[], None]


class TileWriter:
    """The writes of one scan.

    Parameters
    ----------
    mains, store, encoders, post
        As `ScanPipeline` has them.

    Attributes
    ----------
    nbytes
        Bytes of the tiles that are on their way.
    written_bytes
        Of all chunks written so far, as they lie in the file.
    encoded_bytes, encode_s
        Of all tiles written so far: their size before, and the time of codec threads.
    has_overtaken_written
        Whether `take_written` would tell of tiles that were overtaken.
    """

    def __init__(
        self,
        mains: Mapping[str, MainParts],
        store: storage.StorageThread,
        encoders: Executor,
        post: Post,
    ) -> None:
        self._mains = mains
        self._store = store
        self._encoders = encoders
        self._post = post
        self._tokens = itertools.count(1)
        self._writes: dict[int, _Write] = {}
        self._overtaken: set[int] = set()
        self._n_written = 0
        self._n_seen = 0
        self._quiet_since_s = 0.0
        self.has_overtaken_written = False
        self.nbytes = 0
        self.written_bytes = 0
        self.encoded_bytes = 0
        self.encode_s = 0.0
        self._barriers: list[_Barrier] = []
        self._addresses: list[storage.ChunkAddress] = []
        self._written: list[Tile] = []
        self._lent: dict[int, _Write] = {}
        self._lock = threading.Lock()  # of the next two, which codec threads share with `close`
        self._encoding: set[int] = set()
        self._is_closed = False

    @property
    def count(self) -> int:
        """The number of tiles that are on their way."""
        return len(self._writes)

    def write(self, main: str, tile: Tile, data: npt.NDArray[Any], *, is_complete: bool) -> None:
        """Encode and write a tile's chunks."""
        token = next(self._tokens)
        self._writes[token] = _Write(main, tile, is_complete, data.nbytes)
        self.nbytes += data.nbytes
        self._encoders.submit(self._encode_and_store, token, self._writes[token], data)

    def after_all(self, then: Callable[[], None], *, but_overtaken: bool = False) -> None:
        """Call ``then`` once every write that is under way now is done; now if there is none.

        With ``but_overtaken`` those that were taken another way are not waited for.
        """
        tokens = self._writes.keys() - (self._overtaken if but_overtaken else set())
        if tokens:
            self._barriers.append(_Barrier(tokens, then))
        else:
            then()

    def is_stalled(self, now: float) -> bool:
        """Tell whether the writes under way hang. To be asked now and then."""
        if not self._writes or self._n_written != self._n_seen:
            self._n_seen, self._quiet_since_s = self._n_written, now
        return now - self._quiet_since_s >= STALL_S

    def overtake(self) -> list[tuple[str, Tile]]:
        """Return main and tile of the complete ones under way, each once, to be taken another way.

        They are written all the same, some time.
        """
        tokens = self._writes.keys() - self._overtaken
        self._overtaken |= tokens
        writes = [self._writes[token] for token in sorted(tokens)]
        return [(write.main, write.tile) for write in writes if write.is_complete]

    def take_written(self) -> tuple[list[storage.ChunkAddress], list[Tile]]:
        """Take the addresses of chunks written since the last call, and their complete tiles."""
        taken = self._addresses, self._written
        self._addresses, self._written = [], []
        self.has_overtaken_written = False
        return taken

    def on_written(self, token: int, addresses: Sequence[storage.ChunkAddress]) -> None:
        """Note that a tile is in the file; give its buffer back and pass barriers."""
        if token not in self._writes:  # after `close`
            return
        write = self._writes.pop(token)
        self._n_written += 1
        self.nbytes -= write.nbytes
        if token in self._overtaken:
            self._overtaken.remove(token)
            self.has_overtaken_written = True
        self._addresses += addresses
        self.written_bytes += sum(address.nbytes for address in addresses)
        self.encoded_bytes += write.nbytes
        self.encode_s += write.encode_s
        self._release(write)
        if write.is_complete:
            self._written.append(write.tile)
        for barrier in self._barriers:
            barrier.tokens.discard(token)
        passed = [barrier for barrier in self._barriers if not barrier.tokens]
        self._barriers = [barrier for barrier in self._barriers if barrier.tokens]
        for barrier in passed:
            barrier.then()

    def close(self) -> None:
        """Give the buffers back of all writes under way; nobody waits for them any more.

        A buffer that a codec thread reads at this moment comes back by `on_let_go`: another scan
        would fill it under the reader's eyes. What no thread has begun with is never encoded. The
        storage thread must have been told to close: what codec threads still hand over comes after
        that, and is refused.
        """
        with self._lock:
            self._is_closed = True
            lent = self._writes.keys() & self._encoding
            self._lent |= {token: self._writes.pop(token) for token in lent}
        for write in self._writes.values():
            self._release(write)
        self._writes.clear()
        self._barriers.clear()
        self.nbytes = 0

    def on_let_go(self, token: int) -> None:
        """Give a buffer back that a codec thread still read when the writer was closed."""
        self._release(self._lent.pop(token))

    def _release(self, write: _Write) -> None:
        if write.is_complete:
            self._mains[write.main].assembly.release(write.tile)

    def _encode_and_store(self, token: int, write: _Write, data: npt.NDArray[Any]) -> None:
        """Encode a tile's chunks and hand them over. Runs in a codec thread."""
        if not self._begin_encoding(token):
            return
        try:
            chunks = self._encode(token, write, data)
            self._store.submit(
                storage.WriteTile(
                    main=write.main, chunks=chunks, is_complete=write.is_complete, token=token
                )
            )
        except BaseException as error:  # noqa: BLE001 - the socket thread ends the scan with it
            self._post(EncodeFailed(error))

    def _encode(
        self, token: int, write: _Write, data: npt.NDArray[Any]
    ) -> list[tuple[int, int, bytes]]:
        """Return a tile's encoded chunks, each with its row and column."""
        parts = self._mains[write.main]
        began_s = time.perf_counter()
        try:
            return [
                (row, col, parts.codec.encode(chunk, parts.chunks, col))
                for (row, col), chunk in write.tile.chunks(data)
            ]
        finally:
            write.encode_s = time.perf_counter() - began_s
            self._end_encoding(token)

    def _begin_encoding(self, token: int) -> bool:
        """Return whether a tile is to be read: not when its buffer was given back."""
        with self._lock:
            if not self._is_closed:
                self._encoding.add(token)
            return not self._is_closed

    def _end_encoding(self, token: int) -> None:
        """Note that a tile is read no more, which may be waited for."""
        with self._lock:
            self._encoding.remove(token)
            is_lent = self._is_closed
        if is_lent:
            self._post(EncoderLetGo(token))
