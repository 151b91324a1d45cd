"""The keys of a client whose daemon admits known clients only: read from files, set on a socket.

The encryption is ZeroMQ's CURVE. A key is 32 bytes, written as 40 characters (Z85); a key file is
what ``usidstreamd keygen`` writes, which pyzmq and czmq read and write too. Which keys a daemon
admits is the daemon's affair.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import zmq
import zmq.auth

from .errors import UsidstreamError, error_for

SERVER_KEY_VARIABLE = "USIDSTREAM_SERVER_KEY"
KEY_FILE_VARIABLE = "USIDSTREAM_KEY_FILE"
"""What the ``usidstream`` commands read where no option is given; the daemon reads neither."""

MAX_KEY_FILE_BYTES = 64 * 1024

_KEY = re.compile(r"[0-9a-zA-Z.\-:+=^!/*?&<>()\[\]{}@%$#]{40}\Z")


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A public key and, where it was in the file, the secret one; 40 characters each."""

    public: str
    secret: str | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class ClientKeys:
    """What a client shows, and whom it believes.

    Parameters
    ----------
    server
        The daemon's public key.
    public, secret
        The client's own.
    """

    server: str
    public: str
    secret: str = field(repr=False)

    @classmethod
    def load(cls, server_key: str | Path | None, key_file: str | Path | None) -> Self | None:
        """Read the keys that a caller names; None if none are named.

        Parameters
        ----------
        server_key
            The daemon's public key: its 40 characters, or the path of its file ``server.key``.
        key_file
            The path of the client's own file, ``NAME.key_secret``.

        Raises
        ------
        UsidstreamError
            ``bad_keys``: one is missing, or cannot be read as what it should be.
        """
        if server_key is None and key_file is None:
            return None
        if server_key is None or key_file is None:
            missing = "server_key" if server_key is None else "key_file"
            raise error_for(
                "bad_keys",
                f"{missing} is missing: keys need both",
                hint="server_key is the daemon's server.key, key_file this client's NAME.key_secret"
                "; usidstreamd keygen makes them.",
            )
        own = read_key_file(Path(key_file))
        if own.secret is None:
            raise error_for(
                "bad_keys",
                f"{key_file} holds no secret key",
                hint="Give the client's NAME.key_secret, not its NAME.key.",
            )
        return cls(_read_server_key(server_key), own.public, own.secret)

    def secure(self, socket: zmq.Socket[bytes]) -> None:
        """Set the keys on a socket, before it connects."""
        socket.curve_serverkey = self.server.encode()
        socket.curve_publickey = self.public.encode()
        socket.curve_secretkey = self.secret.encode()


def read_key_file(path: Path) -> KeyPair:
    """Read a key file.

    Raises
    ------
    UsidstreamError
        ``bad_keys``: it cannot be read, is no key file, or its two keys are not of one pair.
    """
    try:
        if path.stat().st_size > MAX_KEY_FILE_BYTES:
            raise _bad(path, "is too large")
        public, secret = zmq.auth.load_certificate(path)
    except OSError as error:
        raise _bad(path, f"cannot be read: {error.strerror}") from error
    except ValueError as error:  # the library's word for a file without a public key
        raise _bad(path, "holds no public key") from error
    for key in (public, secret):
        if key is not None and not _KEY.match(key.decode("ascii", "replace")):
            raise _bad(path, "holds a key that is not 40 characters of Z85")
    if secret is not None and zmq.curve_public(secret) != public:
        raise _bad(path, "holds two keys that are not of one pair")
    return KeyPair(public.decode(), None if secret is None else secret.decode())


def _read_server_key(server_key: str | Path) -> str:
    if isinstance(server_key, str) and _KEY.match(server_key):
        return server_key
    return read_key_file(Path(server_key)).public


def _bad(path: Path, problem: str) -> UsidstreamError:
    return error_for(
        "bad_keys",
        f"{path} {problem}",
        hint="usidstreamd keygen DIR --client NAME makes key files.",
    )
