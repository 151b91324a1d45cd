"""A simulated instrument's run: every value in its place, in any order and call; faults as told."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from support.scan_double import ScanDouble
from usidstream.errors import BlockError
from usidstream.feeds import preset, run
from usidstream.feeds.faults import FAULTS, Fault, parse_fault
from usidstream.feeds.generic import GenericFeed
from usidstream.feeds.simulate import CRASH_EXIT_CODE
from usidstream.layout import Dimension, MainLayout, PositionTable, ScanLayout

TESTS = Path(__file__).resolve().parents[1]
SIZES = {"afm": (9, 7), "be": (3, 4), "raman": (6, 5), "4dstem": (4, 3), "timeseries": (10, 9, 11)}


def assert_holds(scan, feed):
    rows = np.arange(feed.layout.n_positions)
    for name, array in scan.arrays.items():
        held = scan.held[name]
        np.testing.assert_array_equal(array[held], feed.values(name, rows)[held])


@pytest.mark.parametrize("block_units", [1, 4])
@pytest.mark.parametrize("order", ["raster", "serpentine", "random"])
@pytest.mark.parametrize("name", SIZES)
def test_every_value_arrives_in_its_place(name, order, block_units):
    feed = preset(name, size=SIZES[name])
    scan = ScanDouble(feed.layout)
    summary = run(scan, feed, order=order, block_units=block_units)
    assert scan.is_complete
    assert_holds(scan, feed)
    assert summary.done == summary.total
    assert not summary.stopped


def test_one_call_a_pixel_for_all_channels():
    feed = preset("afm", size=(4, 3))
    scan = ScanDouble(feed.layout)
    run(scan, feed)
    names = tuple(main.name for main in feed.layout.mains)
    assert scan.calls == [("write", row, 0, names) for row in range(12)]


def test_serpentine_pixels_come_in_that_order():
    feed = preset("raman", size=(3, 2))
    scan = ScanDouble(feed.layout)
    run(scan, feed, order="serpentine")
    assert [call[1] for call in scan.calls] == [0, 1, 2, 5, 4, 3]


def test_blocks_are_rows_in_a_run_and_scattered_rows_otherwise():
    feed = preset("raman", size=(4, 2))
    scan = ScanDouble(feed.layout)
    run(scan, feed, order="serpentine", block_units=4)
    assert [call[:2] for call in scan.calls] == [("write_block", 0), ("write_at", [7, 6, 5, 4])]


def test_images_come_as_columns():
    feed = preset("timeseries", size=(5, 4, 6))
    scan = ScanDouble(feed.layout)
    run(scan, feed)
    assert scan.calls == [("write_block", 0, t, (20, 1)) for t in range(6)]


def test_mains_by_rows_and_by_columns_in_one_scan():
    mains = [
        MainLayout(
            "Images", "I", "", "uint16", spectroscopic=[Dimension("T", "s", 5)], order="columns"
        ),
        MainLayout("Spectra", "S", "", "float32", spectroscopic=[Dimension("E", "eV", 3)]),
    ]
    feed = GenericFeed(ScanLayout(positions=[Dimension("X", "m", 6)], mains=mains))
    scan = ScanDouble(feed.layout)
    summary = run(scan, feed)
    assert scan.is_complete
    assert_holds(scan, feed)
    assert summary.total == 6 + 5


def test_positions_that_are_no_grid():
    table = PositionTable(["X", "Y"], ["m", "m"], np.random.default_rng(1).random((11, 2)))
    main = MainLayout("Raw", "Current", "A", "float32", spectroscopic=[Dimension("V", "V", 4)])
    feed = GenericFeed(ScanLayout(positions=table, mains=[main]))
    scan = ScanDouble(feed.layout)
    run(scan, feed, order="serpentine")
    assert scan.is_complete
    assert_holds(scan, feed)


def test_a_scan_larger_than_a_batch():
    feed = preset("be", size=(30, 6))  # 12 KiB a pixel
    scan = ScanDouble(feed.layout)
    run(scan, feed, block_units=50)
    assert scan.is_complete
    assert_holds(scan, feed)


def test_progress_ends_at_the_total():
    told = []
    run_small(progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (12, 12)
    assert [done for done, _ in told] == sorted(done for done, _ in told)


def test_stop_ends_the_run_early():
    stop = threading.Event()
    feed = preset("raman", size=(4, 3))
    scan = ScanDouble(feed.layout)
    take = scan.write

    def write(row, spectrum, **more):
        take(row, spectrum, **more)
        if row == 4:
            stop.set()

    scan.write = write
    summary = run(scan, feed, stop=stop)
    assert (summary.done, summary.stopped) == (5, True)


def test_a_set_stop_also_ends_a_wait():
    stop = threading.Event()
    threading.Timer(0.05, stop.set).start()
    assert run_small(rate_per_s=0.001, stop=stop)[1].stopped


def run_small(faults=(), seed=0, **more):
    feed = preset("raman", size=(4, 3))
    scan = ScanDouble(feed.layout)
    summary = run(scan, feed, faults=[parse_fault(text) for text in faults], seed=seed, **more)
    assert_holds(scan, feed)
    return scan, summary


def test_drop():
    scan, summary = run_small(["drop=0.5"])
    missing = int((~scan.held["Raw_Data"][:, 0]).sum())
    assert 0 < missing < 12
    assert summary.faults["drop"] == missing


def test_all_dropped():
    scan, _ = run_small(["drop=1"])
    assert scan.calls == []


def test_faults_hit_the_same_pixels_in_any_order():
    held = [
        run_small(["drop=0.5"], order=order)[0].held["Raw_Data"] for order in ("raster", "random")
    ]
    np.testing.assert_array_equal(*held)
    other = run_small(["drop=0.5"], seed=1)[0].held["Raw_Data"]
    assert not np.array_equal(held[0], other)


@pytest.mark.parametrize("block_units", [1, 3])
@pytest.mark.parametrize(
    ("fault", "code"), [("duplicate=1", "already_covered"), ("stray=1", "out_of_bounds")]
)
@pytest.mark.parametrize("is_prompt", [False, True])
def test_refused_writes_are_expected_and_counted(fault, code, block_units, is_prompt):
    feed = preset("raman", size=(4, 3))
    scan = ScanDouble(feed.layout, is_prompt=is_prompt)
    summary = run(
        scan, feed, faults=[parse_fault(fault)], block_units=block_units, order="serpentine"
    )
    assert_holds(scan, feed)
    assert scan.is_complete
    made = 12 if block_units == 1 else 4
    assert summary.refused == {code: made}
    assert summary.faults[fault.split("=")[0]] == made


def test_other_refusals_are_not_swallowed():
    feed = preset("raman", size=(4, 3))
    scan = ScanDouble(feed.layout)
    scan.held["Raw_Data"][3, 0] = True
    with pytest.raises(BlockError) as caught:
        run(scan, feed, faults=[Fault("stray", 0.3)])
    assert caught.value.code == "already_covered"


def test_corrupt_asks_the_scan():
    scan, summary = run_small(["corrupt=1"])
    assert scan.corrupted == summary.faults["corrupt"] == 12
    with pytest.raises(ValueError, match="corrupt_next_block"):
        run(object(), preset("raman", size=(2, 2)), faults=[Fault("corrupt", 1)])


def test_stall_pauses_and_goes_on():
    scan, summary = run_small(["stall=0.01"])
    assert scan.is_complete
    assert summary.faults["stall"] == 1


def test_abort():
    scan, summary = run_small(["abort=5"])
    assert scan.aborted
    assert summary.stopped
    assert len(scan.calls) == summary.done == 5


def test_crash_ends_the_process_at_once():
    script = """
from support.scan_double import ScanDouble
from usidstream.feeds import preset, run
from usidstream.feeds.faults import Fault
feed = preset("raman", size=(4, 3))
scan = ScanDouble(feed.layout)
try:
    run(scan, feed, faults=[Fault("crash", 5)], progress=lambda done, total: print(done,
    flush=True))
finally:
    print("no clean-up happens", flush=True)
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=os.environ | {"PYTHONPATH": str(TESTS)},
    )
    assert done.returncode == CRASH_EXIT_CODE, done.stderr
    assert "no clean-up" not in done.stdout


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("drop=0.25", Fault("drop", 0.25)),
        ("crash=500", Fault("crash", 500)),
        ("stall=2.5", Fault("stall", 2.5)),
    ],
)
def test_fault_switches(text, fault):
    assert parse_fault(text) == fault


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dorp=0.1", "did you mean 'drop'"),
        ("xyz=1", "use one of drop"),
        ("drop", "fraction"),
        ("drop=x", "fraction"),
        ("drop=1.5", "fraction"),
        ("drop=-1", "fraction"),
        ("drop=nan", "fraction"),
        ("crash=0.5", "count"),
        ("crash=inf", "count"),
        ("stall=-1", "seconds"),
    ],
)
def test_bad_fault_switches(text, message):
    with pytest.raises(ValueError, match=message):
        parse_fault(text)


def test_every_fault_is_described():
    for kind, spec in FAULTS.items():
        assert spec.meaning
        assert parse_fault(f"{kind}=1") == Fault(kind, 1)
