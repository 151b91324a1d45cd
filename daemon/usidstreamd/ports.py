"""Which ports the services beside the data listen on, and what is told if one is taken."""

from __future__ import annotations

from dataclasses import dataclass

from .conditions import Warnings
from .logs import get_logger

log = get_logger()

MAX_PORT = 65535


@dataclass(slots=True)
class Ports:
    """Where the services of a daemon listen, each under the name that clients are told.

    Parameters
    ----------
    data
        For instruments.
    telemetry, metrics, dashboard
        None while the service is off; the dashboard's is set by whoever runs it beside the daemon.
    """

    data: int
    telemetry: int | None = None
    metrics: int | None = None
    dashboard: int | None = None


def wanted_port(option: int | str, data_bind: str, offset: int) -> int | None:
    """Return the port that a service is to listen on: 0 for any, None for none.

    Parameters
    ----------
    option
        A port, ``"auto"`` for the data's plus ``offset``, or ``"off"``.
    data_bind
        Where data comes in, as the operator said; with port 0 any other port will do as well.
    """
    if option == "off":
        return None
    if option != "auto":
        return int(option)
    data_port = int(data_bind.rpartition(":")[2])
    return data_port + offset if 0 < data_port <= MAX_PORT - offset else 0


def note_taken(service: str, wanted: int, found: int, warnings: Warnings) -> None:
    """Warn that a service listens on another port than it was to."""
    text = f"{service}: port {wanted} is taken, it is on port {found} instead"
    others = [held.text for held in warnings.current() if held.code == "port_taken"]
    warnings.begin("port_taken", "; ".join([*others, text]))
    log.warning("port_taken", service=service, wanted=wanted, port=found)
