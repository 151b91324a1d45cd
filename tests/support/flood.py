"""A hostile peer at a real daemon: spoilt messages by the batch, and every answer judged.

Each case is one message, made from a seed and its number. A batch begins with hello and a scan of
the peer's own, and ends with a ping whose answer must come in time; between them every message
that cannot be read costs exactly one error, and no error is outside the stable list. What the
peer opened by chance is aborted, and its file removed as an operator would. All that nonsense may
use up the peer's share of a slow daemon's time, as docs/protocol.md has it under Sharing: what is
long is not read then, and what opens a scan is asked again.
"""

from __future__ import annotations

import secrets
import socket
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from support import mutation
from support.fuzz_targets import require_telling, spoil_message
from support.fuzz_worker import chance_of
from support.rawpeer import RawPeer, make_block
from support.storing import layout_of, main_of
from usidstream import wire
from usidstream.errors import error_for

BATCH_CASES = 500
"""Answers to a batch fit into the daemon's queue for a client, so that none is dropped."""
RAW_EVERY_BATCHES = 20
RETRY_S = 0.02
ASK_AGAIN_S = 1.0
SHARE_TIMEOUT_S = 60.0
"""Within which a share that was used up has grown again."""
LAYOUT = layout_of(main_of("Raw", n=8), n_positions=64)
DATA = np.arange(64 * 8, dtype="<f4").reshape(64, 8)
OUR_FAULTS = ("storage_failed", "file_damaged", "no_space")
"""Codes that no message may bring about, however spoilt."""
SPOILT, SPOILT_OPENS = 0.7, 0.9
"""Which part of the messages is spoilt; those that open something are dear to the daemon."""


class Flood:
    """A peer that sends cases, and counts what came of them.

    Attributes
    ----------
    outcomes
        Answers by kind; errors by their codes.
    """

    def __init__(self, endpoint: str, seed: int) -> None:
        self._endpoint = endpoint
        self._seed = seed
        self._peer: RawPeer | None = None
        self._scan = ""
        self._seq = 0
        self._opens: dict[str, list[bytes]] = {}
        self.outcomes: Counter[str] = Counter()

    def close(self) -> None:
        if self._peer is not None:
            self._peer.close()

    def batch(self, first: int, count: int) -> None:
        """Send some cases; fail if any answer is not as it should be, or does not come."""
        try:
            self._greet()
            cases = [self._case(number) for number in range(first, first + count)]
            unreadable = sum(not self._note(frames) for frames in cases)
            for frames in cases:
                self._socket.send_frames(frames)
            told = self._answers()
            self._clear_up()
        except AssertionError as error:
            raise AssertionError(self._again(first, count, str(error))) from error
        refused = sum(map(_is_of_reading, told))
        is_right = refused <= unreadable if self.outcomes["overloading"] else refused == unreadable
        assert is_right, self._again(
            first, count, f"{unreadable} messages were not to be read, {refused} were refused"
        )

    def knock(self, number: int) -> None:
        """Say what is no ZeroMQ at all to the daemon's port, and hang up."""
        chance = chance_of("raw", self._seed, number)
        host, _, port = self._endpoint.removeprefix("tcp://").rpartition(":")
        with socket.create_connection((host, int(port)), timeout=10) as line:
            line.sendall(mutation.spoil_bytes(chance, GREETING))

    @property
    def _socket(self) -> RawPeer:
        assert self._peer is not None
        return self._peer

    def _again(self, first: int, count: int, what: str) -> str:
        return (
            f"messages, seed {self._seed}, cases {first} to {first + count}: {what}. Again: pytest "
            f"tests/fuzz -k messages_to --fuzz-seed {self._seed} --fuzz-first {first} "
            f"--fuzz-messages {count}"
        )

    def _greet(self) -> None:
        if self._peer is None:
            self._peer = RawPeer(self._endpoint)
        self._peer.seen.clear()
        self._peer.send(wire.Hello(versions=[1], client="flood"))
        self._peer.expect(wire.Welcome)
        if not self._scan:
            self._scan, self._seq = secrets.token_hex(16), 0
            self._opens[self._scan] = _frames_of(_opening(self._scan))
            self._open_own()

    def _open_own(self) -> None:
        deadline = time.monotonic() + SHARE_TIMEOUT_S
        answer: wire.Message | None = None
        while not (isinstance(answer, wire.Opened) and answer.scan == self._scan):
            assert time.monotonic() < deadline, f"{self._scan} does not open: {self._socket.seen}"
            if answer is None:
                self._socket.send_frames(self._opens[self._scan])
            answer = self._socket.receive(ASK_AGAIN_S)

    def _case(self, number: int) -> list[bytes]:
        chance = chance_of("messages", self._seed, number)
        before = self._seq
        message = chance.choices(list(_MAKERS), weights=list(_MAKERS.values()))[0](self, chance)
        is_dear = isinstance(message, wire.Open)
        if chance.random() >= (SPOILT_OPENS if is_dear else SPOILT):
            return _frames_of(message)
        frames = spoil_message(chance, message)
        if not self._counts(frames):
            self._seq = before  # else the daemon would wait for the one that is missing
        return frames

    def _counts(self, frames: list[bytes]) -> bool:
        try:
            return getattr(wire.decode_client(frames), "seq", 0) == self._seq
        except wire.WireError:
            return False

    def _note(self, frames: list[bytes]) -> bool:
        """Remember what a message may open; return whether it can be read at all."""
        try:
            message = wire.decode_client(frames)
        except wire.WireError:
            return False
        if isinstance(message, wire.Open):
            self._opens.setdefault(message.scan, frames)
        return True

    # ------------------------------------------------------------ valid messages

    def _block(self, chance: Random) -> wire.Message:
        self._seq += 1
        row, rows = chance.randrange(60), chance.randint(1, 4)
        return make_block(self._scan, "Raw", self._seq, row, DATA[row : row + rows], again=True)

    def _scattered(self, chance: Random) -> wire.Message:
        self._seq += 1
        numbers = np.array(sorted(chance.sample(range(64), 3)), "<u8")
        frames = (numbers.tobytes(), DATA[numbers].tobytes())
        crc = wire.block_crc(0, 3, 0, 8, frames)
        return wire.Block(
            scan=self._scan, main="Raw", seq=self._seq, row=0, rows=3, col=0, cols=8, crc=crc,
            again=True, frames=frames,
        )  # fmt: skip

    def _open(self, chance: Random) -> wire.Message:
        return _opening(self._scan if chance.random() < 0.5 else f"{chance.getrandbits(128):032x}")

    def _plain(self, chance: Random) -> wire.Message:
        scan = self._scan
        return chance.choice(
            [
                wire.Hello(versions=[1], client="flood"), wire.Join(scan=scan),
                wire.Leave(scan=scan, seq=self._seq), wire.StatusRequest(),
                wire.StatusRequest(scan=scan, coverage=True), wire.Ping(scan=scan, commit=True),
                wire.Ping(), wire.Ping(scan=scan),
            ]
        )  # fmt: skip

    def _annotate(self, chance: Random) -> wire.Message:
        self._seq += 1
        frames: list[wire.Frame] = []
        attrs = wire.pack_layout({"drift": np.arange(3.0), "n": chance.randrange(9)}, frames)
        return wire.Annotate(scan=self._scan, seq=self._seq, attrs=attrs, frames=frames)

    def _ending(self, chance: Random) -> wire.Message:
        scan = self._scan
        ends = [wire.Finish(scan=scan, seq=self._seq), wire.Abort(scan=scan), wire.Bye()]
        return chance.choice(ends)

    # ------------------------------------------------------------ answers

    def _answers(self) -> list[wire.Message]:
        """Return what the daemon said up to the answer to a last ping."""
        mark = secrets.token_hex(16)
        self._socket.send(wire.Hello(versions=[1], client="flood"))
        self._socket.send(wire.Ping(scan=mark))
        self._socket.expect(wire.Pong, scan=mark)
        told = list(self._socket.seen)
        for message in told:
            self._judge(message)
        return told

    def _judge(self, message: wire.Message) -> None:
        word = message.type
        if isinstance(message, wire.Error):
            word = message.code
            require_telling(error_for(message.code, message.message, hint=message.hint))
            assert message.code not in OUR_FAULTS, f"{message}"
        self.outcomes[word] += 1

    def _clear_up(self) -> None:
        """End all that may be open, and remove the files; the next batch begins anew."""
        left = dict(self._opens)
        deadline = time.monotonic() + SHARE_TIMEOUT_S
        answer: wire.Message | None = None
        while left:
            assert time.monotonic() < deadline, f"{list(left)} do not end: {self._socket.seen[-5:]}"
            if answer is None:
                for frames in left.values():  # opens it, or resumes what the peer has let go of
                    self._socket.send_frames(frames)
            answer = self._socket.receive(ASK_AGAIN_S)
            scan = getattr(answer, "scan", "")
            if scan in left and self._is_over(answer, left[scan]):
                del left[scan]
        self._opens.clear()
        self._scan = ""

    def _is_over(self, answer: wire.Message | None, frames: list[bytes]) -> bool:
        """Go on with the end of a scan; return whether it is over, or was never open."""
        if isinstance(answer, wire.Aborted | wire.Finished):
            Path(answer.file).unlink(missing_ok=True)
            return True
        if isinstance(answer, wire.Opened):
            self._socket.send(wire.Abort(scan=answer.scan, reason="cleared up"))
        elif isinstance(answer, wire.Error) and answer.operation == "open":
            if not answer.retryable:
                return True
            time.sleep(RETRY_S)
            self._socket.send_frames(frames)
        return False


GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(16) + b"\0" + bytes(31)
"""As a ZMTP 3 connection begins, ZeroMQ Message Transport Protocol 3.1, section 3."""

_MAKERS: dict[Callable[[Flood, Random], Any], int] = {
    Flood._block: 30,
    Flood._scattered: 10,
    Flood._plain: 40,
    Flood._annotate: 10,
    Flood._open: 2,
    Flood._ending: 1,
}


def _opening(scan: str) -> wire.Open:
    frames: list[wire.Frame] = []
    packed = wire.pack_layout(LAYOUT.to_dict(), frames)
    return wire.Open(scan=scan, layout=packed, file="flood", frames=frames)


def _is_of_reading(message: wire.Message) -> bool:
    is_error = isinstance(message, wire.Error) and message.operation == "read"
    return is_error and message.code != "overloading"


def _frames_of(message: wire.Message) -> list[bytes]:
    return [bytes(part) for part in wire.encode(message)]
