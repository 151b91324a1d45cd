"""What a worker process does: one role, chosen by the JSON object in its first argument."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from .feed import run_feed
from .limits import run_codec, run_disk, run_memory
from .reading import run_read, run_reference_file
from .sink import run_sink

Tell = Callable[..., None]

ROLES: Mapping[str, Callable[[dict[str, Any], Tell, Callable[[], None]], None]] = MappingProxyType(
    {
        "feed": run_feed,
        "sink": run_sink,
        "codec": run_codec,
        "memory": run_memory,
        "disk": run_disk,
        "read": run_read,
        "reference file": run_reference_file,
    }
)


def main() -> None:
    """Do what the first argument says."""
    spec = json.loads(sys.argv[1])
    ROLES[spec.pop("role")](spec, tell, wait)


def tell(event: str, **more: Any) -> None:
    """Print one line for whoever started this process."""
    sys.stdout.write(json.dumps({"event": event, **more}) + "\n")
    sys.stdout.flush()


def wait() -> None:
    """Wait for the word to begin."""
    sys.stdin.readline()
