"""Who may connect: key files, the list of admitted clients, and the gate that asks for keys."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from usidstream.errors import error_for
from usidstream.keys import read_key_file

from ..logs import get_logger
from .allowlist import AllowList, read_allow_list
from .gate import Gate
from .keygen import create_keys
from .tokens import read_token

__all__ = [
    "AllowList",
    "Gate",
    "create_keys",
    "open_gate",
    "read_allow_list",
    "read_token",
]

log = get_logger()


def open_gate(server_key_file: Path | None, keys_dir: Path | None) -> Gate:
    """Read the keys and make the gate; without a key file it is open to all.

    Parameters
    ----------
    server_key_file
        The daemon's secret key.
    keys_dir
        The public keys of admitted clients.

    Raises
    ------
    UsidstreamError
        ``bad_keys``: a file or the directory cannot be used, naming all files that cannot.
    """
    if server_key_file is None or keys_dir is None:
        return Gate()
    keys = read_key_file(server_key_file)
    if keys.secret is None:
        raise error_for("bad_keys", f"{server_key_file} holds no secret key")
    _warn_if_readable(server_key_file)
    allowed = read_allow_list(keys_dir)
    if allowed.faults:
        raise error_for("bad_keys", "; ".join(allowed.faults.values()))
    return Gate(keys, allowed, keys_dir)


def _warn_if_readable(path: Path) -> None:
    """Tell of a secret that other users of this machine can read, where modes mean that."""
    if os.name == "posix" and path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        log.warning("key_readable", file=str(path), problem="others can read it; chmod 600 it")
