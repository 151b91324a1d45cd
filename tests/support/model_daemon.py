"""A daemon of a page: what protocol 1 promises about one scan, without sockets, files or time.

It knows what it received, and what of it survives its death. A test moves messages by hand, so that
they can be lost, doubled or cut off, and makes it refuse, forget or die between any two.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np

from usidstream import wire

SCAN = "ab" * 16
MAIN = "Raw"
CREDIT_WINDOW_BYTES = 64


class ModelDaemon:
    """One scan with one main of uint16, (n_rows, n_cols)."""

    def __init__(self, n_rows: int, n_cols: int) -> None:
        self.values = np.zeros((n_rows, n_cols), dtype="<u2")
        self.held = np.zeros((n_rows, n_cols), dtype=bool)
        self.durable = np.zeros((n_rows, n_cols), dtype=bool)
        self.attrs: dict[str, Any] = {}
        self.durable_attrs: dict[str, Any] = {}
        self.refuse_next = ""
        self.was_opened = False
        self.is_finished = False
        self.out: deque[wire.Message] = deque()
        self.connect()

    # ------------------------------------------------------------ what a test does to it

    def connect(self) -> None:
        """Begin a new connection; what was on its way is gone."""
        self.out.clear()
        self.is_listening = False
        self.last = self.durable_seq = self.nbytes = 0
        self.asked_for = 0
        self.finish_seq: int | None = None

    def die(self) -> None:
        """Lose all that is not durable."""
        self.held = self.durable.copy()
        self.attrs = dict(self.durable_attrs)
        self.connect()

    def commit(self) -> None:
        """Make everything received durable."""
        self.durable = self.held.copy()
        self.durable_attrs = dict(self.attrs)
        self.durable_seq = self.last
        self._ack()

    def fail_sync(self) -> None:
        """Find that nothing since the last commit can be relied on: ask for it again."""
        if not self.is_listening or self.last == self.durable_seq:
            return
        self.held = self.durable.copy()
        self.attrs = dict(self.durable_attrs)
        self.last = self.durable_seq
        self._ask_for_next()

    # ------------------------------------------------------------ what it does

    def receive(self, message: wire.Message) -> None:
        match message:
            case wire.Open():
                self._on_open()
            case _ if not self.is_listening:
                self._say(wire.Error(code="not_joined", message="who?", scan=SCAN, retryable=True))
            case wire.Block() | wire.Annotate():
                self._on_item(message)
            case wire.Ping():
                self._on_ping(message)
            case wire.Finish():
                self.finish_seq = message.seq
                self._finish_if_all_is_there()

    def _on_open(self) -> None:
        if self.is_finished:
            self._say(wire.Finished(scan=SCAN, file="/f", status="complete"))
            return
        self.connect()
        self.is_listening = True
        frames: list[wire.Frame] = []
        coverage = {MAIN: self._coverage(frames)}
        opened = wire.Opened(
            scan=SCAN,
            file="/f",
            role="opener",
            resumed=self.was_opened,
            credit=CREDIT_WINDOW_BYTES,
            positions=int(self.durable.all(axis=1).sum()),
            coverage=coverage,
            frames=frames,
        )
        self.was_opened = True
        self._say(opened)

    def _coverage(self, frames: list[wire.Frame]) -> dict[str, int]:
        whole = np.flatnonzero(self.durable.all(axis=1))
        partial = [
            (row, row + 1, col, col + 1)
            for row, col in np.argwhere(self.durable)
            if not self.durable[row].all()
        ]
        return {
            "complete": wire.pack_ranges([(row, row + 1) for row in whole], frames),
            "partial": wire.pack_ranges(partial, frames),
        }

    def _on_item(self, item: wire.Block | wire.Annotate) -> None:
        if item.seq <= self.last:
            self._ack()
        elif item.seq > self.last + 1:
            if self.asked_for != self.last + 1:
                self._ask_for_next()
        else:
            self._take(item)
            self.last = item.seq
            self._ack()
            self._finish_if_all_is_there()

    def _take(self, item: wire.Block | wire.Annotate) -> None:
        self.nbytes += sum(memoryview(frame).nbytes for frame in item.frames)
        if self.refuse_next:
            code, self.refuse_next = self.refuse_next, ""
            self._refuse(item, code, retryable=code == "bad_checksum")
        elif isinstance(item, wire.Annotate):
            self.attrs |= item.attrs
        else:
            self._place(item)

    def _place(self, block: wire.Block) -> None:
        crc = wire.block_crc(block.row, block.rows, block.col, block.cols, block.frames)
        assert crc == block.crc
        if len(block.frames) == 2:
            rows = np.frombuffer(block.frames[0], dtype="<u8").astype(int)
        else:
            rows = np.arange(block.row, block.row + block.rows)
        area = np.ix_(rows, np.arange(block.col, block.col + block.cols))
        data = np.frombuffer(block.frames[-1], dtype="<u2").reshape(block.rows, block.cols)
        taken = self.held[area]
        if taken.any() and not block.again:
            ranges = [(int(r), int(r) + 1, 0, 1) for r in rows[taken.any(axis=1)]]
            self._refuse(block, "already_covered", ranges=ranges)
            return
        self.values[area] = np.where(taken, self.values[area], data)
        self.held[area] = True

    def _refuse(self, item: Any, code: str, *, retryable: bool = False, **details: Any) -> None:
        error = wire.Error(
            code=code, message=code, scan=SCAN, seq=item.seq, retryable=retryable,
            operation=item.type, details=details,
        )  # fmt: skip
        self._say(error)

    def _on_ping(self, message: wire.Ping) -> None:
        if message.commit:
            self.commit()
        else:
            self._ack()
        if self.asked_for == self.last + 1:
            self._ask_for_next()

    def _ask_for_next(self) -> None:
        self.asked_for = self.last + 1
        self._say(wire.Resend(scan=SCAN, seq=self.asked_for))

    def _finish_if_all_is_there(self) -> None:
        if self.finish_seq is not None and self.last >= self.finish_seq:
            self.commit()
            self.is_finished = True
            self._say(wire.Finished(scan=SCAN, file="/f", status="complete"))

    def _ack(self) -> None:
        ack = wire.Ack(
            scan=SCAN,
            received=self.last,
            durable=self.durable_seq,
            credit=self.nbytes + CREDIT_WINDOW_BYTES,
            positions=int(self.durable.all(axis=1).sum()),
        )
        self._say(ack)

    def _say(self, message: wire.Message) -> None:
        self.out.append(message)
