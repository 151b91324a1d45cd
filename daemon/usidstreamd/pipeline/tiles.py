"""Tiles on their way into the file: encoded in the codec pool, written by the storage thread.

Knows which writes are under way and, once each is done, where its chunks lie. A *barrier* is passed
when all writes that were under way at its making are done. It knows nothing of rows, acks or when
anything is durable.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy.typing as npt

from .. import storage
from ..assembly import Assembly, Tile
from ..codecs import Codec

Post: TypeAlias = Callable[[Any], None]


@dataclass(frozen=True, slots=True)
class EncodeFailed:
    """A tile could not be encoded or handed to the storage thread."""

    error: BaseException


@dataclass(frozen=True, slots=True)
class MainParts:
    """A main's assembly, codec and HDF5 chunk shape."""

    assembly: Assembly
    codec: Codec
    chunks: tuple[int, int]


@dataclass(frozen=True, slots=True)
class _Write:
    main: str
    tile: Tile
    is_complete: bool
    nbytes: int


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
        self.nbytes = 0
        self._barriers: list[_Barrier] = []
        self._addresses: list[storage.ChunkAddress] = []
        self._written: list[Tile] = []

    def write(self, main: str, tile: Tile, data: npt.NDArray[Any], *, is_complete: bool) -> None:
        """Encode and write a tile's chunks."""
        token = next(self._tokens)
        self._writes[token] = _Write(main, tile, is_complete, data.nbytes)
        self.nbytes += data.nbytes
        self._encoders.submit(self._encode_and_store, token, self._writes[token], data)

    def after_all(self, then: Callable[[], None]) -> None:
        """Call ``then`` once every write that is under way now is done; now if there is none."""
        if self._writes:
            self._barriers.append(_Barrier(set(self._writes), then))
        else:
            then()

    def take_written(self) -> tuple[list[storage.ChunkAddress], list[Tile]]:
        """Take the addresses of chunks written since the last call, and their complete tiles."""
        taken = self._addresses, self._written
        self._addresses, self._written = [], []
        return taken

    def on_written(self, token: int, addresses: Sequence[storage.ChunkAddress]) -> None:
        """Note that a tile is in the file; give its buffer back and pass barriers."""
        write = self._writes.pop(token)
        self.nbytes -= write.nbytes
        self._addresses += addresses
        if write.is_complete:
            self._mains[write.main].assembly.release(write.tile)
            self._written.append(write.tile)
        for barrier in self._barriers:
            barrier.tokens.discard(token)
        passed = [barrier for barrier in self._barriers if not barrier.tokens]
        self._barriers = [barrier for barrier in self._barriers if barrier.tokens]
        for barrier in passed:
            barrier.then()

    def _encode_and_store(self, token: int, write: _Write, data: npt.NDArray[Any]) -> None:
        """Encode a tile's chunks and hand them over. Runs in a codec thread."""
        parts = self._mains[write.main]
        try:
            chunks = [
                (row, col, parts.codec.encode(chunk, parts.chunks, col))
                for (row, col), chunk in write.tile.chunks(data)
            ]
            self._store.submit(
                storage.WriteTile(
                    main=write.main, chunks=chunks, is_complete=write.is_complete, token=token
                )
            )
        except BaseException as error:  # noqa: BLE001 - the socket thread ends the scan with it
            self._post(EncodeFailed(error))
