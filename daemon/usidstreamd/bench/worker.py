"""What a worker process does: one role, chosen by the JSON object in its first argument."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType
from typing import Any

ROLES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "feed": ("feed", "run_feed"),
        "sink": ("sink", "run_sink"),
        "codec": ("limits", "run_codec"),
        "memory": ("limits", "run_memory"),
        "disk": ("limits", "run_disk"),
        "read": ("reading", "run_read"),
        "reference file": ("reading", "run_reference_file"),
    }
)
"""Module and function of each role: a process imports no more than it needs, as an instrument's
program would not."""


def main() -> None:
    """Do what the first argument says."""
    spec = json.loads(sys.argv[1])
    module, function = ROLES[spec.pop("role")]
    getattr(import_module(f"usidstreamd.bench.{module}"), function)(spec, tell, wait)


def tell(event: str, **more: Any) -> None:
    """Print one line for whoever started this process."""
    sys.stdout.write(json.dumps({"event": event, **more}) + "\n")
    sys.stdout.flush()


def wait() -> None:
    """Wait for the word to begin."""
    sys.stdin.readline()
