"""Each contestant is given all of a workload's data, writes it right, and is measured in whole."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from usidstream.layout import ScanLayout
from usidstreamd.bench import contestants
from usidstreamd.bench.figures import STAGES, BenchError
from usidstreamd.bench.processes import working
from usidstreamd.bench.workloads import WORKLOADS, Workload

SIZES = {"spectra": 0.002, "spectra-blocks": 0.002, "stem": 0.01, "timeseries": 0.03}
SMALL_SCALE = 0.0005


def order_of(work: Workload) -> dict[str, Any]:
    return {"workload": work.name, "scale": SIZES.get(work.name, SMALL_SCALE)}


def wanted(work: Workload) -> Iterator[tuple[str, np.ndarray]]:
    units = work.units_at(order_of(work)["scale"])
    layout, data = work.make_layout(units), work.make_data(units)
    for main in layout.mains:
        table = np.asarray(data[main.name], main.np_dtype)
        yield main.name, table.T if main.order == "columns" else table.reshape(units, -1)


class RecordedScan:
    """Takes writes as a client's scan does."""

    def __init__(self, layout: ScanLayout) -> None:
        self.mains = {m.name: np.zeros(layout.shape(m.name), m.np_dtype) for m in layout.mains}
        self.times = {name: np.zeros(table.shape, int) for name, table in self.mains.items()}
        self.calls = 0

    def write(self, row: int, spectrum: Any, main: str | None = None) -> None:
        self.calls += 1
        spectra = spectrum if isinstance(spectrum, dict) else {main: spectrum}
        for name, values in spectra.items():
            key = name or next(iter(self.mains))
            self.mains[key][row] = values
            self.times[key][row] += 1

    def write_block(self, row: int, block: Any, col: int = 0, main: str | None = None) -> None:
        self.calls += 1
        key = main or next(iter(self.mains))
        rows, cols = block.shape
        self.mains[key][row : row + rows, col : col + cols] = block
        self.times[key][row : row + rows, col : col + cols] += 1


@pytest.mark.parametrize("work", WORKLOADS.values(), ids=WORKLOADS)
def test_a_workload_sends_every_element_once(work: Workload) -> None:
    units = work.units_at(order_of(work)["scale"])
    scan, data = RecordedScan(work.make_layout(units)), work.make_data(units)
    half = units // 2 // work.call_units * work.call_units
    for part in (slice(0, half), slice(half, units)):
        work.write(scan, data, part, part.start)
    for name, table in wanted(work):
        np.testing.assert_array_equal(scan.mains[name], table)
        assert (scan.times[name] == 1).all()
    calls_a_unit = 4 if work.name == "afm" else 1 / work.call_units
    assert scan.calls == pytest.approx(units * calls_a_unit, abs=1)


def test_the_sizes_are_those_that_figures_are_told_for() -> None:
    shapes = {
        name: [work.make_layout(work.units).shape(m.name) for m in work.make_layout(1).mains]
        for name, work in WORKLOADS.items()
    }
    assert shapes == {
        "spectra": [(65536, 256)],
        "spectra-blocks": [(65536, 256)],
        "stem": [(512, 65536)],
        "afm": [(1 << 20, 1)] * 4,
        "afm-one-call": [(1 << 20, 1)] * 4,
        "timeseries": [(512 * 512, 128)],
    }


@pytest.mark.parametrize("name", ["spectra", "stem", "afm", "timeseries"])
def test_the_loop_writes_all_of_it(name: str, tmp_path: Path) -> None:
    work = WORKLOADS[name]
    measured = contestants.run_reference(tmp_path, "loop", "loop", **order_of(work))
    with h5py.File(measured.file) as file:
        for main, table in wanted(work):
            np.testing.assert_array_equal(file[main][...], table)
            assert file[main].compression_opts == 4
            assert not file[main].shuffle
    assert measured.run.units == work.units_at(order_of(work)["scale"])
    assert measured.run.is_whole
    assert measured.run.file_bytes == measured.file.stat().st_size


@pytest.mark.parametrize("name", ["spectra-blocks", "stem"])
def test_h5py_blocks_write_all_of_it(name: str, tmp_path: Path) -> None:
    work = WORKLOADS[name]
    measured = contestants.run_reference(tmp_path, "blocks", "blocks", **order_of(work))
    with h5py.File(measured.file) as file:
        for main, table in wanted(work):
            np.testing.assert_array_equal(file[main][...], table)
            assert file[main].shuffle
            assert file[main].chunks[1] == table.shape[1]


def test_a_stretch_sends_a_first_part_of_the_whole_shape(tmp_path: Path) -> None:
    measured = contestants.run_reference(
        tmp_path, "loop", "loop", stretch_units=32, workload="stem", scale=0.5
    )
    run = measured.run
    assert not run.is_whole
    assert run.units == 32
    assert run.nbytes == run.units * 131072
    with h5py.File(measured.file) as file:
        assert file["Raw_Data"].shape == (256, 65536)
        assert file["Raw_Data"][run.units - 1].any()
        assert not file["Raw_Data"][run.units].any()


def test_the_daemon_is_measured_in_whole(tmp_path: Path) -> None:
    work = WORKLOADS["spectra-blocks"]
    measured = contestants.run_daemon(
        tmp_path, "daemon", {"commit_interval_s": 0.03}, with_latency=True, **order_of(work)
    )
    run = measured.run
    with h5py.File(measured.file) as file:
        (_, table), *_ = wanted(work)
        np.testing.assert_array_equal(file["Measurement_000/Raw_Data"][...], table)
    assert run.units == 131
    assert run.nbytes == 131 * 1024
    assert 0 < run.write_seconds < run.seconds
    assert measured.latency is not None
    assert measured.latency["calls"] == 3
    assert 0 < measured.latency["p50_s"] <= measured.latency["p99_s"] <= run.seconds
    if run.total_cpu_s is not None:
        assert set(run.cpu_s) == set(STAGES)
        assert run.total_cpu_s == pytest.approx(sum(run.cpu_s.values()))
        assert run.cpu_s["ingest"] > 0
        assert (run.peak_bytes or 0) > 10 << 20


def test_a_process_that_dies_is_told_with_its_reason(tmp_path: Path) -> None:
    with (
        working("read", file=str(tmp_path / "nowhere.h5")) as reader,
        pytest.raises(BenchError, match=r"read ended early.*nowhere\.h5"),
    ):
        reader.expect("done")
