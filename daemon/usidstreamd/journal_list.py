"""What stands beside files, as ``usidstreamd journals`` tells it. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from .storage import KINDS, Remainder, Removal

_UNITS = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"))


def as_plain(remainders: Sequence[Remainder], removals: Sequence[Removal]) -> dict[str, Any]:
    """Return it as plain values, for JSON."""
    return {
        "remainders": [remainder.to_dict() for remainder in remainders],
        "removed": [removal.path for removal in removals if not removal.kept_for],
        "kept": {removal.path: removal.kept_for for removal in removals if removal.kept_for},
    }


def in_lines(
    directory: Path, remainders: Sequence[Remainder], removals: Sequence[Removal]
) -> Iterator[str]:
    """Yield it in lines: what was removed, what was kept and why, and what stands there."""
    for removal in removals:
        name = Path(removal.path).name
        yield f"{name}: KEPT: {removal.kept_for}" if removal.kept_for else f"{name}: removed"
    for remainder in remainders:
        yield f"{Path(remainder.path).name}: {remainder.kind}: {KINDS[remainder.kind]}"
        scan = f"scan {remainder.scan}, " if remainder.scan else ""
        yield f"  {scan}{_age(remainder.age_s)} old, {remainder.nbytes / (1 << 20):.1f} MiB"
        yield f"  needs {remainder.needs}"
    if not remainders:
        yield f"{directory}: nothing stands beside the files"


def _age(seconds: float) -> str:
    for size, unit in _UNITS:
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
