"""How a scan stands in numbers, and what is told of its end."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from support.sessions import Stage
from usidstream import wire
from usidstream.errors import UsidstreamError
from usidstreamd.pipeline import Measures
from usidstreamd.session import State
from usidstreamd.storage import FinishedResult
from usidstreamd.telemetry.standing import Standing, closed


def scan_of(*counts: int, **changed: Any) -> Any:
    """Return a scan that is looked at once for each count of its positions."""
    session = Stage().session
    row_nbytes = session.layout.mains[0].row_nbytes
    looks = iter(Measures(count, {"Raw": 2}, row_nbytes * count) for count in counts)
    fields = {
        "scan_id": session.scan_id,
        "session": session,
        "recoveries": 1,
        "opened_s": 0.0,
        "opening": Measures(0, {}, 0),
        "result": None,
        "measure": lambda: next(looks),
    }
    return SimpleNamespace(**(fields | changed))


def test_rates_are_since_the_opening_at_first() -> None:
    scan = scan_of(2, 4)
    standing = Standing(scan)
    standing.see(2.0)
    numbers = standing.numbers(2.0)
    layout = scan.session.layout
    assert (numbers["rate_per_s"], numbers["bytes_per_s"]) == (1.0, layout.mains[0].row_nbytes)
    assert numbers["left_s"] == layout.n_positions - 2
    assert numbers["received_bytes"] == 2 * layout.mains[0].row_nbytes
    assert numbers["total_bytes"] == layout.nbytes
    assert numbers["missing"] == {"Raw": 2}
    assert numbers["recoveries"] == 1


def test_a_scan_that_stands_still_has_no_time_left_to_tell() -> None:
    standing = Standing(scan_of(0))
    standing.see(5.0)
    assert standing.numbers(5.0)["left_s"] is None
    whole = scan_of()
    whole.measure = lambda: Measures(whole.session.layout.n_positions, {}, 0)
    standing = Standing(whole)
    standing.see(5.0)
    assert standing.numbers(5.0)["left_s"] == 0.0


def test_the_time_left_goes_by_bytes_where_no_position_becomes_complete() -> None:
    scan = scan_of()
    total = scan.session.layout.nbytes
    looks = iter([Measures(0, {}, total // 4), Measures(0, {}, total // 2), Measures(1, {}, total)])
    scan.measure = lambda: next(looks)
    standing = Standing(scan)
    told = []
    for now in (1.0, 2.0, 3.0):
        standing.see(now)
        told.append(standing.numbers(now))
    assert [numbers["left_s"] for numbers in told] == [3.0, 2.0, 0.0]
    assert [numbers["rate_per_s"] for numbers in told[:2]] == [0.0, 0.0]


def test_a_scan_that_is_not_open_yet_has_no_numbers() -> None:
    scan = scan_of(opening=None, measure=lambda: None)
    standing = Standing(scan)
    standing.see(1.0)
    progress = standing.progress(1.0)
    assert (progress.positions_received, progress.rate_per_s, progress.left_s) == (0, 0.0, None)
    assert wire.decode_telemetry(wire.encode_telemetry("scan/", progress))[1] == progress


def test_an_end_tells_the_first_ranges_and_the_whole_count() -> None:
    ranges = [(2 * i, 2 * i + 1) for i in range(wire.MAX_TOLD_RANGES_COUNT + 50)]
    scan = scan_of(result=FinishedResult("/f.h5", "incomplete", {"Raw": ranges}))
    scan.session.state = State.ENDED
    told = closed(scan)
    assert (told.state, told.status) == ("ended", "incomplete")
    assert told.missing == {"Raw": len(ranges)}
    first = wire.unpack_ranges(told.ranges["Raw"], told.frames, 2)
    assert first == ranges[: wire.MAX_TOLD_RANGES_COUNT]


@pytest.mark.parametrize("state", [State.FAILED, State.SUSPENDED, State.INTERRUPTED])
def test_a_scan_that_has_not_ended_has_no_result(state: State) -> None:
    result = FinishedResult("/f.h5", "interrupted", {"Raw": [(0, 1)]})
    scan = scan_of(result=result)
    scan.session.state = state
    scan.session.failure = UsidstreamError("the disk died", code="storage_failed")
    told = closed(scan)
    assert (told.state, told.status, told.missing) == (state.value, "", {})
    assert "the disk died" in told.failure
