"""How often the disk is looked at: the sooner it could be full, the sooner again."""

from __future__ import annotations

from pathlib import Path

import pytest

from usidstreamd import disk as disk_module
from usidstreamd.disk import LONGEST_POLL_INTERVAL_S, SPACE_POLL_INTERVAL_S, Disk
from usidstreamd.storage import StorageError

NOW = 100.0
GIB = 1 << 30
RESERVE_BYTES = GIB


def looked_at(monkeypatch: pytest.MonkeyPatch, free_bytes: int) -> Disk:
    """Return a disk that had so much room at `NOW`."""
    monkeypatch.setattr(disk_module.storage, "free_bytes", lambda _path: free_bytes)
    disk = Disk(Path(), RESERVE_BYTES)
    disk.look(NOW, 0)
    return disk


def test_a_disk_with_much_room_is_looked_at_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    disk = looked_at(monkeypatch, RESERVE_BYTES + 50 * GIB)
    assert not disk.is_due(NOW + 0.9 * LONGEST_POLL_INTERVAL_S)
    assert disk.is_due(NOW + LONGEST_POLL_INTERVAL_S)


def test_a_disk_that_could_soon_be_full_is_looked_at_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    disk = looked_at(monkeypatch, RESERVE_BYTES + GIB // 20)
    assert not disk.is_due(NOW + 0.045)
    assert disk.is_due(NOW + 0.0501)


@pytest.mark.parametrize("spare_bytes", [0, -GIB, GIB // 100])
def test_a_disk_that_is_nearly_full_is_looked_at_often(
    monkeypatch: pytest.MonkeyPatch, spare_bytes: int
) -> None:
    disk = looked_at(monkeypatch, RESERVE_BYTES + spare_bytes)
    assert not disk.is_due(NOW + 0.9 * SPACE_POLL_INTERVAL_S)
    assert disk.is_due(NOW + SPACE_POLL_INTERVAL_S)


def test_a_disk_that_cannot_be_looked_at_is_looked_at_often(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(_path: Path) -> int:
        raise StorageError("gone", code="storage_failed")

    monkeypatch.setattr(disk_module.storage, "free_bytes", fail)
    disk = Disk(Path(), RESERVE_BYTES)
    disk.look(NOW, 0)
    assert disk.shortage is not None
    assert disk.is_due(NOW + SPACE_POLL_INTERVAL_S)
