"""A directory of keys as an operator makes it, and what each client of it says to `connect`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from usidstreamd.security import create_keys


class Keys:
    """The daemon's keys, and those of some clients that it admits."""

    def __init__(self, directory: Path, *clients: str) -> None:
        self.directory = directory
        list(create_keys(directory, clients))

    @property
    def server_key_file(self) -> Path:
        return self.directory / "server.key_secret"

    @property
    def listed(self) -> Path:
        return self.directory / "clients"

    def of(self, client: str) -> dict[str, Any]:
        """What this client gives to `connect`, and as options to the commands."""
        return {
            "server_key": self.directory / "server.key",
            "key_file": self.directory / f"{client}.key_secret",
        }
