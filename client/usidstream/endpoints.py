"""What an address tells of where it leads. Knows text; opens nothing."""

from __future__ import annotations

import ipaddress


def host_of(endpoint: str) -> str:
    """Return the host of ``tcp://HOST:PORT``, without the brackets of IPv6."""
    return endpoint.removeprefix("tcp://").rpartition(":")[0].strip("[]")


def is_loopback(host: str) -> bool:
    """Tell whether a host is this machine, seen from itself only.

    A name other than ``localhost``, and ``*``, may lead anywhere.
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
