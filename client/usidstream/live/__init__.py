"""Watching a daemon: how it and its scans do, and previews of their data, as they come.

`watch` iterates over events, `watch_async` does so in asyncio. ``viewer`` makes events of frames
and notices silence, with no socket; ``watching`` has the socket, ``events`` says what there is to
be told, ``maps`` puts the increments of a live map together. The daemon does not notice how many
watch, and computes only what somebody has subscribed to.
"""

from ..wire import (
    DAEMON_TOPIC,
    SCAN_TOPICS,
    Heartbeat,
    Progress,
    ScanClosed,
    ScanOpened,
    WarningTold,
    layout_topic,
    preview_topic,
    received_part,
    scan_topic,
)
from .events import (
    Connected,
    Disconnected,
    Event,
    LayoutTold,
    PreviewNewest,
    PreviewRows,
    read_event,
)
from .maps import LiveMap
from .viewer import Viewer
from .watching import AsyncWatch, Watch, watch, watch_async

__all__ = [
    "DAEMON_TOPIC",
    "SCAN_TOPICS",
    "AsyncWatch",
    "Connected",
    "Disconnected",
    "Event",
    "Heartbeat",
    "LayoutTold",
    "LiveMap",
    "PreviewNewest",
    "PreviewRows",
    "Progress",
    "ScanClosed",
    "ScanOpened",
    "Viewer",
    "WarningTold",
    "Watch",
    "layout_topic",
    "preview_topic",
    "read_event",
    "received_part",
    "scan_topic",
    "watch",
    "watch_async",
]
