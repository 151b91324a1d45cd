"""The ROUTER socket that instruments talk to: messages in, messages out, each of bounded size.

It knows frames and peers, neither what a message means nor who may send it. ZeroMQ takes messages
from all connections in turn, and holds only so many for each; a connection that reads nothing is
cut by the operating system after a while, so that what waits for it is let go.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import zmq

from usidstream import wire
from usidstream.errors import UsidstreamError

from .config import Config
from .security import Gate

MIB = 1 << 20
MAX_MESSAGES_PER_TURN_COUNT = 256
MAX_QUEUED_MESSAGES_PER_CLIENT_COUNT = 1000
MAX_UNREAD_MESSAGES_PER_CLIENT_COUNT = 128
"""What ZeroMQ takes from a connection in advance; the sender's socket holds the rest."""
LINGER_MS = 1000
SHORT_HEADER_BYTES = 1024
_MORE, _AT_ONCE = int(zmq.SNDMORE), int(zmq.DONTWAIT)
_EVENTS, _READABLE = int(zmq.EVENTS), int(zmq.POLLIN)
"""As plain numbers: pyzmq's own cost more to combine than a frame to send."""
MAX_UNREAD_S = 2_000_000.0
"""The longest that the operating system can be told to bear with who reads nothing."""


class Router:
    """The socket, bound.

    Parameters
    ----------
    config
        Where to, and how large a frame may be.
    gate
        Makes the socket.

    Raises
    ------
    UsidstreamError
        The address is taken, or is none.

    Attributes
    ----------
    endpoint
        Where it is.
    """

    def __init__(self, config: Config, gate: Gate) -> None:
        max_frame_bytes = max(config.max_layout_mb, config.max_block_mb) * MIB
        self._socket = gate.socket(zmq.ROUTER)
        self._socket.setsockopt(zmq.MAXMSGSIZE, max_frame_bytes)
        self._socket.setsockopt(zmq.RCVHWM, MAX_UNREAD_MESSAGES_PER_CLIENT_COUNT)
        self._socket.setsockopt(zmq.SNDHWM, MAX_QUEUED_MESSAGES_PER_CLIENT_COUNT)
        unread_s = min(config.peer_silence_s, MAX_UNREAD_S)
        self._socket.setsockopt(zmq.TCP_MAXRT, max(1, int(unread_s * 1000)))
        try:
            self._socket.bind(config.bind)
        except zmq.ZMQError as error:
            self._socket.close(linger=0)
            raise UsidstreamError(
                f"{config.bind} cannot be bound: {error}",
                code="internal_error",
                hint="Is another daemon running there? Choose another --bind, or port 0.",
            ) from error
        self.endpoint: str = self._socket.get_string(zmq.LAST_ENDPOINT).rstrip("\0")

    def register(self, poller: zmq.Poller) -> None:
        """Let a poller wake for messages."""
        poller.register(self._socket, zmq.POLLIN)

    def is_among(self, awake: Sequence[tuple[object, int]]) -> bool:
        """Tell whether there are messages, by what a poller has returned."""
        return any(source is self._socket for source, _event in awake)

    def receive(self) -> Iterator[tuple[zmq.Frame, list[wire.Frame] | wire.WireError]]:
        """Yield some of the messages that are there: who sent it, and its frames.

        A message of too many frames comes as the error for it; none of it is kept.
        """
        for _ in range(MAX_MESSAGES_PER_TURN_COUNT):
            if not int(self._socket.getsockopt(_EVENTS)) & _READABLE:
                return  # quicker known than by an exception
            try:
                sender, *frames = self._take()
            except zmq.Again:
                return
            yield sender, self._bounded(frames)

    def _take(self) -> list[zmq.Frame]:
        frames = [self._socket.recv(_AT_ONCE, copy=False)]
        while frames[-1].more:
            frames.append(self._socket.recv(_AT_ONCE, copy=False))
        return frames

    @staticmethod
    def _bounded(frames: list[zmq.Frame]) -> list[wire.Frame] | wire.WireError:
        if len(frames) > wire.MAX_FRAMES_COUNT:
            return wire.WireError(
                f"a message has at most {wire.MAX_FRAMES_COUNT} frames, not {len(frames)}",
                code="message_too_large",
            )
        # A short header is quicker read as bytes; what is long may be refused unread.
        return [
            frame.bytes if not index and len(frame) <= SHORT_HEADER_BYTES else frame.buffer
            for index, frame in enumerate(frames)
        ]

    def send(self, peer: bytes, frames: Sequence[wire.Frame]) -> None:
        """Send a message; who is gone, or reads nothing, loses it."""
        self._socket.send(peer, _MORE)
        for frame in frames[:-1]:
            self._socket.send(frame, _MORE)
        self._socket.send(frames[-1])

    def close(self) -> None:
        """Close, giving the last answers a moment to go out."""
        self._socket.close(linger=LINGER_MS)
