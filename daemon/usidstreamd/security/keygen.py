"""Making key files: the daemon's pair, and a pair for each client.

::

    DIR/server.key_secret     the daemon's own; never leaves this machine
    DIR/server.key            its public part, which every client needs
    DIR/clients/NAME.key      the public part of a client: the daemon admits whoever is listed here
    DIR/NAME.key_secret       the client's own, to be moved to the instrument's machine

No file is ever overwritten, and each is readable by its owner alone. The form is pyzmq's and
czmq's, so that their tools work as well.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import zmq

from usidstream.errors import UsidstreamError, error_for
from usidstream.keys import read_key_file

SERVER_NAME = "server"
CLIENTS_DIR_NAME = "clients"
PUBLIC_SUFFIX = ".key"
SECRET_SUFFIX = ".key_secret"  # noqa: S105 - a file's name
FILE_MODE = 0o600
DIRECTORY_MODE = 0o700
MAX_NAME_CHARS = 64

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}\Z")
_DEVICES = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\.|\Z)", re.IGNORECASE)


def is_client_name(name: str) -> bool:
    """Tell whether a client may be called so: a plain word that is a file's name anywhere."""
    return bool(_NAME.match(name)) and not _DEVICES.match(name) and name.lower() != SERVER_NAME


def create_keys(directory: Path, clients: Sequence[str]) -> Iterator[Path]:
    """Make what is asked for, yielding each file when it is made.

    The daemon's pair is made if there is none; without any client to make keys for, it is an error
    if there is one.
    """
    if not clients or not (directory / (SERVER_NAME + SECRET_SUFFIX)).exists():
        yield from create_server_keys(directory)
    for name in clients:
        yield from create_client_keys(directory, name)


def create_server_keys(directory: Path) -> list[Path]:
    """Make the daemon's pair in a directory, which is made if need be; return the new files.

    Where only the public part is missing, it is made of the secret one.

    Raises
    ------
    UsidstreamError
        ``bad_keys``: there are keys already, or a file cannot be written.
    """
    secret_file = directory / (SERVER_NAME + SECRET_SUFFIX)
    public_file = directory / (SERVER_NAME + PUBLIC_SUFFIX)
    _make_directory(directory)
    _make_directory(directory / CLIENTS_DIR_NAME)
    if secret_file.exists() and not public_file.exists():
        return [_write(public_file, read_key_file(secret_file).public)]
    return _create_pair(public_file, secret_file)


def create_client_keys(directory: Path, name: str) -> list[Path]:
    """Make a client's pair, and list its public part among those that are admitted.

    Raises
    ------
    UsidstreamError
        ``bad_name``, or ``bad_keys`` as `create_server_keys`.
    """
    if not is_client_name(name):
        raise error_for(
            "bad_name",
            f"{name[:60]!r} cannot be a client's name",
            hint=f"Use 1 to {MAX_NAME_CHARS} of A-Z a-z 0-9 _ . -, such as afm-2.",
        )
    _make_directory(directory / CLIENTS_DIR_NAME)
    return _create_pair(
        directory / CLIENTS_DIR_NAME / (name + PUBLIC_SUFFIX), directory / (name + SECRET_SUFFIX)
    )


def _create_pair(public_file: Path, secret_file: Path) -> list[Path]:
    for path in (public_file, secret_file):
        if path.exists():
            raise _refused(path, "exists already, nothing was changed")
    public, secret = (key.decode() for key in zmq.curve_keypair())
    # The secret first: a public part alone would list a client that nobody can be.
    return [_write(secret_file, public, secret), _write(public_file, public)]


def _make_directory(path: Path) -> None:
    try:
        path.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
    except OSError as error:
        raise _refused(path, f"cannot be made: {error.strerror}") from error


def _write(path: Path, public: str, secret: str | None = None) -> Path:
    what = "public part, to be given away" if secret is None else "SECRET part: show it to nobody"
    lines = [f"# ZeroMQ CURVE key of usidstream, {what}.", "metadata", "curve"]
    lines.append(f'    public-key = "{public}"')
    if secret is not None:
        lines.append(f'    secret-key = "{secret}"')
    try:
        # Exclusively, and with its mode from the start: at no time may another user open it.
        with open(path, "x", encoding="utf-8", opener=_open_private) as file:
            file.write("\n".join(lines) + "\n")
    except OSError as error:
        raise _refused(path, f"cannot be written: {error.strerror}") from error
    return path


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, FILE_MODE)


def _refused(path: Path, problem: str) -> UsidstreamError:
    return error_for(
        "bad_keys",
        f"{path} {problem}",
        hint="Choose another directory or name; to replace keys, move the old ones away first.",
    )
