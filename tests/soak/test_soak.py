"""Instruments come and go, one stays, others look on, and the daemon is killed all the time."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.soak import MAX_GROWTH_BYTES, MAX_MORE_HANDLES_COUNT, Curve, Soak


def test_memory_and_handles_stay_flat_and_no_row_is_lost(
    tmp_path: Path,
    soak_seconds: float,
    soak_rate: float,
    kill_every_s: float,
    soak_lines: list[str],
) -> None:
    soak = Soak(tmp_path / "data", soak_seconds, soak_rate, kill_every_s)
    n_rows = soak.require_every_row()
    soak_lines += soak.report(n_rows)
    soak.require_flat()
    assert soak.kills >= 1
    assert "Traceback" not in soak.log
    (_looks, read, _refusals), = soak.parts["reader"].told("count")  # fmt: skip
    assert read, "the reader is to see rows"
    (events,), = soak.parts["watcher"].told("count")  # fmt: skip
    assert events["Connected"] > 1, "the watcher is to find the daemon again"
    assert events["Progress"]


@pytest.mark.parametrize("leak", ["memory", "handles"])
def test_a_curve_that_rises_is_found(leak: str) -> None:
    curve = Curve("a leak")
    for number in range(60):
        grows = number / 20
        curve.bytes.append(int(grows * (MAX_GROWTH_BYTES + 1) if leak == "memory" else 0))
        curve.handles.append(int(grows * (MAX_MORE_HANDLES_COUNT + 1) if leak == "handles" else 0))
    with pytest.raises(AssertionError, match="a leak"):
        curve.require_flat()
