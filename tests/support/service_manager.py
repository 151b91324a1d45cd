"""A service manager's side of sd_notify: a real datagram socket, and what came in through it."""

from __future__ import annotations

import secrets
import socket
import sys
import threading
import time
from pathlib import Path

import pytest

from .daemon import WAIT_TIMEOUT_S, wait_for

MAX_DATAGRAM_BYTES = 1 << 16
LISTEN_TIMEOUT_S = 0.05


class ServiceManager:
    """Listens as systemd does, and remembers every datagram.

    Attributes
    ----------
    environment : dict
        What a service needs that is to tell this manager.
    heard : list of dict
        The assignments of each datagram, in order.
    last_heard_s : float
        When the last one came, on the monotonic clock.
    """

    def __init__(self, directory: Path, *, abstract: bool = False, watchdog_s: float = 0.0) -> None:
        if not hasattr(socket, "AF_UNIX"):
            pytest.skip("this platform has no Unix sockets, and no manager that uses them")
        if abstract and not sys.platform.startswith("linux"):
            pytest.skip("abstract sockets are Linux's")
        name = f"@usidstream-{secrets.token_hex(8)}" if abstract else str(directory / "notify")
        self.heard: list[dict[str, str]] = []
        self.last_heard_s = time.monotonic()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + name[1:] if abstract else name)
        self.environment = {"NOTIFY_SOCKET": name}
        if watchdog_s:
            self.environment["WATCHDOG_USEC"] = str(int(watchdog_s * 1e6))
        self._socket.settimeout(LISTEN_TIMEOUT_S)
        self._is_closing = False
        self._ear = threading.Thread(target=self._listen)
        self._ear.start()

    def __enter__(self) -> ServiceManager:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop_listening()
        self._socket.close()

    def stop_listening(self) -> None:
        """Read nothing more, and leave the socket open."""
        self._is_closing = True
        self._ear.join(WAIT_TIMEOUT_S)

    def values(self, name: str) -> list[str]:
        """Return what was told under a name, in order."""
        return [told[name] for told in list(self.heard) if name in told]

    def expect(self, name: str, text: str) -> None:
        """Wait until something that holds a text was told under a name."""
        wait_for(lambda: any(text in value for value in self.values(name)), f"{name} with {text!r}")

    def expect_more(self, name: str) -> None:
        """Wait until something is told under a name from now on."""
        before = len(self.values(name))
        wait_for(lambda: len(self.values(name)) > before, f"one more {name}")

    def expect_silence(self, watchdog_s: float) -> None:
        """Wait until nothing was told for so long, as a manager does before it restarts."""
        wait_for(lambda: time.monotonic() - self.last_heard_s >= watchdog_s, "silence")

    def _listen(self) -> None:
        while not self._is_closing:
            try:
                datagram = self._socket.recv(MAX_DATAGRAM_BYTES)
            except TimeoutError:
                continue
            self.last_heard_s = time.monotonic()
            lines = datagram.decode().splitlines()
            self.heard.append(dict(line.split("=", 1) for line in lines))
