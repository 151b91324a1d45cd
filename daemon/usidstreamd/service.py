"""What a service manager hears of the daemon, by the protocol of sd_notify(3), and its watchdog.

A datagram of plain assignments to the socket that ``NOTIFY_SOCKET`` names; where there is none (a
terminal, a container, Windows) nothing is said. `Service.beat` is the watchdog's sign of life. It
is to be called by the loop that must not hang, and by no other thread: a thread of its own would
go on saying that all is well. It knows the socket and the clock it is handed, never what a scan is.

Source: systemd's sd_notify(3) and sd_watchdog_enabled(3). The packages that wrap them are either
unmaintained or need systemd's C headers to install, for what is one ``sendto``.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping

from .logs import get_logger

log = get_logger()

SEND_TIMEOUT_S = 0.2
"""A manager that does not read holds the loop up no longer than this."""
BEATS_PER_WATCHDOG_COUNT = 4
"""Signs of life within the time after which a manager restarts the daemon."""
STATUS_INTERVAL_S = 2.0
"""The line that ``systemctl status`` shows is written anew no oftener."""
MAX_STATUS_CHARS = 500
VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
"""What a manager tells its service; meant for this process, and for none that it starts."""


class Service:
    """The daemon as its service manager sees it; used by one thread.

    Nothing here raises or waits for long: a manager that cannot be reached costs a warning.

    Parameters
    ----------
    address
        Of the manager's socket: a path, or a name that begins with ``@`` for Linux's abstract
        sockets. Empty: nobody is told.
    watchdog_s
        After so long without a sign of life the manager restarts the daemon; None: never.
    """

    def __init__(self, address: str = "", watchdog_s: float | None = None) -> None:
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._socket = _open_socket() if address else None
        self._beat_interval_s = watchdog_s and watchdog_s / BEATS_PER_WATCHDOG_COUNT
        self._beat_due_s = float("-inf")
        self._status_due_s = float("-inf")
        self._status = ""
        self._is_deaf = False

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Service:
        """Return the service as the manager that started this process wants it."""
        return cls(environ.get("NOTIFY_SOCKET", ""), _watchdog_s(environ))

    def starting(self, status: str, timeout_s: float) -> None:
        """Tell how far the start has come, and that it may take so long from now."""
        self._tell(STATUS=status, EXTEND_TIMEOUT_USEC=_usec(timeout_s))

    def ready(self) -> None:
        """Tell that clients are served."""
        self._tell(READY=1)

    def stopping(self, timeout_s: float) -> None:
        """Tell that the daemon closes its scans, and may take so long for it from now."""
        self._tell(STOPPING=1, STATUS="closing every scan", EXTEND_TIMEOUT_USEC=_usec(timeout_s))

    def beat(self, now: float) -> None:
        """Give the watchdog its sign of life, if it is time for one."""
        if self._beat_interval_s is None or now < self._beat_due_s:
            return
        self._beat_due_s = now + self._beat_interval_s
        self._tell(WATCHDOG=1)

    def wants_status(self, now: float) -> bool:
        """Whether it is time to tell the standing again."""
        return self._socket is not None and now >= self._status_due_s

    def tell_status(self, status: str, now: float) -> None:
        """Tell the standing in one line, if it has changed."""
        self._status_due_s = now + STATUS_INTERVAL_S
        if status != self._status:
            self._status = status
            self._tell(STATUS=status)

    def close(self) -> None:
        """Release the socket; nothing more is told."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _tell(self, **assignments: str | int) -> None:
        if self._socket is None:
            return
        lines = (f"{name}={_one_line(value)}" for name, value in assignments.items())
        try:
            self._socket.sendto("\n".join(lines).encode(), self._address)
        except OSError as error:
            if not self._is_deaf:
                log.warning("service_manager_deaf", problem=str(error))
            self._is_deaf = True
        else:
            self._is_deaf = False


def _open_socket() -> socket.socket | None:
    if not hasattr(socket, "AF_UNIX"):  # where no manager has this protocol either
        return None
    opened = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    opened.settimeout(SEND_TIMEOUT_S)
    return opened


def _watchdog_s(environ: Mapping[str, str]) -> float | None:
    """Return the watchdog's time, if it is meant for this process and makes sense."""
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    usec = environ.get("WATCHDOG_USEC", "")
    return int(usec) / 1e6 if usec.isdecimal() and int(usec) > 0 else None


def _usec(seconds: float) -> int:
    return max(1, round(seconds * 1e6))


def _one_line(value: str | int) -> str:
    return " ".join(str(value).split())[:MAX_STATUS_CHARS]
