"""An HTTP server for one page, that neither a slow nor a hostile reader can make costly.

Each request has a thread, of which there are few, and little time. It knows a registry and, where
readers must show one, a token; it never knows what is counted.
"""

from __future__ import annotations

import errno
import hmac
import os
import socket
import socketserver
import threading
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CollectorRegistry, make_wsgi_app

from usidstream.errors import UsidstreamError

from ..logs import get_logger

log = get_logger()

MAX_REQUESTS_COUNT = 4
"""Answered at a time; one more is hung up on."""
REQUEST_TIMEOUT_S = 5.0
STOP_POLL_INTERVAL_S = 0.1
PATHS = ("/", "/metrics")

Environ: TypeAlias = dict[str, Any]
Answer: TypeAlias = Callable[..., Any]
App: TypeAlias = Callable[[Environ, Answer], Iterable[bytes]]


class Endpoint:
    """Listens on construction, and answers until `close`.

    Parameters
    ----------
    registry
        What is told.
    host, port
        Where; 0 takes any free port, and so does a port that is taken.
    token
        What a reader must show; None for nothing.

    Attributes
    ----------
    port
        Where it listens.

    Raises
    ------
    UsidstreamError
        The host cannot be listened at.
    """

    def __init__(
        self, registry: CollectorRegistry, host: str, port: int, token: str | None
    ) -> None:
        self._server = _listen(host, port)
        self._server.set_app(_guarded(make_wsgi_app(registry), token))
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(
            target=self._server.serve_forever,
            args=(STOP_POLL_INTERVAL_S,),
            name="metrics",
            daemon=True,
        )
        self._thread.start()

    def close(self) -> None:
        """Answer no more; a request under way is not waited for."""
        self._server.shutdown()
        self._server.server_close()


def _guarded(app: App, token: str | None) -> App:
    """Answer only what was asked for properly, by somebody who may."""

    def guarded(environ: Environ, answer: Answer) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] != "GET":
            return _refuse(answer, "405 Method Not Allowed", ("Allow", "GET"))
        if token is not None and not _shows(environ, token):
            return _refuse(answer, "401 Unauthorized", ("WWW-Authenticate", "Bearer"))
        if environ["PATH_INFO"] not in PATHS:
            return _refuse(answer, "404 Not Found", ("X-Content-Type-Options", "nosniff"))
        try:
            return app(environ, answer)
        except Exception:
            log.exception("scrape_failed")
            return _refuse(answer, "500 Internal Server Error", ("Retry-After", "60"))

    return guarded


def _shows(environ: Environ, token: str) -> bool:
    shown = environ.get("HTTP_AUTHORIZATION", "")
    return hmac.compare_digest(shown.encode("latin-1", "replace"), f"Bearer {token}".encode())


def _refuse(answer: Answer, status: str, header: tuple[str, str]) -> Iterable[bytes]:
    text = f"{status}; the metrics are at /metrics\n".encode()
    answer(status, [("Content-Type", "text/plain"), ("Content-Length", str(len(text))), header])
    return [text]


class _Handler(WSGIRequestHandler):
    timeout = REQUEST_TIMEOUT_S

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: being asked is what it is there for."""


class _Server(socketserver.ThreadingMixIn, WSGIServer):
    daemon_threads = True
    allow_reuse_address = os.name != "nt"  # where it would let another program take the port over

    def __init__(self, address: tuple[str, int], family: socket.AddressFamily) -> None:
        self.address_family = family
        self._free = threading.BoundedSemaphore(MAX_REQUESTS_COUNT)
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        """Bind without asking a name server what this machine is called."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = "usidstreamd", int(self.server_address[1])
        self.setup_environ()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread, if one is free."""
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Let a reader go that has hung up, or was too slow."""


def _listen(host: str, port: int) -> _Server:
    try:
        (family, *_, found), *_ = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        address = str(found[0])
        try:
            return _Server((address, port), family)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or not port:
                raise
            return _Server((address, 0), family)
    except OSError as error:
        raise UsidstreamError(
            f"{host}:{port} cannot be bound for metrics: {error}",
            code="internal_error",
            hint='Choose another port, or metrics = "off".',
        ) from error
