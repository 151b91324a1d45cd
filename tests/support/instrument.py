"""Instruments in processes of their own, to be killed or stopped; they tell what is durable.

Run as ``python -m support.instrument KIND ENDPOINT SCAN_ID [NAME=VALUE ...]``. Each line on stdout
is a JSON array, a word first: ``opened``, ``acked`` with rows, ``skipped``, ``ended``. A line is
written when the ack has come and before anything else is done, so that whoever reads the pipe
knows each ack that the dead knew of.

``stream`` speaks the protocol by hand: it sends without ever waiting, keeps nothing, resends
nothing. ``client`` uses the real client, and ends the scan.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import numpy as np

from support.rawpeer import RawPeer
from support.rowscan import MAIN, N_ROWS, make_layout, ordered, values
from usidstream import connect, wire
from usidstream.delivery import link

RETRY_S = 0.05
PING_EVERY_BLOCKS = 16
BLOCK_ROWS = 4


def tell(*words: Any) -> None:
    sys.stdout.write(json.dumps(words) + "\n")
    sys.stdout.flush()


def open_patiently(peer: RawPeer, scan: str) -> wire.Opened:
    """Open a scan, again and again while the daemon recovers it."""
    frames: list[wire.Frame] = []
    packed = wire.pack_layout(make_layout().to_dict(), frames)
    while True:
        peer.send(wire.Open(scan=scan, layout=packed, file="fault", frames=frames))
        while not isinstance(answer := peer.receive(), wire.Opened | wire.Error):
            assert answer is not None, "no answer to open"
        if isinstance(answer, wire.Opened):
            return answer
        assert answer.code == "recovering", answer
        time.sleep(RETRY_S)


class Stream:
    """Blocks of rows, one after the other, and the acks as they come."""

    def __init__(self, endpoint: str, scan: str) -> None:
        self._peer = RawPeer(endpoint)
        self._scan = scan
        self._rows_of: dict[int, list[int]] = {}
        self._credit = open_patiently(self._peer, scan).credit
        self._sent_bytes = self._seq = self._durable = 0
        tell("opened")

    def run(self, rows: np.ndarray[Any, Any], pause_s: float, block_rows: int) -> None:
        for start in range(0, len(rows), block_rows):
            self._send(rows[start : start + block_rows])
            if self._seq % PING_EVERY_BLOCKS == 0:
                self._peer.send(wire.Ping(scan=self._scan, commit=True))
            self._hear(pause_s)
        while self._durable < self._seq:
            self._peer.send(wire.Ping(scan=self._scan, commit=True))
            self._hear(RETRY_S)
        tell("ended")
        while True:  # alive, so that it can be killed
            self._peer.send(wire.Ping(scan=self._scan))
            self._hear(1.0)

    def _send(self, rows: np.ndarray[Any, Any]) -> None:
        self._seq += 1
        data = values(rows).tobytes()
        if (np.diff(rows) == 1).all():
            row, frames = int(rows[0]), (data,)
        else:
            row, frames = 0, (rows.astype("<u8").tobytes(), data)
        self._sent_bytes += sum(map(len, frames))
        assert self._sent_bytes <= self._credit, "a trial is smaller than the first credit"
        address = (row, len(rows), 0, values(rows).shape[1])
        self._rows_of[self._seq] = rows.tolist()
        self._peer.send(
            wire.Block(
                scan=self._scan,
                main=MAIN,
                seq=self._seq,
                row=row,
                rows=address[1],
                col=0,
                cols=address[3],
                crc=wire.block_crc(*address, frames),
                frames=frames,
            )
        )

    def _hear(self, pause_s: float) -> None:
        until = time.monotonic() + pause_s
        while (left := until - time.monotonic()) > 0 or pause_s == 0:
            message = self._peer.receive(max(0.0, left))
            if isinstance(message, wire.Ack) and message.durable > self._durable:
                news = range(self._durable + 1, message.durable + 1)
                self._durable = message.durable
                tell("acked", [row for seq in news for row in self._rows_of.pop(seq)])
            assert not isinstance(message, wire.Error), message
            if message is None:
                return


def stream(
    endpoint: str, scan: str, *, order: str, seed: int, first: int, stop: int, pause_s: float
) -> None:
    """Send the rows from ``first`` to ``stop`` of an order, once."""
    rows = ordered(order, seed)[first:stop]
    Stream(endpoint, scan).run(rows, pause_s, BLOCK_ROWS)


def client(
    endpoint: str,
    scan_id: str,
    *,
    order: str,
    seed: int,
    pause_s: float,
    dead_after_s: float = link.DEAD_AFTER_S,
    wait_every_rows: int = 64,
) -> None:
    """Send every row of a scan, leaving out what the daemon has, and end it."""
    link.DEAD_AFTER_S = dead_after_s
    link.HEARTBEAT_INTERVAL_S = min(link.HEARTBEAT_INTERVAL_S, dead_after_s / 4)
    rows = ordered(order, seed)
    with connect(endpoint, write_timeout_s=120) as connection:
        scan = connection.open_scan(make_layout(), scan_id=scan_id)
        tell("opened", sum(stop - start for start, stop in scan.durable_ranges()))
        for start in range(0, N_ROWS, wait_every_rows):
            some = rows[start : start + wait_every_rows]
            before = scan.skipped
            for row in some.tolist():
                scan.write(row, values(row)[0])
            if scan.skipped - before == len(some):
                continue
            scan.wait_durable()
            tell("acked", some.tolist())
            time.sleep(pause_s)
        tell("skipped", scan.skipped)
        result = scan.finish()
        tell("ended", result.status, result.file)


def main(kind: str, endpoint: str, scan_id: str, *options: str) -> None:
    named = (option.split("=", 1) for option in options)
    plain = {name: value if name == "order" else json.loads(value) for name, value in named}
    {"stream": stream, "client": client}[kind](endpoint, scan_id, **plain)


if __name__ == "__main__":
    main(*sys.argv[1:])
