"""The ``usidstreamd`` command. The commands themselves need the daemon extra; this says so."""

from __future__ import annotations

import sys

_EXTRA_PACKAGES = (
    "typer",
    "rich",
    "h5py",
    "pydantic",
    "platformdirs",
    "filelock",
    "structlog",
    "prometheus_client",
)


def main() -> None:
    """Run ``usidstreamd``; exit with 0 done, 1 a fault found, 2 wrong use."""
    try:
        from .commands import run
    except ModuleNotFoundError as error:
        if error.name not in _EXTRA_PACKAGES:
            raise
        print(f"usidstreamd needs {error.name}: pip install 'usidstream[daemon]'", file=sys.stderr)
        sys.exit(2)
    sys.exit(run())
