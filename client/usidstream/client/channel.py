"""One scan between its callers and the I/O thread: a lock around pure delivery.

Delivery and lanes are touched under ``lock`` alone, which a caller takes for each call and opens
while it waits or copies. It knows time-outs and what ended the scan; it must never know sockets,
nor what rows and blocks are made of: that is ``intake``'s, which writes through it.

A caller may be interrupted at any step, and must hold the lock then if, and only if, it thinks that
it does. A ``with`` block sees to that where it takes the lock; `Channel.without_lock` elsewhere.
"""

from __future__ import annotations

import math
import threading
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

from .. import wire
from ..delivery import Coverage, Delivery, Outbound, read_coverage
from ..errors import DeliveryTimeoutError, UsidstreamError, error_for
from .lanes import Lanes
from .mains import Mains
from .options import Options, Waker, fresh
from .spooler import Spooler

_T = TypeVar("_T")

WAIT_SLICE_S = 1.0
"""Lock waits cannot be interrupted everywhere; none is longer than this."""


class Channel:
    """One scan's lock, delivery and lanes.

    Parameters
    ----------
    delivery
        The state machine; guarded by ``lock``.
    waker
        The I/O thread.
    options
        Time-outs and limits.

    Attributes
    ----------
    lanes
        The blocks that are still open.
    held
        By main, what the daemon holds from before a resume.
    skipped
        Rows of mains that were not sent, for the daemon holds them.
    closing
        Why nothing more is taken, unless delivery says so.
    corrupt
        How many of the next blocks are to be damaged on their way.
    """

    def __init__(self, delivery: Delivery, waker: Waker, options: Options) -> None:
        self.lock = threading.Lock()
        self.delivery = delivery
        self.mains = Mains([])
        self.options = options
        self.lanes = Lanes(delivery)
        self.held: dict[str, Coverage] = {}
        self.skipped = 0
        self.closing: UsidstreamError | None = None
        self.corrupt = 0
        self.spooler: Spooler | None = None
        self._waker = waker
        self._bells: list[threading.Lock] = []
        self._is_failure_told = False

    def resume(self) -> None:
        """After opening a scan that was known: skip what is durable, send all else as a resend."""
        opened = self.delivery.opened
        if opened is not None and opened.resumed:
            self.held = read_coverage(opened)
        # Without an answer only the spool knows the scan, and the daemon may hold anything of it.
        self.delivery.again = opened is None or opened.resumed

    def prepare(self, nbytes: int) -> None:
        """Touch memory for what a scan of so many bytes will have waiting; without the lock."""
        self.lanes.ring.touch(min(nbytes, 2 * self.options.retain_limit_bytes // 3))

    # ------------------------------------------------------------ what goes wrong

    def check(self) -> None:
        """Raise what ended the scan, or an error about an earlier block, each of these once."""
        self.check_alive()
        self.check_refused()

    def check_refused(self) -> None:
        """Raise an error about an earlier block, each once."""
        error = self.delivery.take_error()
        if error is not None:
            raise error

    def check_alive(self) -> None:
        """Raise what ended the scan."""
        self._raise_failure()
        if self.closing is not None:
            raise fresh(self.closing)
        if self.delivery.ended:
            raise error_for("scan_finished", f"scan {self.delivery.scan} has ended")

    def _raise_failure(self) -> None:
        failure = self.delivery.failure
        if failure is not None:
            self._is_failure_told = True
            raise fresh(failure)

    def let_go(self) -> None:
        """Forget all that is held, but for what a spool keeps, and take nothing more."""
        scan = self.delivery.scan
        self.closing = error_for("closed", f"this client has let go of scan {scan}")
        if self.spooler is not None:
            self.lanes.seal_all()
        self.lanes.let_go()
        self.delivery.let_go()
        self._after_event()

    def close_spool(self) -> None:
        """When the scan has ended, or was let go: wait until its spool is gone, or keeps all."""
        trouble = self.spooler.join() if self.spooler is not None else ""
        if trouble:
            warnings.warn(f"scan {self.delivery.scan}: {trouble}", stacklevel=3)

    # ------------------------------------------------------------ waiting

    def without_lock(self, work: Callable[[], _T]) -> _T:
        """Open the lock, which the caller holds, while ``work`` runs.

        It is held again afterwards, whatever ``work`` raised and whenever an interrupt came: else
        the caller's ``with`` would open a lock that another thread holds.
        """
        # A loop acquires it, since the interpreter looks for signals behind a call, but not between
        # a loop's iterator and its body: so whatever is raised here is raised without the lock.
        regained = iter(self.lock.acquire, None)
        try:
            self.lock.release()
            found = work()
        finally:
            try:
                for _ in regained:
                    break
            except BaseException:
                for _ in regained:
                    break
                raise
        return found

    def wait_for_room(self, nbytes: int, consequence: str) -> None:
        """Wait until so much may be held."""
        self.lanes.seal_all()
        self.delivery.want_durable()
        self.post()
        self.wait(
            lambda: self.delivery.has_room(nbytes),
            self.options.write_timeout_s,
            f"no room within {self.options.write_timeout_s:g} s; {consequence}",
        )
        self.check_alive()

    def wait(
        self,
        until: Callable[[], bool],
        timeout_s: float,
        failure: str,
        *,
        extend: Callable[[], Any] | None = None,
        longest_s: float = math.inf,
    ) -> None:
        """Wait until a condition holds.

        Parameters
        ----------
        until
            Called under the lock.
        timeout_s
            How long, from now or from the last change of ``extend()``.
        failure
            What a `DeliveryTimeoutError` says; the state of delivery is added.
        longest_s
            How long however often ``extend()`` changes.

        Raises
        ------
        DeliveryTimeoutError
            The condition did not come true in time.
        UsidstreamError
            What ended the scan meanwhile.
        """
        started = time.monotonic()
        deadline = started + timeout_s
        mark = extend() if extend else None
        while not until():
            self._raise_failure()
            now = time.monotonic()
            if extend and extend() != mark:
                mark, deadline = extend(), min(now + timeout_s, started + longest_s)
            if now >= deadline:
                raise self._late(failure)
            self._sleep(min(deadline - now, WAIT_SLICE_S))

    def _sleep(self, timeout_s: float) -> None:
        """Open the lock until something has changed."""
        bell = threading.Lock()
        bell.acquire()
        self._bells.append(bell)
        self.without_lock(lambda: bell.acquire(timeout=timeout_s))
        if bell in self._bells:
            self._bells.remove(bell)

    def _ring(self) -> None:
        """Wake everybody who sleeps. A bell is locked until it is rung, which is done once."""
        bells, self._bells = self._bells, []
        for bell in bells:
            bell.release()

    def _late(self, failure: str) -> DeliveryTimeoutError:
        """Make the error of a wait that took too long; a spool says what becomes of the rest."""
        message = f"{failure} ({self.situation()})"
        if self.spooler is None:
            return DeliveryTimeoutError(message)
        trouble = self.spooler.trouble
        if trouble is not None:
            return DeliveryTimeoutError(
                f"{message}; {trouble.message}", hint=trouble.hint, code=trouble.code
            )
        return DeliveryTimeoutError(message, hint=self.spooler.hint)

    def situation(self) -> str:
        """Say where delivery stands, for time-out messages."""
        delivery = self.delivery
        words = [f"scan {delivery.scan} {delivery.state.name.lower()}"]
        if delivery.held_bytes:
            words.append(f"{delivery.held_bytes} bytes wait to become durable")
        if self.spooler is not None and self.spooler.spooled.blocks:
            words.append(f"{self.spooler.spooled.blocks} blocks are in {self.spooler.path}")
        trouble = self._waker.trouble()
        words += [f"no connection: {trouble}"] if trouble else []
        words += [f"the daemon says: {delivery.notice}"] if delivery.notice else []
        return "; ".join(words)

    def signs_of_life(self) -> tuple[int, int]:
        """Return what changes whenever the daemon says anything."""
        return self.delivery.progress, self._waker.heard()

    def post(self) -> None:
        """Tell those who carry blocks on that there is something to do."""
        self._waker.posted()
        if self.spooler is not None:
            self.spooler.wake()

    def moved(self) -> None:
        """The spool has taken or given something."""
        self._waker.posted()
        self._ring()

    # ------------------------------------------------------------ from the I/O thread

    def tick(self, now: float, max_block_bytes: int | None) -> str:
        """Let time pass; return why the connection must be made anew, if it must.

        Parameters
        ----------
        max_block_bytes
            The daemon's limit, None while there is no connection.
        """
        with self.lock:
            delivery = self.delivery
            if max_block_bytes is not None:
                delivery.link_up(max_block_bytes, now)
            delivery.tick(now)
            return delivery.reconnect

    def link_down(self) -> None:
        """The connection is gone."""
        with self.lock:
            self.delivery.link_down()
            if self.spooler is not None:
                self.spooler.wake()

    def due_at(self) -> float | None:
        """Return when delivery has something to do."""
        with self.lock:
            return self.delivery.due_at()

    def take(self, now: float) -> wire.Message | Outbound | None:
        """Return the next message to send."""
        with self.lock:
            return self.delivery.take(now)

    def as_message(self, block: Outbound) -> wire.Block:
        """Return a block's message, damaged if the program asked for it, each block only once."""
        message = block.message()
        if not self.corrupt or block.retries:
            return message
        with self.lock:
            self.corrupt -= 1
        return replace(message, crc=message.crc ^ 1)

    def receive(self, message: wire.Message, now: float) -> None:
        """Take a message from the daemon."""
        with self.lock:
            self.delivery.receive(message, now)
            self._after_event()

    def fail(self, error: UsidstreamError) -> None:
        """End the scan for its callers."""
        with self.lock:
            self.delivery.fail(error)
            self._after_event()

    def linger(self) -> None:
        """At a tick: send the blocks that were open at the last one."""
        with self.lock:
            if self.lanes.linger():
                self.post()

    def hasten(self) -> None:
        """Send and make durable all there is, for the client is being closed."""
        with self.lock:
            self.closing = self.closing or error_for("closed", "the client is closed")
            self.lanes.seal_all()
            self.delivery.want_durable()
            self._after_event()

    def undelivered(self) -> int:
        """Return how many bytes were taken that are not durable, and still can become so."""
        with self.lock:
            delivery = self.delivery
            is_spooled = delivery.spool is not None and not delivery.spool.idle
            return delivery.held_bytes + is_spooled

    def untold(self) -> list[str]:
        """Say what no call has told the program: what was refused, or is not durable."""
        with self.lock:
            delivery = self.delivery
            told = [] if self._is_failure_told or not delivery.failure else [str(delivery.failure)]
            while (error := delivery.take_error()) is not None:
                told.append(str(error))
            if delivery.held_bytes:
                told.append(f"{delivery.held_bytes} bytes of scan {delivery.scan} not durable")
            if self.spooler is not None and self.spooler.spooled.blocks:
                told.append(f"{self.spooler.spooled.blocks} of its blocks in {self.spooler.path}")
            return told

    def abandon(self, error: UsidstreamError) -> None:
        """In a forked child: forget whoever held the lock, and make every call raise."""
        self.lock = threading.Lock()
        self._bells = []
        self.lanes.abandon()
        if self.spooler is not None:
            self.spooler.folder.abandon()
            self.spooler = self.delivery.spool = None
        self.fail(error)

    def _after_event(self) -> None:
        """Wake who waits, and take writers off the fast path if there is something to raise."""
        delivery = self.delivery
        if delivery.troubled or delivery.ended or self.closing:
            self.lanes.pause()
        if delivery.failure is not None or delivery.ended:
            if self.spooler is not None and not delivery.ended:
                self.lanes.seal_all()
            self.lanes.let_go()
        if self.spooler is not None:
            self.spooler.wake()
        self._ring()
