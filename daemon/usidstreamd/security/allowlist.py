"""The clients that are admitted: which key belongs to which name.

The list is a directory of public keys, ``NAME.key`` each. Where it is read anew while the daemon
runs, a file that cannot be read changes nothing for its client: a slip of the hand in mid-scan
throws nobody out. A file that is gone does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from usidstream.errors import UsidstreamError, error_for
from usidstream.keys import read_key_file

from .keygen import PUBLIC_SUFFIX, is_client_name

MAX_CLIENT_KEYS_COUNT = 10_000


@dataclass(frozen=True, slots=True)
class AllowList:
    """The names of admitted clients, by their public keys.

    Parameters
    ----------
    names
        Names by public keys of 40 characters.
    faults
        What is wrong with files that should be keys, by the client's name.
    """

    names: Mapping[str, str] = field(default_factory=dict)
    faults: Mapping[str, str] = field(default_factory=dict)

    def after(self, former: AllowList) -> AllowList:
        """Return this list with the former keys of those whose files cannot be read now."""
        kept = {key: name for key, name in former.names.items() if name in self.faults}
        return AllowList(kept | dict(self.names), self.faults)


def read_allow_list(directory: Path) -> AllowList:
    """Read the admitted clients' keys.

    Raises
    ------
    UsidstreamError
        ``bad_keys``: the directory cannot be read.
    """
    try:
        files = sorted(directory.glob("*" + PUBLIC_SUFFIX)) if directory.is_dir() else None
    except OSError as error:
        raise _unreadable(directory, error.strerror or "") from error
    if files is None:
        raise _unreadable(directory, "no such directory")
    if len(files) > MAX_CLIENT_KEYS_COUNT:
        raise _unreadable(directory, f"more than {MAX_CLIENT_KEYS_COUNT} keys")
    names: dict[str, str] = {}
    faults: dict[str, str] = {}
    for path in files:
        try:
            key = _read(path)
        except UsidstreamError as error:
            faults[path.stem] = error.message
            continue
        if key in names:
            faults[path.stem] = f"{path} is the key of {names[key]} too"
        else:
            names[key] = path.stem
    return AllowList(names, faults)


def _read(path: Path) -> str:
    if not is_client_name(path.stem):
        raise error_for("bad_keys", f"{path} is not named as a client can be")
    return read_key_file(path).public


def _unreadable(directory: Path, problem: str) -> UsidstreamError:
    return error_for(
        "bad_keys",
        f"the clients' keys in {directory} cannot be read: {problem}",
        hint="usidstreamd keygen DIR --client NAME makes DIR/clients with a first key.",
    )
