"""A peer that speaks protocol 1 by hand: for what no well-behaved client would ever send."""

from __future__ import annotations

import secrets
import time
from typing import Any, TypeVar

import numpy as np
import zmq

from usidstream import wire
from usidstream.layout import ScanLayout

ANSWER_TIMEOUT_S = 20.0

M = TypeVar("M", bound=wire.Message)


class RawPeer:
    """A DEALER socket and the messages that came."""

    def __init__(self, endpoint: str, *, hello: bool = True) -> None:
        self._socket = zmq.Context.instance().socket(zmq.DEALER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.connect(endpoint)
        self.seen: list[wire.Message] = []
        if hello:
            self.send(wire.Hello(versions=[1], client="raw"))
            self.welcome = self.expect(wire.Welcome)

    def __enter__(self) -> RawPeer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Say bye and hang up."""
        if not self._socket.closed:
            self.send(wire.Bye())
            self._socket.close(linger=1000)

    def vanish(self) -> None:
        """Hang up without a word."""
        self._socket.close(linger=0)

    def send(self, message: wire.Message) -> None:
        self.send_frames(wire.encode(message))

    def send_frames(self, frames: list[Any]) -> None:
        self._socket.send_multipart(frames)

    def receive(self, timeout_s: float = ANSWER_TIMEOUT_S) -> wire.Message | None:
        if not self._socket.poll(int(timeout_s * 1000)):
            return None
        message = wire.decode_daemon(self._socket.recv_multipart())
        self.seen.append(message)
        return message

    def expect(self, kind: type[M], **fields: Any) -> M:
        """Return the next message of a kind whose fields have these values; skip all others."""
        deadline = time.monotonic() + ANSWER_TIMEOUT_S
        while time.monotonic() < deadline:
            message = self.receive(max(0.0, deadline - time.monotonic()))
            if type(message) is kind and all(getattr(message, k) == v for k, v in fields.items()):
                return message
        raise AssertionError(f"no {kind.__name__} {fields} came; came: {self.seen}")

    def open(self, layout: ScanLayout, scan: str | None = None, file: str = "raw") -> wire.Opened:
        scan = scan or secrets.token_hex(16)
        frames: list[wire.Frame] = []
        packed = wire.pack_layout(layout.to_dict(), frames)
        self.send(wire.Open(scan=scan, layout=packed, file=file, frames=frames))
        return self.expect(wire.Opened, scan=scan)

    def block(
        self, scan: str, main: str, seq: int, row: int, data: Any, lies: Any = None, **fields: Any
    ) -> None:
        self.send(make_block(scan, main, seq, row, data, lies, **fields))


def make_block(
    scan: str,
    main: str,
    seq: int,
    row: int,
    data: Any,
    lies: dict[str, Any] | None = None,
    *,
    col: int = 0,
    **fields: Any,
) -> wire.Block:
    """Return a block that is valid but for what ``lies`` say; its checksum covers the lies."""
    data = np.ascontiguousarray(data)
    rows, cols = data.shape
    frames: tuple[bytes, ...] = (data.tobytes(),)
    values: dict[str, Any] = {"row": row, "rows": rows, "col": col, "cols": cols, "frames": frames}
    values |= {"scan": scan, "main": main, "seq": seq, **fields, **(lies or {})}
    address = [values[name] for name in ("row", "rows", "col", "cols")]
    return wire.Block(**({"crc": wire.block_crc(*address, values["frames"])} | values))
