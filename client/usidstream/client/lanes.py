"""The blocks of a scan that are still open, one lane for each choice of mains written together.

Used under the channel's lock; only `Lane.put` and `Lane.put_all` do without. It knows which lanes
there are, which of them are open and what is set aside for those, and hands what they gathered to
delivery; it must never know who waits for it.

A call may end at any step, by an interrupt. Each step here can then be done once more: what was set
aside is noted in the lane, and delivery takes a block only once.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from ..delivery import Delivery, Lane, MainShape, SlabRing, Slabs

MAX_LANES_COUNT = 32
"""So many are remembered; one that is open and forgotten is sent like any other."""


class Lanes:
    """The lanes of one scan.

    Parameters
    ----------
    delivery
        Takes the blocks, and counts the memory of open ones as reserved.

    Attributes
    ----------
    ring
        Memory for the blocks of this scan.
    slabs
        Memory for blocks of no lane.
    lingering
        Whether a block may be open, so that `linger` must be called in a while.
    """

    def __init__(self, delivery: Delivery) -> None:
        self.ring = SlabRing()
        self.slabs = Slabs(self.ring)
        self.lingering = False
        self._delivery = delivery
        self._known: dict[tuple[str, ...], Lane] = {}
        self._open: dict[Lane, None] = {}

    def get(self, mains: Sequence[MainShape], limit_bytes: int) -> Lane:
        """Return the lane for these mains, in this order.

        Parameters
        ----------
        limit_bytes
            The most that its open block may come to.
        """
        names = tuple(main.name for main in mains)
        lane = self._known.get(names)
        if lane is None:
            if len(self._known) >= MAX_LANES_COUNT:
                self._known.clear()
            lane = self._known[names] = Lane(mains, limit_bytes, self.ring)
        return lane

    def begin(self, lane: Lane, row: int, stop: int, *, may_scatter: bool) -> bool:
        """Open a block of rows ``row`` to ``stop``; return False if there is no room for it."""
        self.seal(lane)  # what an interrupt may have left of the last one
        nbytes = lane.nbytes
        if not self._delivery.has_room(nbytes):
            return False
        lane.begin(row, stop, may_scatter=may_scatter, now=time.monotonic())
        # No call from here on, so no interrupt.
        self._open[lane] = None
        lane.reserved_bytes = nbytes
        self._delivery.reserved_bytes += nbytes
        self.lingering = True
        return True

    def seal(self, lane: Lane) -> None:
        """Hand a lane's open block to delivery; one without a row is closed, and that is all."""
        lane.close()
        if lane.closed:
            self._delivery.add_blocks(lane.closed)
            fill_s = time.monotonic() - lane.begun_s
            lane.resize(fill_s=fill_s, is_behind=self._delivery.is_behind)
        self._forget(lane)

    def _forget(self, lane: Lane) -> None:
        """Take note that nothing of a lane's block is in it any more."""
        if lane in self._open:
            del self._open[lane]
        self._delivery.reserved_bytes -= lane.reserved_bytes
        lane.reserved_bytes, lane.closed = 0, []

    def seal_all(self, main: str | None = None, but: Lane | None = None) -> bool:
        """Hand every open block to delivery, or those that hold rows of one main, but for one.

        Returns
        -------
        bool
            Whether there were any.
        """
        chosen = [
            lane
            for lane in list(self._open)
            if lane is not but and (main is None or any(main == m.name for m in lane.mains))
        ]
        for lane in chosen:
            self.seal(lane)
        return bool(chosen)

    def linger(self) -> bool:
        """Seal the blocks that were open at the last call already; tell whether there were any."""
        late = [lane for lane in list(self._open) if lane.lingers() or not lane.used]
        for lane in late:
            self.seal(lane)
        self.lingering = bool(self._open)
        return bool(late)

    def pause(self) -> None:
        """Take writers off the fast path: their next call asks for the channel's lock."""
        for lane in list(self._open):
            lane.pause()

    def let_go(self) -> None:
        """Let every open block go, and all memory that is not in use."""
        for lane in {**self._open, **dict.fromkeys(self._known.values())}:
            lane.let_go()
            self._forget(lane)
        self.slabs.let_go()
        self.ring.let_go()

    def abandon(self) -> None:
        """In a forked child: take the turn from whoever had it, for nobody gives it back."""
        for lane in self._open:
            lane.turn = [True]
