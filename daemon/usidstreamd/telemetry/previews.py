"""The previews of all scans: what their taps gave becomes messages, within a budget of time.

Each tick may take `TICK_BUDGET_S` of processor time for reductions, whatever comes: what there is
no time for is skipped, and the taps are told to keep less, evenly. Runs in the telemetry thread; no
socket here.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence

from usidstream.layout import ScanLayout

from ..storage import JournalBlock
from .feeds import MainFeed, Published
from .subscriptions import Subscriptions
from .tap import Taken, Tap

TICK_BUDGET_S = 0.01
"""Of processor time a tick, for all scans: 4 % of a core at four ticks a second."""


class _Watched:
    """A scan with a tap, and the feeds of its mains that are watched."""

    def __init__(self, scan: str, layout: ScanLayout, tap: Tap) -> None:
        self.tap = tap
        self._scan = scan
        self._layout = layout
        self.feeds: dict[int, MainFeed] = {}

    def watch(self, subscriptions: Subscriptions) -> None:
        """Serve what is wanted by now."""
        previews = subscriptions.previews
        for number in range(len(self._layout.mains)):
            wanted = previews.get((self._scan, number), ())
            if wanted and number not in self.feeds:
                main = self._layout.mains[number]
                self.feeds[number] = MainFeed(self._scan, number, main)
            if number in self.feeds:
                self.feeds[number].watch(wanted)


class Previews:
    """The scans that are watched.

    Parameters
    ----------
    subscriptions
        What is wanted of them.
    """

    def __init__(self, subscriptions: Subscriptions) -> None:
        self._subscriptions = subscriptions
        self._scans: dict[str, _Watched] = {}

    def __bool__(self) -> bool:
        return bool(self._scans)

    def add(self, scan: str, layout: ScanLayout, tap: Tap) -> None:
        """Begin to serve a scan."""
        self._scans[scan] = _Watched(scan, layout, tap)

    def remove(self, scan: str) -> None:
        """Serve a scan no more."""
        self._scans.pop(scan, None)

    def tick(self, budget_s: float = TICK_BUDGET_S) -> Iterator[Published]:
        """Yield what there is to tell since the last tick."""
        end_s = time.thread_time() + budget_s
        for watched in self._scans.values():
            watched.watch(self._subscriptions)
            taken = watched.tap.take()
            begun_s = time.thread_time()
            done_bytes = _reduce(watched.feeds, taken, end_s)
            _thin_out(watched.tap, taken, done_bytes, time.thread_time() - begun_s, budget_s)
            for feed in watched.feeds.values():
                yield from feed.messages()


def _reduce(feeds: dict[int, MainFeed], taken: Taken, end_s: float) -> int:
    """Reduce blocks as long as there is time; return the bytes of those that were."""
    for number, rows in taken.skipped.items():
        if number in feeds:
            feeds[number].skip(rows)
    for number, blocks in _by_main(taken.blocks):
        if number in feeds:
            feeds[number].show(blocks)
    done_bytes = 0
    for block in taken.blocks:
        feed = feeds.get(block.main)
        if feed is None:
            continue
        if time.thread_time() < end_s:
            feed.reduce(block)
            done_bytes += len(block.data)
        else:
            feed.skip(block.rows)
    return done_bytes


def _by_main(blocks: Sequence[JournalBlock]) -> Iterator[tuple[int, list[JournalBlock]]]:
    by_main: defaultdict[int, list[JournalBlock]] = defaultdict(list)
    for block in blocks:
        by_main[block.main].append(block)
    yield from by_main.items()


def _thin_out(tap: Tap, taken: Taken, done_bytes: int, took_s: float, budget_s: float) -> None:
    """Tell a tap how much can be afforded a tick, at the speed that was just seen."""
    if done_bytes and took_s > 0.0:
        tap.thin_out(taken.offered_bytes, done_bytes * budget_s / took_s)
