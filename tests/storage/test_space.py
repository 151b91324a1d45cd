"""When space is short, and when it is back."""

from pathlib import Path

import pytest

from usidstreamd.storage import StorageError
from usidstreamd.storage.space import CHUNKS_KEEP_FREE_BYTES, SpaceWatch, free_bytes, require_room

MIB = 1 << 20
RESERVE = 80 * MIB


def test_below_the_reserve_space_is_short_and_a_little_above_it_still_is():
    watch = SpaceWatch(Path("/data"), RESERVE)
    assert not watch.look(RESERVE, 0)
    assert watch.look(RESERVE - 1, 0)
    assert watch.is_short
    assert not watch.look(RESERVE - 2, 0)
    assert not watch.look(RESERVE + RESERVE // 8 - 1, 0)
    assert watch.look(RESERVE + RESERVE // 8, 0)
    assert not watch.is_short
    assert not watch.look(RESERVE, 0)


def test_what_was_promised_counts_where_it_is_more_than_the_reserve():
    watch = SpaceWatch(Path("/data"), RESERVE)
    promised = RESERVE
    assert not watch.look(promised + CHUNKS_KEEP_FREE_BYTES, promised)
    assert watch.look(promised + CHUNKS_KEEP_FREE_BYTES - 1, promised)
    assert watch.needed_bytes == promised + CHUNKS_KEEP_FREE_BYTES
    assert watch.look(RESERVE + RESERVE // 8, 0)


def test_the_error_tells_where_how_much_and_what_to_do():
    watch = SpaceWatch(Path("/data"), RESERVE)
    watch.look(3 * MIB, 0)
    error = watch.error()
    assert (error.code, error.retryable, error.fatal) == ("no_space", True, False)
    assert "only 3 MiB are free on the disk of /data, 80 MiB are needed" in error.message
    assert "/data" in error.hint
    assert (error.details["free_bytes"], error.details["needed_bytes"]) == (3 * MIB, RESERVE)


def test_a_disk_that_is_not_there_is_told(tmp_path):
    with pytest.raises(StorageError, match="look at the disk of") as caught:
        free_bytes(tmp_path / "gone")
    assert caught.value.code == "storage_failed"


def test_there_is_room_as_long_as_the_rest_stays_free(tmp_path):
    free = free_bytes(tmp_path)
    require_room(tmp_path, 0, free // 2)
    with pytest.raises(StorageError) as caught:
        require_room(tmp_path, 1, 2 * free)
    assert caught.value.code == "no_space"
