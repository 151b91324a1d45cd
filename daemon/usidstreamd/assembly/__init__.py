"""Blocks in any order become whole tiles, and exactly what has arrived is known at every moment.

The theory: a main is cut in tiles of whole HDF5 chunks (`grid`). A block is cut at the tiles
(`blocks`), each part is copied once, from message memory into the tile's buffer (`tiles`), and
noted element by element (`coverage`). A complete tile is handed out and leaves nothing behind but
one flag. Buffers come from one pool; when it is empty, the tile that was used longest ago is parked
in a scratch, where it goes on taking elements in place (`pool`, `scratch`). What the main's
positions hold is derived from the tiles whenever it is asked for (`summary`).

Pure numpy. It knows no sockets, no HDF5, no codecs, and not when anything is durable.
"""

from .assembly import MAX_RANGES, Assembly, Placement
from .blocks import AlreadyCovered, Block, Part
from .grid import Rect, TileGrid, choose_chunks, make_grid
from .pool import BufferPool
from .scratch import MemoryScratch, Scratch
from .summary import COMPLETE, MISSING, PARTIAL
from .tiles import Tile

__all__ = [
    "COMPLETE",
    "MAX_RANGES",
    "MISSING",
    "PARTIAL",
    "AlreadyCovered",
    "Assembly",
    "Block",
    "BufferPool",
    "MemoryScratch",
    "Part",
    "Placement",
    "Rect",
    "Scratch",
    "Tile",
    "TileGrid",
    "choose_chunks",
    "make_grid",
]
