"""A block of elements as the wire, the assembly and the journal each name it: translation only."""

from __future__ import annotations

import numpy as np

from usidstream import wire

from ..assembly import Block
from ..storage import JournalBlock


def block_as_taken(main: int, block: wire.Block) -> JournalBlock:
    """Return a message's block; its data is the message's own."""
    return JournalBlock(
        main=main,
        row=block.row,
        rows=block.rows,
        col=block.col,
        cols=block.cols,
        data=block.frames[-1],
        numbers=block.frames[0] if len(block.frames) == 2 else None,
    )


def block_to_place(block: JournalBlock) -> Block:
    """Return a journal's block as the assembly takes it."""
    numbers = None if block.numbers is None else np.frombuffer(block.numbers, dtype="<u8")
    data = memoryview(block.data)
    return Block(block.row, block.rows, block.col, block.cols, data, numbers)


def journal_block(main: int, block: Block) -> JournalBlock:
    """Return an assembly's block, with an array as its data, as the journal takes it."""
    numbers = block.row_numbers
    return JournalBlock(
        main=main,
        row=block.row,
        rows=block.rows,
        col=block.col,
        cols=block.cols,
        data=np.asarray(block.data).reshape(-1).view(np.uint8).data,
        numbers=None if numbers is None else numbers.astype("<u8").tobytes(),
    )
