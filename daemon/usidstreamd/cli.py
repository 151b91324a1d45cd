"""The ``usidstreamd`` command. The commands themselves need the daemon extra; this says so."""

from __future__ import annotations

import os
import sys

from .allocator import start_anew, touch_working_memory

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
    # NumPy would start a thread a core, with memory for each, to multiply matrices: there are none.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    if "serve" in sys.argv[1:2] and start_anew():
        touch_working_memory()
    try:
        from .commands import run
    except ModuleNotFoundError as error:
        if error.name not in _EXTRA_PACKAGES:
            raise
        print(f"usidstreamd needs {error.name}: pip install 'usidstream[daemon]'", file=sys.stderr)
        sys.exit(2)
    sys.exit(run())
