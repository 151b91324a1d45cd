"""The web server of the dashboard: its address, who may see it, and its life.

It listens on loopback; elsewhere it wants a token, which stands in the address that it prints and
becomes a cookie at the first visit. Pages of other sites may not open its websocket. Everything a
page needs comes from this server.
"""

from __future__ import annotations

import hmac
import os
import secrets
import socket
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
from bokeh.application import Application
from bokeh.application.handlers.function import FunctionHandler
from bokeh.core.validation import silence
from bokeh.core.validation.warnings import EMPTY_LAYOUT
from bokeh.document import Document
from bokeh.models import CustomJS
from bokeh.server.auth_provider import AuthProvider, NullAuth
from bokeh.server.server import Server
from tornado.ioloop import IOLoop
from tornado.web import RequestHandler

from usidstream.endpoints import is_loopback
from usidstream.errors import UsidstreamError
from usidstream.keys import ClientKeys

from ..logs import get_logger
from .hub import Hub
from .session import Session

log = get_logger()

COOKIE = "usidstream_token"
MIN_TOKEN_CHARACTERS = 16
SESSION_TOKEN_LIFE_S = 3600
UNUSED_SESSION_LIFE_MS = 15_000
KEEP_ALIVE_MS = 10_000
MAX_MESSAGE_BYTES = 1 << 20
LOWER_PRIORITY = 5


@dataclass(frozen=True)
class Options:
    """How the dashboard is served.

    Parameters
    ----------
    endpoint
        The daemon's data port.
    address, port
        Where browsers find the page. Port 0 takes any free one; a port that is taken, too.
    token
        What browsers must show where the address is not this machine's own; made if None.
    origins
        Further ``host:port`` by which browsers may know the page, as behind a proxy.
    directory
        Where files are, until the daemon tells.
    keys
        For a daemon that asks for keys.
    ends_with_input
        End when standard input ends: with whoever started us.
    """

    endpoint: str
    address: str = "127.0.0.1"
    port: int = 0
    token: str | None = None
    origins: tuple[str, ...] = ()
    directory: Path | None = None
    keys: ClientKeys | None = None
    ends_with_input: bool = False


def serve(options: Options, ready: Callable[[str], None]) -> None:
    """Serve the page until SIGTERM, Ctrl-C, or the end of standard input.

    Parameters
    ----------
    options
        See there.
    ready
        Is told the page's address when it can be opened.

    Raises
    ------
    UsidstreamError
        The address cannot be used.
    """
    _step_back()
    token = _token_for(options)
    hub = Hub(options.endpoint, options.directory, options.keys)
    server = _bound(options, token, hub)
    loop: IOLoop = server.io_loop
    loop.add_callback(hub.start)
    server.start()
    _end_by_signals(loop)
    if options.ends_with_input:
        _end_with_input(loop)
    ready(_shown_address(options, server.port, token))
    try:
        loop.start()
    finally:
        server.stop()
        hub.stop()


def _step_back() -> None:
    """Let the daemon's work go first, where the system knows priorities."""
    if hasattr(os, "nice"):
        os.nice(LOWER_PRIORITY)


def _token_for(options: Options) -> str | None:
    """Return the token that browsers need; None on loopback, unless one is given."""
    if options.token is not None and len(options.token) < MIN_TOKEN_CHARACTERS:
        raise UsidstreamError(
            f"the dashboard's token has {len(options.token)} characters",
            hint=f"Use at least {MIN_TOKEN_CHARACTERS}, or let one be made.",
            code="bad_name",
        )
    if options.token or is_loopback(options.address):
        return options.token
    return secrets.token_urlsafe(24)


def _bound(options: Options, token: str | None, hub: Hub) -> Any:
    """Return a server; on any free port where the wanted one is taken."""
    try:
        return _server(options, options.port, token, hub)
    except OSError as error:
        if not options.port:
            raise _unusable(options, error) from error
    try:
        server = _server(options, 0, token, hub)
    except OSError as error:
        raise _unusable(options, error) from error
    log.warning("port_taken", service="dashboard", wanted=options.port, port=server.port)
    return server


def _unusable(options: Options, error: OSError) -> UsidstreamError:
    return UsidstreamError(
        f"the dashboard cannot listen at {options.address}: {error}",
        hint="Choose another --address.",
        code="bad_name",
    )


def _server(options: Options, port: int, token: str | None, hub: Hub) -> Any:
    # the port is part of the origins, so that it must be known before
    port = port or _free_port(options.address)
    application = Application(FunctionHandler(lambda doc: make_page(doc, hub)))
    return Server(
        {"/": application},
        address=options.address,
        port=port,
        allow_websocket_origin=_origins(options, port),
        auth_provider=_TokenAuth(token) if token else NullAuth(),
        extra_patterns=[("/ping", _Ping)],
        sign_sessions=True,
        secret_key=secrets.token_hex(32).encode(),
        generate_session_ids=True,
        session_token_expiration=SESSION_TOKEN_LIFE_S,
        keep_alive_milliseconds=KEEP_ALIVE_MS,
        unused_session_lifetime_milliseconds=UNUSED_SESSION_LIFE_MS,
        check_unused_sessions_milliseconds=UNUSED_SESSION_LIFE_MS // 3,
        websocket_max_message_size=MAX_MESSAGE_BYTES,
    )


def _free_port(address: str) -> int:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as trial:
        trial.bind((address, 0))
        return int(trial.getsockname()[1])


def _origins(options: Options, port: int) -> list[str]:
    """Return the hosts by which a page may come that opens our websocket."""
    names = {"localhost", "127.0.0.1"}
    if not is_loopback(options.address):
        names |= {socket.gethostname(), socket.getfqdn(), *_own_addresses(options.address)}
    return [*(f"{name}:{port}" for name in sorted(names)), *options.origins]


def _own_addresses(address: str) -> set[str]:
    if address not in {"0.0.0.0", "::"}:  # noqa: S104 - compared, not bound
        return {address}
    try:
        return {str(found[4][0]) for found in socket.getaddrinfo(socket.gethostname(), None)}
    except OSError:
        return set()


def _shown_address(options: Options, port: int, token: str | None) -> str:
    host = options.address
    if host in {"0.0.0.0", "::"}:  # noqa: S104 - as above
        host = socket.getfqdn()
    host = f"[{host}]" if ":" in host else host
    return f"http://{host}:{port}/" + (f"?token={token}" if token else "")


def make_page(doc: Document, hub: Hub) -> None:
    """Fill a browser's document."""
    doc.title = "usidstream"
    doc.template = _template()
    doc.template_variables["style"] = _resource("page.css")
    doc.config.reconnect_session = False
    doc.config.notify_connection_status = False
    doc.js_on_event("connection_lost", CustomJS(code="window.usidstreamLost()"))
    silence(EMPTY_LAYOUT, True)  # nothing is chosen yet
    Session(doc, hub)


def _template() -> Any:
    return jinja2.Environment(autoescape=False).from_string(_resource("page.html"))  # noqa: S701 - Bokeh hands it HTML


def _resource(name: str) -> str:
    return files(__package__).joinpath(name).read_text("utf-8")


class _Ping(RequestHandler):
    """Says that the server is there."""

    def get(self) -> None:
        self.set_header("Cache-Control", "no-store")
        self.finish("pong")

    def data_received(self, chunk: bytes) -> None:
        """Take no body."""


class _TokenAuth(AuthProvider):  # type: ignore[misc]  # its types are skipped
    """Lets in who shows the token: once in the address, from then on in a cookie."""

    def __init__(self, token: str) -> None:
        self._token = token
        super().__init__()

    def _matches(self, shown: str | None) -> bool:
        return hmac.compare_digest((shown or "").encode(), self._token.encode())

    @property
    def get_user(self) -> Callable[[Any], str | None]:
        def user(handler: Any) -> str | None:
            shown = handler.get_argument("token", None)
            if self._matches(shown):
                handler.set_cookie(
                    COOKIE, self._token, httponly=True, samesite="Strict", expires_days=30
                )
                return "viewer"
            return "viewer" if self._matches(handler.get_cookie(COOKIE)) else None

        return user

    @property
    def get_user_async(self) -> None:
        return None

    @property
    def login_url(self) -> str:
        return "/login"

    @property
    def get_login_url(self) -> None:
        return None

    @property
    def login_handler(self) -> type[RequestHandler]:
        class Login(RequestHandler):
            """Says what is needed."""

            def get(self) -> None:
                self.set_status(403)
                self.finish("This page needs the token that the dashboard printed in its address.")

            def data_received(self, chunk: bytes) -> None:
                """Take no body."""

        return Login

    @property
    def logout_url(self) -> None:
        return None

    @property
    def logout_handler(self) -> None:
        return None


def _end_by_signals(loop: IOLoop) -> None:
    import signal

    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: loop.add_callback_from_signal(loop.stop))


def _end_with_input(loop: IOLoop) -> None:
    """End with whoever holds the other end of standard input, however that one ends."""

    def wait() -> None:
        while sys.stdin.buffer.read(4096):
            pass
        loop.add_callback(loop.stop)

    threading.Thread(target=wait, name="input", daemon=True).start()
