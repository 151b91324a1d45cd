"""A scan as a program sees it, against a daemon that has everything durable at once.

No socket and no threads: what the client posts arrives before the call goes on, so that a test can
say what happens at each step of it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from support.interrupts import Interrupt, interrupted
from usidstream import Dimension, MainLayout, ScanLayout, wire
from usidstream.client.channel import Channel
from usidstream.client.mains import Mains
from usidstream.client.options import Options
from usidstream.client.scan import Scan
from usidstream.delivery import Delivery, Outbound

SCAN = "1e" * 16
N = 4000
LIMIT_BYTES = 6000
"""Blocks are short, and writers have to wait for room."""
COLS = {"A": 1, "B": 3}
VALUES = {name: np.arange(N * cols, dtype="f4").reshape(N, cols) + 1 for name, cols in COLS.items()}


def make_layout(**cols: int) -> ScanLayout:
    """Return a layout of N positions and mains of float32."""
    mains = [
        MainLayout(name, "Height", "nm", "f4", [Dimension("Bias", "V", n)])
        for name, n in cols.items()
    ]
    return ScanLayout(positions=[Dimension("X", "um", N)], mains=mains)


class PromptDaemon:
    """The I/O thread and the daemon in one: whatever is posted arrives, and is durable, at once."""

    def __init__(self, cols: dict[str, int]) -> None:
        self.channel: Channel
        self.interrupt = Interrupt(0)
        self.values = {name: np.zeros((N, n), "f4") for name, n in cols.items()}
        self.times = {name: np.zeros((N, n), int) for name, n in cols.items()}
        self.held: dict[str, list[tuple[int, int]]] = {}
        """By main, what it says that it holds already."""
        self._now = 0.0

    # -- as `Waker`

    def heard(self) -> int:
        return 0

    def trouble(self) -> str:
        return ""

    def posted(self) -> None:
        before, self.interrupt.is_paused = self.interrupt.is_paused, True
        try:
            self._deliver()
        finally:
            self.interrupt.is_paused = before

    def _deliver(self) -> None:
        delivery = self.channel.delivery
        while True:
            self._now += 0.3
            delivery.tick(self._now)
            message = delivery.take(self._now)
            if message is None:
                return
            answer = self._answer(message.message() if isinstance(message, Outbound) else message)
            if answer is not None:
                delivery.receive(answer, self._now)
                self.channel._after_event()

    def _answer(self, message: wire.Message) -> wire.Message | None:
        match message:
            case wire.Open():
                return self._opened()
            case wire.Block():
                self._place(message)
                return self._ack(message.seq)
            case wire.Annotate():
                return self._ack(message.seq)
            case wire.Finish():
                return wire.Finished(scan=SCAN, file="/f", status="complete")
        return None

    def _opened(self) -> wire.Opened:
        frames: list[wire.Frame] = []
        coverage = {
            name: {
                "complete": wire.pack_ranges(ranges, frames),
                "partial": wire.pack_ranges([], frames),
            }
            for name, ranges in self.held.items()
        }
        return wire.Opened(
            scan=SCAN, file="/f", role="opener", resumed=bool(self.held), credit=1 << 40,
            positions=0, coverage=coverage, frames=frames,
        )  # fmt: skip

    def _place(self, block: wire.Block) -> None:
        crc = wire.block_crc(block.row, block.rows, block.col, block.cols, block.frames)
        assert crc == block.crc
        rows = np.arange(block.row, block.row + block.rows)
        if len(block.frames) == 2:
            rows = np.frombuffer(block.frames[0], dtype="<u8").astype(int)
        area = np.ix_(rows, np.arange(block.col, block.col + block.cols))
        self.values[block.main][area] = np.frombuffer(block.frames[-1], "<f4").reshape(
            block.rows, block.cols
        )
        np.add.at(self.times[block.main], area, 1)

    def _ack(self, seq: int) -> wire.Ack:
        return wire.Ack(scan=SCAN, received=seq, durable=seq, credit=1 << 40, positions=0)


class Desk:
    def ask(self, request: wire.StatusRequest) -> wire.StatusReport:
        raise NotImplementedError

    def detach(self, channel: Channel, farewell: wire.Message | None = None) -> None:
        pass


class Session:
    """A scan, and what of it was written for certain or perhaps."""

    def __init__(
        self,
        cols: dict[str, int] = COLS,
        limit_bytes: int = LIMIT_BYTES,
        held: dict[str, list[tuple[int, int]]] | None = None,
    ) -> None:
        layout = make_layout(**cols)
        self.daemon = PromptDaemon(cols)
        self.daemon.held = held or {}
        delivery = Delivery(wire.Open(scan=SCAN, layout={}), limit_bytes)
        options = Options(write_timeout_s=0.0)
        self.channel = self.daemon.channel = Channel(delivery, self.daemon, options)
        self.channel.mains = Mains.of(layout)
        delivery.link_up(1 << 26, 0.0)
        self.daemon.posted()
        self.channel.resume()
        self.scan = Scan(self.channel, layout, Desk())
        self.certain = {name: np.zeros((N, n), bool) for name, n in cols.items()}
        self.perhaps = {name: np.zeros((N, n), bool) for name, n in cols.items()}

    def arrived(self, main: str) -> list[int]:
        """Return the rows of a main that are at the daemon in whole, each once."""
        self.scan.wait_durable()
        times = self.daemon.times[main]
        assert times.max() <= 1
        return np.flatnonzero(times.all(axis=1)).tolist()

    def write(self, call: Any, *arguments: Any, wrote: dict[str, Any]) -> None:
        """Make a call that writes elements, given by main; an interrupt leaves them open."""
        noted = self.perhaps if interrupted(call, *arguments) else self.certain
        for name, area in wrote.items():
            noted[name][area] = True
