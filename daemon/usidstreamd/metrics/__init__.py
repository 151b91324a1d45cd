"""What Prometheus reads of a daemon: counts and gauges, over HTTP.

`names` says what there is, `books` keeps what scans that are over have counted, `collector` looks
at the daemon when it is asked and at no other time, `endpoint` answers HTTP. All of it runs in
threads of its own and takes no lock that an acquisition waits for: what is read are plain numbers
that their owners keep anyway.
"""

from .books import Books
from .collector import Sources
from .metrics import Metrics

__all__ = ["Books", "Metrics", "Sources"]
