"""A peer that repeats, swaps, damages and misaddresses blocks, over kills of the daemon.

What is refused, what is passed over, and what is stored is known beforehand; the file must hold
exactly that, and nothing of a block that was refused.
"""

from __future__ import annotations

import random
import secrets
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from support.autopsy import recoveries_told
from support.census import Tally
from support.daemon import Daemon
from support.instrument import open_patiently
from support.rawpeer import RawPeer, make_block
from support.rowscan import MAIN, N_ROWS, lost_rows, require_only, values
from support.witness import durable_rows
from usidstream import wire

BLOCK_ROWS = 4
BLOCKS_PER_LIFE = 256
LIVES = 2


class Spoiler:
    """Sends a block in one of many ways; knows what must come of it."""

    def __init__(self, endpoint: str, scan: str, chance: random.Random, stored: set[int]) -> None:
        self.peer = RawPeer(endpoint)
        self.stored = stored
        self._scan = scan
        self._chance = chance
        self._seq = 0
        open_patiently(self.peer, scan)
        self.expected_errors: dict[int, str] = {}

    def send(self, row: int) -> None:
        ways = [
            self.good, self.good, self.good, self.twice, self.behind_a_gap, self.damaged,
            self.misaddressed, self.held_already, self.again_with_other_values,
        ]  # fmt: skip
        self._chance.choice(ways)(row)

    def good(self, row: int) -> None:
        self.peer.send(self._block(row))
        self.stored |= set(range(row, row + BLOCK_ROWS))

    def twice(self, row: int) -> None:
        block = self._block(row)
        self.peer.send(block)
        self.peer.send(block)
        self.stored |= set(range(row, row + BLOCK_ROWS))

    def behind_a_gap(self, row: int) -> None:
        """Two halves, the second first: it is ignored and asked for again."""
        first, second = self._block(row, rows=2), self._block(row + 2, rows=2)
        self.peer.send(second)
        assert self.peer.expect(wire.Resend, scan=self._scan).seq == first.seq
        self.peer.send(first)
        self.peer.send(second)
        self.stored |= set(range(row, row + BLOCK_ROWS))

    def damaged(self, row: int) -> None:
        """A bit of the payload fell over on the way."""
        block = self._block(row)
        data = bytearray(block.frames[0])
        data[self._chance.randrange(len(data))] ^= 1 << self._chance.randrange(8)
        self._refused(replace(block, frames=(bytes(data),)), "bad_checksum")

    def misaddressed(self, row: int) -> None:
        """The address fell over: the payload's checksum would be right."""
        block = self._block(row)
        self._refused(replace(block, row=(row + BLOCK_ROWS) % N_ROWS), "bad_checksum")

    def held_already(self, row: int) -> None:
        """A block over one that is stored, which takes its free rows down with it."""
        self.good(row)
        over = self._block(row + 2, data=-values(np.arange(row + 2, row + 2 + BLOCK_ROWS)))
        self._refused(over, "already_covered")

    def again_with_other_values(self, row: int) -> None:
        """What is held stays as it is."""
        self.good(row)
        self.peer.send(self._block(row, data=-values(np.arange(row, row + BLOCK_ROWS)), again=True))

    def settle(self) -> None:
        """Wait until all is durable, and compare the errors that came."""
        while self.peer.expect(wire.Ack, scan=self._scan).durable < self._seq:
            self.peer.send(wire.Ping(scan=self._scan, commit=True))
        came = {error.seq: error.code for error in self.peer.seen if isinstance(error, wire.Error)}
        came.pop(0, None)  # recovering, before it was opened
        assert came == self.expected_errors

    def _refused(self, block: wire.Block, code: str) -> None:
        self.expected_errors[block.seq] = code
        self.peer.send(block)

    def _block(
        self, row: int, rows: int = BLOCK_ROWS, data: Any = None, **fields: Any
    ) -> wire.Block:
        self._seq += 1
        data = values(np.arange(row, row + rows)) if data is None else data
        return make_block(self._scan, MAIN, self._seq, row, data, **fields)


def test_exactly_the_good_blocks_are_in_the_file(tmp_path: Path, tally: Tally) -> None:
    chance = random.Random("spoilt")
    scan, stored = secrets.token_hex(16), set[int]()
    # Twice the room of a block, so that one that reaches over touches no other.
    starts = list(range(0, N_ROWS - 2 * BLOCK_ROWS, 2 * BLOCK_ROWS))
    chance.shuffle(starts)
    with Daemon(tmp_path / "data", flush_interval_s=0.05, memory_budget_mb=1) as daemon:
        for life in range(LIVES):
            spoiler = Spoiler(daemon.endpoint, scan, chance, stored)
            for row in starts[life * BLOCKS_PER_LIFE : (life + 1) * BLOCKS_PER_LIFE]:
                spoiler.send(row)
            spoiler.settle()
            spoiler.peer.vanish()
            daemon.restart(signal.SIGKILL)
            tally.killed("acquiring")
            assert durable_rows(daemon.endpoint, scan, MAIN) == stored
        with RawPeer(daemon.endpoint) as peer:
            open_patiently(peer, scan)
            peer.send(wire.Finish(scan=scan, seq=0))
            file = peer.expect(wire.Finished, scan=scan).file
        tally.recoveries += recoveries_told(daemon.log)
        assert "Traceback" not in daemon.log
    tally.judge(stored, lost_rows(file, stored))
    require_only(file, stored)
