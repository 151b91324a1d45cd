"""Which file system a directory is on, for what a test found there is true of that one."""

from __future__ import annotations

from pathlib import Path

MOUNTS = Path("/proc/mounts")
IN_MEMORY = frozenset({"tmpfs", "ramfs"})


def describe_file_system(directory: Path) -> str:
    """Return kind and device of a directory's file system, and whether it keeps anything."""
    if not MOUNTS.exists():
        return f"unknown ({directory})"
    found = ("", "unknown", "")
    for line in MOUNTS.read_text().splitlines():
        device, mount, kind = line.split()[:3]
        mount = mount.encode().decode("unicode_escape")  # blanks are written \040
        if directory.resolve().is_relative_to(mount) and len(mount) >= len(found[0]):
            found = (mount, kind, device)
    mount, kind, device = found
    promise = ": in memory, so nothing of this run says anything about durability"
    return f"{kind} on {device} ({mount}){promise if kind in IN_MEMORY else ''}"
