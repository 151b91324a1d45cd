"""Telemetry: how the daemon and its scans do, and previews of the data, for whoever listens.

``telemetry`` looks at the daemon in the socket thread, a few times a second and only at what is
listened to; ``publisher`` owns the XPUB socket in a thread of its own; ``subscriptions`` says what
is listened to. ``standing`` makes an operator's numbers of a scan. For previews a ``tap`` keeps
some of the blocks that were just placed, ``reductions`` makes one number of each row, ``feeds`` the
messages of a main, and ``previews`` keeps all of it within a budget of time.
"""

from .telemetry import Daemon, Telemetry

__all__ = ["Daemon", "Telemetry"]
