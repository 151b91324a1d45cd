"""A daemon of a page on a real socket, that answers as well or as badly as a test tells it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, TypeAlias

import numpy as np
import zmq

from usidstream import wire

WINDOW_BYTES = 1 << 20
JOIN_TIMEOUT_S = 10.0
POLL_MS = 20

Answer: TypeAlias = "wire.Message | list[bytes]"
"""A message, or frames as they are."""
Script: TypeAlias = "Callable[[wire.Message], Sequence[Answer] | None]"
"""Answers a message; None leaves the answer to `ScriptedDaemon`."""


class ScriptedDaemon:
    """Takes every block of one scan and acknowledges it, as far as it is told to.

    ``receives`` and ``commits`` say what its acks tell: everything that came, or nothing; a ping
    brings the latest ack. ``rows`` holds each row that was taken, ``hellos`` counts connections.
    """

    def __init__(
        self, script: Script | None = None, *, window_bytes: int = WINDOW_BYTES, port: int = 0
    ) -> None:
        self.script = script
        self.receives = True
        self.commits = True
        self.window_bytes = window_bytes
        self.seen: list[wire.Message] = []
        self.rows: list[int] = []
        self.hellos = 0
        self._seq = 0
        self._nbytes = 0
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.bind(f"tcp://127.0.0.1:{port}")
        self.endpoint = self._socket.get_string(zmq.LAST_ENDPOINT).rstrip("\0")
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def __enter__(self) -> ScriptedDaemon:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stopping.set()
        self._thread.join(JOIN_TIMEOUT_S)
        assert not self._thread.is_alive()
        self._socket.close(linger=0)
        self._context.term()

    def kinds(self) -> list[str]:
        """Return the types of what came, in order."""
        return [message.type for message in self.seen]

    def _run(self) -> None:
        while not self._stopping.is_set():
            if self._socket.poll(POLL_MS):
                peer, *frames = self._socket.recv_multipart()
                for answer in self._answers(wire.decode_client(frames)):
                    encoded = answer if isinstance(answer, list) else wire.encode(answer)
                    self._socket.send_multipart([peer, *encoded])

    def _answers(self, message: wire.Message) -> Sequence[Answer]:
        self.seen.append(message)
        told = self.script(message) if self.script else None
        return self._usual_answers(message) if told is None else told

    def _usual_answers(self, message: Any) -> Sequence[Answer]:
        answers: list[Answer] = []
        match message:
            case wire.Hello():
                self.hellos += 1
                self._seq = self._nbytes = 0
                answers = [self.welcome()]
            case wire.Open():
                answers = [self.opened(message.scan)]
            case wire.Block() | wire.Annotate():
                self._take(message)
                answers = [self.ack(message.scan)]
            case wire.Ping():
                answers = [wire.Pong(scan=message.scan)]
                answers += [self.ack(message.scan)] if message.scan else []
            case wire.Finish():
                answers = [wire.Finished(scan=message.scan, file="/f.h5", status="complete")]
            case wire.Abort():
                answers = [wire.Aborted(scan=message.scan, file="/f.h5", status="aborted")]
            case wire.StatusRequest():
                answers = [wire.StatusReport(daemon={"daemon": "scripted"}, scans=[])]
        return answers

    def _take(self, message: wire.Block | wire.Annotate) -> None:
        if message.seq != self._seq + 1:  # sent again, or behind a gap
            return
        self._seq = message.seq
        self._nbytes += sum(len(frame) for frame in message.frames)
        if isinstance(message, wire.Block):
            if len(message.frames) == 2:
                self.rows += np.frombuffer(message.frames[0], "<u8").tolist()
            else:
                self.rows += range(message.row, message.row + message.rows)

    # -- messages

    def welcome(self) -> wire.Welcome:
        limits = {"max_block_bytes": self.window_bytes, "credit_window_bytes": self.window_bytes}
        return wire.Welcome(
            version=1, daemon="scripted", instance="1", features=[], limits=limits, ports={}
        )

    def opened(self, scan: str, **more: Any) -> wire.Opened:
        fields: dict[str, Any] = {
            "file": "/f.h5",
            "role": "opener",
            "resumed": False,
            "credit": self.window_bytes,
            "positions": 0,
            "coverage": {},
        }
        return wire.Opened(scan=scan, **(fields | more))

    def ack(self, scan: str) -> wire.Ack:
        return wire.Ack(
            scan=scan,
            received=self._seq if self.receives else 0,
            durable=self._seq if self.receives and self.commits else 0,
            credit=self.window_bytes + (self._nbytes if self.receives else 0),
            positions=0,
        )
