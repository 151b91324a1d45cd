"""A stand-in for the daemon that hands every block to a reference.

It speaks as much of protocol 1 as one well-behaved client needs, so that references get the very
messages that the daemon gets. What it acknowledges as durable is only written, not synced: that
favours the references.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import zmq

from usidstream import wire
from usidstream.layout import ScanLayout

from .references import Blocks, Loop, Nothing, Reference

CREDIT_WINDOW_BYTES = 16 << 20
MAX_QUEUED_MESSAGES_COUNT = 1000
MAX_MESSAGES_PER_TURN_COUNT = 256
LINGER_MS = 5000

REFERENCES: Mapping[str, Callable[[Path, ScanLayout], Reference]] = MappingProxyType(
    {"receive": lambda _path, _layout: Nothing(), "loop": Loop, "blocks": Blocks}
)


def run_sink(spec: dict[str, Any], tell: Callable[..., None], _wait: Callable[[], None]) -> None:
    """Tell ``ready`` with the endpoint; serve one scan; tell ``done``."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context.instance()
    with context.socket(zmq.ROUTER) as socket:
        socket.setsockopt(zmq.RCVHWM, MAX_QUEUED_MESSAGES_COUNT)
        socket.setsockopt(zmq.LINGER, LINGER_MS)
        socket.bind("tcp://127.0.0.1:0")
        tell("ready", endpoint=socket.get_string(zmq.LAST_ENDPOINT).rstrip("\0"))
        _Sink(socket, spec["reference"], Path(spec["file"])).serve()
    tell("done")


class _Sink:
    """One scan of one client."""

    def __init__(self, socket: zmq.Socket[bytes], kind: str, path: Path) -> None:
        self._socket = socket
        self._make = REFERENCES[kind]
        self._path = path
        self._reference: Reference | None = None
        self._layout: ScanLayout | None = None
        self._scan = ""
        self._seq = 0
        self._nbytes = 0
        self._told_seq = 0
        self._peer = b""
        self._is_done = False

    def serve(self) -> None:
        while not self._is_done:
            self._socket.poll()
            for _ in range(MAX_MESSAGES_PER_TURN_COUNT):
                try:
                    self._peer = self._socket.recv(zmq.DONTWAIT)
                except zmq.Again:
                    break
                self._answer(wire.decode_client(self._frames()))
            if self._seq != self._told_seq:
                self._send_ack()

    def _frames(self) -> list[wire.Frame]:
        frames: list[wire.Frame] = []
        while self._socket.getsockopt(zmq.RCVMORE):
            if not frames:
                frames.append(self._socket.recv())
            else:
                frames.append(self._socket.recv(copy=False).buffer)
        return frames

    def _answer(self, message: wire.Message) -> None:
        match message:
            case wire.Block():
                self._take(message)
            case wire.Hello():
                self._send(self._welcome())
            case wire.Open():
                self._open(message)
            case wire.Ping():
                self._send_ack()
                self._send(wire.Pong(scan=message.scan))
            case wire.Finish():
                if self._reference is not None:
                    self._reference.close()
                self._send_ack()
                finished = wire.Finished(scan=self._scan, file=str(self._path), status="complete")
                self._send(finished)
            case wire.Bye():
                self._is_done = True

    def _take(self, block: wire.Block) -> None:
        if self._reference is None or self._layout is None:
            raise ValueError("a block came before open")
        dtype = self._layout.main(block.main).np_dtype
        values = np.frombuffer(block.frames[-1], dtype).reshape(block.rows, block.cols)
        self._reference.take(block.main, block.row, block.col, values)
        self._seq = block.seq
        self._nbytes += values.nbytes

    def _open(self, message: wire.Open) -> None:
        self._layout = ScanLayout.from_dict(wire.unpack_layout(message.layout, message.frames))
        self._reference = self._make(self._path, self._layout)
        self._scan = message.scan
        self._send(
            wire.Opened(
                scan=message.scan,
                file=str(self._path),
                role="opener",
                resumed=False,
                credit=CREDIT_WINDOW_BYTES,
                positions=0,
                coverage={},
            )
        )

    def _send_ack(self) -> None:
        self._told_seq = self._seq
        self._send(
            wire.Ack(
                scan=self._scan,
                received=self._seq,
                durable=self._seq,
                credit=self._nbytes + CREDIT_WINDOW_BYTES,
                positions=0,
            )
        )

    def _welcome(self) -> wire.Welcome:
        return wire.Welcome(
            version=wire.VERSION,
            daemon="a reference",
            instance=secrets.token_hex(8),
            features=list(wire.FEATURES),
            limits={"max_block_bytes": wire.MAX_BLOCK_BYTES // 4},
            ports={},
        )

    def _send(self, message: wire.Message) -> None:
        self._socket.send_multipart([self._peer, *wire.encode(message)])
