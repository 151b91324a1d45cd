"""Delivery against a daemon that loses, doubles, refuses, forgets and dies at any moment.

Whatever happens, everything handed in becomes durable with the values that were handed in, memory
holds exactly what is not durable yet, and nothing is told to the caller that is not the daemon's
refusal of what the caller did.
"""

from __future__ import annotations

import random
from collections import deque
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from support.model_daemon import MAIN, SCAN, ModelDaemon
from usidstream import wire
from usidstream.delivery import Delivery, Goal, Outbound, Payload, State, as_bytes, scattered
from usidstream.delivery.state import MAX_BLOCK_RETRIES

N_ROWS, N_COLS = 100, 3
MAX_TURNS_COUNT = 400
CALM = ["send"] * 3 + ["arrive_there"] * 4 + ["arrive_here"] * 4
DISTURBANCES = [
    "lose_what_was_sent",
    "double_what_was_sent",
    "damage_on_the_way",
    "lose_what_was_answered",
    "double_what_was_answered",
    "fail_sync",
    "commit",
]
MOVES = ["send"] * 6 + ["arrive_there"] * 4 + ["arrive_here"] * 4 + DISTURBANCES


class Trial(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.daemon = ModelDaemon(N_ROWS, N_COLS)
        opening = wire.Open(scan=SCAN, layout={})
        self.delivery = Delivery(opening, retain_limit_bytes=1 << 20)
        self.now = 0.0
        self.wire: deque[wire.Message] = deque()
        self.written = np.zeros((N_ROWS, N_COLS), dtype="<u2")
        self.free = np.ones((N_ROWS, N_COLS), dtype=bool)
        self.attrs: dict[str, int] = {}
        self.provoked = 0
        self.raised: list[Any] = []
        self.counter = 0
        self.damages = 0
        self.delivery.link_up(48, self.now)

    # ------------------------------------------------------------ the caller

    @rule(seed=st.integers(0, 2**32), count=st.integers(1, 6))
    def write(self, seed: int, count: int) -> None:
        rng = random.Random(seed)
        for _ in range(count):
            rng.choice([self.write_rows, self.write_rows, self.write_a_piece, self.annotate])(rng)

    def write_rows(self, rng: random.Random) -> None:
        whole = np.flatnonzero(self.free.all(axis=1)).tolist()
        if whole:
            rows = rng.sample(whole, k=min(len(whole), rng.randint(1, 5)))
            block = self._fill(np.ix_(rows, range(N_COLS)))
            single = rng.random() < 0.5
            self.delivery.add_block(scattered(MAIN, rows, 0, N_COLS, block, single=single))

    def write_a_piece(self, rng: random.Random) -> None:
        free = np.argwhere(self.free).tolist()
        if free:
            row, col = rng.choice(free)
            block = self._fill(np.ix_([row], [col]))
            self.delivery.add_block(Payload(MAIN, row, 1, col, 1, as_bytes(block)))

    def annotate(self, rng: random.Random) -> None:
        self.counter += 1
        name = f"a{rng.randint(0, 3)}"
        self.attrs[name] = self.counter
        self.delivery.annotate({name: self.counter}, 8)

    @rule()
    def write_what_is_there_already(self) -> None:
        """A caller's mistake: the only error that the caller may hear of.

        What is durable already, for else the second could overtake a first that was damaged.
        """
        taken = np.flatnonzero(self.daemon.durable.all(axis=1))
        if taken.size:
            row = int(taken[0])
            block = as_bytes(self.written[row : row + 1])
            self.delivery.add_block(Payload(MAIN, row, 1, 0, N_COLS, block, single=True))
            self.provoked += 1

    @rule()
    def want_durable(self) -> None:
        self.delivery.want_durable()

    def _fill(self, area: Any) -> np.ndarray[Any, Any]:
        shape = self.written[area].shape
        self.counter += 1
        self.written[area] = np.arange(
            self.counter * 100, self.counter * 100 + np.prod(shape)
        ).reshape(shape)
        self.free[area] = False
        return np.ascontiguousarray(self.written[area])

    # ------------------------------------------------------------ the wire

    @rule(seed=st.integers(0, 2**32), count=st.integers(1, 80))
    def flow(self, seed: int, count: int) -> None:
        """Let messages move, and be disturbed, one at a time."""
        for move in random.Random(seed).choices(MOVES, k=count):
            getattr(self, move)()

    @rule(turns=st.integers(1, 10))
    def flow_on(self, turns: int) -> None:
        for move in CALM * turns:
            getattr(self, move)()

    def send(self) -> None:
        self.delivery.tick(self.now)
        message = self.delivery.take(self.now)
        if message is not None:
            self.wire.append(message.message() if isinstance(message, Outbound) else message)

    def arrive_there(self) -> None:
        if self.wire:
            self.daemon.receive(self.wire.popleft())

    def arrive_here(self) -> None:
        if self.daemon.out:
            self.hear(self.daemon.out.popleft())

    def hear(self, message: wire.Message) -> None:
        self.delivery.receive(message, self.now)
        if isinstance(message, wire.Ack) and self.delivery.is_open:
            assert self.delivery.kept.first_seq > message.durable, (
                "what is durable is freed at once"
            )
        while (error := self.delivery.take_error()) is not None:
            self.raised.append(error)
        if self.delivery.reconnect:
            self.cut()

    def lose_what_was_sent(self) -> None:
        if self.wire and isinstance(self.wire[0], wire.Block | wire.Annotate | wire.Ping):
            self.wire.popleft()

    def lose_what_was_answered(self) -> None:
        if self.daemon.out and isinstance(self.daemon.out[0], wire.Ack | wire.Resend):
            self.daemon.out.popleft()

    def double_what_was_sent(self) -> None:
        if self.wire and isinstance(self.wire[0], wire.Block | wire.Annotate | wire.Ping):
            self.wire.appendleft(self.wire[0])

    def double_what_was_answered(self) -> None:
        if self.daemon.out and isinstance(self.daemon.out[0], wire.Ack | wire.Resend):
            self.daemon.out.appendleft(self.daemon.out[0])

    @rule()
    def cut(self) -> None:
        self.wire.clear()
        self.daemon.connect()
        self.delivery.link_down()
        self.delivery.link_up(48, self.now)

    @rule(limit=st.sampled_from([6, 20, 48]))
    def come_back_with_another_limit(self, limit: int) -> None:
        self.wire.clear()
        self.daemon.connect()
        self.delivery.link_down()
        self.delivery.link_up(limit, self.now)

    @rule(seconds=st.sampled_from([0.1, 1.0, 10.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    # ------------------------------------------------------------ the daemon

    def commit(self) -> None:
        self.daemon.commit()

    @rule()
    def kill(self) -> None:
        self.daemon.die()
        self.cut()

    def fail_sync(self) -> None:
        """Forget, unless an old copy is on its way: it would be taken for the first of its seq."""
        numbered = [m for m in self.wire if isinstance(m, wire.Block | wire.Annotate)]
        if all(message.seq > self.daemon.last for message in numbered):
            self.daemon.fail_sync()

    def damage_on_the_way(self) -> None:
        """Damage a block, as often as delivery promises to send it again in silence."""
        if self.wire and isinstance(self.wire[0], wire.Block) and self.damages < MAX_BLOCK_RETRIES:
            self.damages += 1
            self.daemon.refuse_next = "bad_checksum"
            self.daemon.receive(self.wire.popleft())
            self.daemon.refuse_next = ""

    # ------------------------------------------------------------ what must hold

    @invariant()
    def nothing_is_freed_that_is_not_durable(self) -> None:
        kept = self.delivery.kept
        assert kept.held_bytes == sum(entry.held for entry in kept.entries)
        if self.delivery.is_open and self.daemon.is_listening:
            assert kept.first_seq <= self.daemon.durable_seq + 1

    @invariant()
    def the_scan_goes_on(self) -> None:
        assert self.delivery.state is not State.FAILED, self.delivery.failure
        assert len(self.raised) <= self.provoked
        assert all(error.code == "already_covered" for error in self.raised)

    def teardown(self) -> None:
        if not hasattr(self, "daemon"):
            return
        self.delivery.aim(Goal.FINISH)
        for _ in range(MAX_TURNS_COUNT):
            if self.delivery.ended:
                break
            self.now += 0.3
            self.flow_on(3)
        assert self.delivery.ended, self.delivery.state
        covered = ~self.free
        np.testing.assert_array_equal(self.daemon.durable, covered)
        np.testing.assert_array_equal(self.daemon.values[covered], self.written[covered])
        assert self.daemon.durable_attrs == self.attrs
        assert self.delivery.held_bytes == 0
