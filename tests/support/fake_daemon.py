"""A daemon of several scans that stops and comes back, with or without what was not durable.

It speaks protocol 1 well enough for resuming, joining and asking, and remembers every row it was
sent. Where a test wants something else it sets a switch, puts a function in the place of an answer,
or says something of its own accord. It runs in a thread of the test's process.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import zmq

from support.daemon import wait_for
from support.ports import steady_port
from usidstream import wire

M = TypeVar("M", bound=wire.Message)
Answers = list[wire.Message | list[bytes]]
"""Messages, or frames as they are."""
POLL_INTERVAL_MS = 10


class FakeScan:
    """What the daemon knows of a scan: over connections, and of the present one."""

    def __init__(self, opening: wire.Open) -> None:
        self.opening = opening
        self.rows: dict[str, dict[int, bytes]] = {}
        self.durable: dict[str, set[int]] = {}
        self.result: wire.Finished | None = None
        self.last = self.durable_seq = self.nbytes = 0

    def renew(self) -> None:
        self.last = self.durable_seq = self.nbytes = 0


class FakeDaemon:
    """A daemon on a free port of the loopback, the same one after `restart`."""

    def __init__(self, port: int = 0) -> None:
        self.credit_window_bytes = 1 << 20
        self.max_block_bytes = 1 << 18
        self.greets = True
        self.answers_open = True
        self.answers_pings = True
        self.acks = True
        self.makes_durable = True
        self.commits_when_asked = False
        self.received: list[wire.Message] = []
        self.taken: list[int] = []
        self.connections = 0
        self.instead: dict[type[wire.Message], Callable[[Any], Answers]] = {}
        self.scans: dict[str, FakeScan] = {}
        self._orders: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
        self._peer = b""
        self._is_running = True
        self._socket: zmq.Socket[bytes] | None = None
        self.endpoint = f"tcp://127.0.0.1:{port or steady_port()}"
        self._context = zmq.Context()
        self._bind()
        self._thread = threading.Thread(target=self._run, name="fake-daemon")

    def __enter__(self) -> FakeDaemon:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_running = False
        self._thread.join()
        self._hang_up()
        self._context.term()

    # ------------------------------------------------------------ what a test tells it

    def behave(self) -> None:
        """Be a good daemon from now on."""
        self.greets = self.answers_open = self.answers_pings = True
        self.acks = self.makes_durable = True
        self.instead.clear()

    def answer_once(self, kind: type[wire.Message], *answers: wire.Message | list[bytes]) -> None:
        """Answer the next message of a kind like this."""

        def answer(_: wire.Message) -> Answers:
            del self.instead[kind]
            return list(answers)

        self.instead[kind] = answer

    def say(self, *messages: wire.Message) -> None:
        """Send messages to whoever spoke last."""
        self._order(lambda: [self._send(wire.encode(message)) for message in messages])

    def say_frames(self, *frames: bytes) -> None:
        """Send what is perhaps no message."""
        self._order(lambda: self._send(list(frames)))

    def stop(self) -> None:
        """Close the port: every connection is cut."""
        self._order(self._hang_up)

    def start(self) -> None:
        """Open the same port again."""
        self._order(self._bind)

    def restart(self, *, forgets: bool = True) -> None:
        """Cut every connection and come back, with what was durable only."""
        self.stop()
        if forgets:
            self._order(self._forget)
        self.start()

    def _order(self, order: Callable[[], object]) -> None:
        done = threading.Event()
        self._orders.put(lambda: (order(), done.set()))
        assert done.wait(20)

    # ------------------------------------------------------------ what a test asks it

    def seen(self, kind: type[M], **fields: Any) -> list[M]:
        """Return the messages of a kind so far whose fields have these values."""
        return [
            message
            for message in list(self.received)
            if isinstance(message, kind)
            and all(getattr(message, name) == value for name, value in fields.items())
        ]

    def wait_for(self, kind: type[M], count: int = 1, **fields: Any) -> list[M]:
        wait_for(
            lambda: len(self.seen(kind, **fields)) >= count, f"{count} {kind.__name__} {fields}"
        )
        return self.seen(kind, **fields)

    def data(self, scan: str, main: str, dtype: str) -> dict[int, list[Any]]:
        """Return the rows of a main that arrived, by number."""
        rows = self.scans[scan].rows.get(main, {})
        return {row: np.frombuffer(data, dtype).tolist() for row, data in sorted(rows.items())}

    # ------------------------------------------------------------ the thread

    def _bind(self) -> None:
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.bind(self.endpoint)
        self.endpoint = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)

    def _hang_up(self) -> None:
        if self._socket is not None:
            self._socket.close(linger=0)
            self._socket = None

    def _forget(self) -> None:
        for scan in self.scans.values():
            for main, rows in scan.rows.items():
                kept = scan.durable.get(main, set())
                scan.rows[main] = {row: data for row, data in rows.items() if row in kept}

    def _run(self) -> None:
        while self._is_running:
            while not self._orders.empty():
                self._orders.get()()
            if self._socket is None:
                threading.Event().wait(POLL_INTERVAL_MS / 1000)
            elif self._socket.poll(POLL_INTERVAL_MS):
                self._receive()

    def _receive(self) -> None:
        assert self._socket is not None
        self._peer, *frames = self._socket.recv_multipart()
        message = wire.decode_client(frames)
        self.received.append(message)
        answer = self.instead.get(type(message)) or self.usual
        for reply in answer(message):
            self._send(reply if isinstance(reply, list) else wire.encode(reply))

    def _send(self, frames: list[Any]) -> None:
        if self._socket is not None and self._peer:
            self._socket.send_multipart([self._peer, *frames])

    # ------------------------------------------------------------ its answers

    def usual(self, message: wire.Message) -> Answers:
        """Answer as a good daemon would."""
        answers: dict[type[wire.Message], Callable[[Any], Answers]] = {
            wire.Hello: self._welcome,
            wire.Open: self._opened,
            wire.Join: self._opened,
            wire.Block: self.take,
            wire.Annotate: self.take,
            wire.Ping: self._pong,
            wire.Finish: self.end,
            wire.Abort: self.end,
            wire.Leave: self.end,
            wire.StatusRequest: self._report,
        }
        answer = answers.get(type(message))
        return answer(message) if answer is not None else []

    def _welcome(self, _: wire.Hello) -> Answers:
        self.connections += 1
        limits = {
            "max_block_bytes": self.max_block_bytes,
            "credit_window_bytes": self.credit_window_bytes,
            "max_layout_bytes": 1 << 20,
        }
        welcome = wire.Welcome(
            version=1, daemon="fake", instance="i", features=[], limits=limits, ports={}
        )
        return [welcome] if self.greets else []

    def _opened(self, message: wire.Open | wire.Join) -> Answers:
        if not self.answers_open:
            return []
        is_known = message.scan in self.scans
        if isinstance(message, wire.Open):
            scan = self.scans.setdefault(message.scan, FakeScan(message))
        else:
            scan = self.scans[message.scan]
        if scan.result is not None:
            return [scan.result]
        scan.renew()
        frames: list[wire.Frame] = []
        is_joiner = isinstance(message, wire.Join)
        layout = scan.opening.layout if is_joiner else {}
        frames += scan.opening.frames if is_joiner else []
        opened = wire.Opened(
            scan=message.scan,
            file=f"/data/{scan.opening.file}.h5",
            role="joiner" if is_joiner else "opener",
            resumed=is_known,
            credit=self.credit_window_bytes,
            positions=self._positions(scan),
            coverage=self._coverage(scan, frames),
            layout=layout,
            frames=frames,
        )
        return [opened]

    @staticmethod
    def _positions(scan: FakeScan) -> int:
        names = [main["name"] for main in scan.opening.layout["mains"]]
        return len(set.intersection(*(scan.durable.get(name, set()) for name in names)))

    @staticmethod
    def _coverage(scan: FakeScan, frames: list[wire.Frame]) -> dict[str, dict[str, int]]:
        return {
            main: {
                "complete": wire.pack_ranges([(r, r + 1) for r in sorted(rows)], frames),
                "partial": wire.pack_ranges([], frames),
            }
            for main, rows in scan.durable.items()
        }

    def take(self, item: wire.Block | wire.Annotate) -> Answers:
        scan = self.scans[item.scan]
        if item.seq == scan.last + 1:
            scan.last = item.seq
            scan.nbytes += sum(memoryview(frame).nbytes for frame in item.frames)
            if isinstance(item, wire.Block):
                self._place(scan, item)
        return self.ack(scan) if self.acks else []

    def _place(self, scan: FakeScan, block: wire.Block) -> None:
        crc = wire.block_crc(block.row, block.rows, block.col, block.cols, block.frames)
        assert crc == block.crc
        if len(block.frames) == 2:
            numbers = np.frombuffer(block.frames[0], "<u8").tolist()
        else:
            numbers = list(range(block.row, block.row + block.rows))
        data = bytes(block.frames[-1])
        size = len(data) // block.rows
        self.taken += numbers
        rows = scan.rows.setdefault(block.main, {})
        for index, row in enumerate(numbers):
            rows[row] = rows.get(row, b"") + data[index * size : (index + 1) * size]

    def ack(self, scan: FakeScan, *, commit: bool = False) -> Answers:
        if self.makes_durable or commit:
            scan.durable_seq = scan.last
            scan.durable = {main: set(rows) for main, rows in scan.rows.items()}
        ack = wire.Ack(
            scan=scan.opening.scan,
            received=scan.last,
            durable=scan.durable_seq,
            credit=scan.nbytes + self.credit_window_bytes,
            positions=self._positions(scan),
        )
        return [ack]

    def _pong(self, message: wire.Ping) -> Answers:
        if not self.answers_pings:
            return []
        scan = self.scans.get(message.scan)
        answers: Answers = [wire.Pong(scan=message.scan)]
        if scan is None or not self.acks:
            return answers
        return answers + self.ack(scan, commit=message.commit and self.commits_when_asked)

    def end(self, message: wire.Finish | wire.Abort | wire.Leave) -> Answers:
        scan = self.scans[message.scan]
        file = f"/data/{scan.opening.file}.h5"
        if isinstance(message, wire.Leave):
            return [wire.Finished(scan=message.scan, file=file, status="acquiring")]
        if isinstance(message, wire.Abort):
            scan.result = wire.Aborted(scan=message.scan, file=file, status="aborted")
        else:
            scan.result = wire.Finished(scan=message.scan, file=file, status="complete")
        return [scan.result]

    def _report(self, message: wire.StatusRequest) -> Answers:
        frames: list[wire.Frame] = []
        coverage = self._coverage(self.scans[message.scan], frames) if message.coverage else {}
        scans = [{"scan": name} for name in self.scans if message.scan in ("", name)]
        return [
            wire.StatusReport(daemon={"name": "d"}, scans=scans, coverage=coverage, frames=frames)
        ]
