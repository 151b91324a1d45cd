"""Where a scan's data comes from without an instrument: simulated ones, and existing files.

A feed is a layout and the true value of every element of it; how those values reach the daemon
(order, rate, faults) is `simulate`'s and `replay`'s business. Feeds drive whatever looks like a
client's Scan and must never know sockets or the wire.
"""

from .feed import Feed
from .presets import PRESETS, load_feed, preset
from .simulate import Summary, run

__all__ = ["PRESETS", "Feed", "Summary", "load_feed", "preset", "run"]
