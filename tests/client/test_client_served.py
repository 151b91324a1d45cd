"""The real client and a real daemon, with a proxy between them that cuts, delays and swallows."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from support.daemon import Daemon, wait_for
from support.proxy import Proxy
from usidstream import Dimension, MainLayout, ScanLayout, connect
from usidstream.delivery import link
from usidstream.errors import BlockError, DeliveryError

N_X, N_Y, N_COLS = 32, 16, 24
N = N_X * N_Y
SCRIPT_TIMEOUT_S = 60.0


def make_main(name: str = "Raw", dtype: Any = "float32", n_cols: int = N_COLS) -> MainLayout:
    return MainLayout(
        name=name,
        quantity="Current",
        units="nA",
        dtype=dtype,
        spectroscopic=[Dimension("Bias", "V", n_cols)],
    )


def make_layout(*mains: MainLayout) -> ScanLayout:
    positions = [Dimension("X", "um", N_X), Dimension("Y", "um", N_Y)]
    return ScanLayout(positions=positions, mains=list(mains) or [make_main()])


def make_data(layout: ScanLayout, main: str = "Raw", seed: int = 0) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(seed)
    return (rng.random(layout.shape(main)) * 250).astype(layout.main(main).np_dtype)


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    folder = tmp_path_factory.mktemp("client")
    with Daemon(
        folder / "data", flush_interval_s=0.2, credit_window_mb=1, max_block_mb=1
    ) as daemon:
        yield daemon
    assert "Traceback" not in daemon.log


@pytest.fixture
def proxy(daemon: Daemon) -> Iterator[Proxy]:
    with Proxy(daemon.endpoint) as proxy:
        yield proxy


def read(file: str, path: str = "Measurement_000/Raw") -> np.ndarray[Any, Any]:
    with h5py.File(file, "r") as h5_file:
        data: np.ndarray[Any, Any] = h5_file[path][...]
    return data


# -------------------------------------------------------------------- bad connections


def test_cut_connections_cost_only_time(proxy: Proxy) -> None:
    layout = make_layout()
    data = make_data(layout)
    with connect(proxy.endpoint) as client, client.open_scan(layout) as scan:
        for row in range(N):
            scan.write(row, data[row])
            if row % 100 == 50:
                if row > 200:
                    wait_for(lambda: scan.durable > 0, "something durable")
                proxy.cut()
    assert proxy.connections >= 3
    assert (scan.result.status, scan.skipped) == ("complete", 0)
    np.testing.assert_array_equal(read(scan.result.file), data)


def test_a_cut_while_waiting_for_the_end_is_not_noticed(proxy: Proxy) -> None:
    layout = make_layout()
    data = make_data(layout)
    cutter = threading.Thread(target=lambda: (stop.wait(0.03), proxy.cut()))
    stop = threading.Event()
    with connect(proxy.endpoint) as client:
        scan = client.open_scan(layout)
        scan.write_block(0, data)
        cutter.start()
        assert scan.finish().status == "complete"
        cutter.join()
    np.testing.assert_array_equal(read(scan.result.file), data)


def test_a_slow_line_is_slow_and_nothing_else(proxy: Proxy) -> None:
    layout = make_layout()
    data = make_data(layout)
    proxy.delay_s = 0.01
    with connect(proxy.endpoint, timeout_s=20) as client, client.open_scan(layout) as scan:
        for row in range(N):
            scan.write(row, data[row])
    assert (scan.result.status, proxy.connections) == ("complete", 1)
    np.testing.assert_array_equal(read(scan.result.file), data)


def test_a_half_open_connection_is_given_up_by_its_silence(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "DEAD_AFTER_S", 0.6)
    monkeypatch.setattr(link, "HEARTBEAT_INTERVAL_S", 0.1)
    layout = make_layout()
    data = make_data(layout)
    with connect(proxy.endpoint) as client, client.open_scan(layout) as scan:
        scan.write_block(0, data[:100])
        scan.wait_durable(timeout_s=20)
        proxy.swallow()
        scan.write_block(100, data[100:])
        scan.wait_durable(timeout_s=20)
        assert proxy.connections == 2
    np.testing.assert_array_equal(read(scan.result.file), data)


def test_a_joiner_may_be_cut_off_too(daemon: Daemon, proxy: Proxy) -> None:
    layout = make_layout(make_main("A"), make_main("B"))
    data = {name: make_data(layout, name) for name in "AB"}
    with connect(daemon.endpoint) as first, first.open_scan(layout) as scan:
        with connect(proxy.endpoint) as second, second.join_scan(scan.scan_id) as joined:
            joined.write_block(0, data["B"][:100], main="B")
            joined.wait_durable(timeout_s=20)
            proxy.cut()
            joined.write_block(100, data["B"][100:], main="B")
        assert (joined.result.status, proxy.connections) == ("acquiring", 2)
        scan.write_block(0, data["A"], main="A")
    assert scan.result.status == "complete"
    np.testing.assert_array_equal(
        read(scan.result.file, "Measurement_000/Channel_001/B"), data["B"]
    )


def test_two_clients_with_one_id_the_earlier_is_superseded_for_good(daemon: Daemon) -> None:
    layout = make_layout()
    data = make_data(layout)
    with connect(daemon.endpoint) as first, connect(daemon.endpoint) as second:
        old = first.open_scan(layout)
        old.write_block(0, data[:10])
        old.wait_durable(timeout_s=20)
        new = second.open_scan(layout, scan_id=old.scan_id)
        wait_for(lambda: old._channel.delivery.failure is not None, "the news")
        calls = [
            lambda: old.write(11, data[11]),
            lambda: old.write_block(11, data[11:13]),
            lambda: old.wait_durable(timeout_s=20),
            old.finish,
            old.abort,
            lambda: old.write(12, data[12]),
        ]
        for call in calls:
            with pytest.raises(DeliveryError) as caught:
                call()
            assert caught.value.code == "superseded"
        with new:
            new.write_block(0, data[:10])
            new.write_block(10, data[10:])
        assert (new.result.status, new.skipped) == ("complete", 10)


# -------------------------------------------------------------------- ends of clients


def test_close_with_an_open_scan_leaves_it_durable_and_resumable(daemon: Daemon) -> None:
    layout = make_layout()
    data = make_data(layout)
    with connect(daemon.endpoint) as client:
        scan = client.open_scan(layout)
        for row in range(20):
            scan.write(row, data[row])
    with pytest.raises(DeliveryError) as caught:
        scan.write(20, data[20])
    assert caught.value.code == "closed"
    with connect(daemon.endpoint) as client:
        with client.open_scan(layout, scan_id=scan.scan_id) as scan:
            for row in range(N):
                scan.write(row, data[row])
        assert (scan.result.status, scan.skipped) == ("complete", 20)


FORGETFUL = """
import sys
from usidstream import Dimension, MainLayout, ScanLayout, connect
main = MainLayout("Raw", "Current", "nA", "float32", spectroscopic=[Dimension("Bias", "V", 4)])
layout = ScanLayout(positions=[Dimension("X", "um", 8)], mains=[main])
client = connect(sys.argv[1])
scan = client.open_scan(layout, scan_id=sys.argv[2])
scan.write(3, [1, 2, 3, 4])
"""


def run_script(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        timeout=SCRIPT_TIMEOUT_S,
        check=False,
    )


def test_a_program_that_forgets_to_close_ends_and_loses_nothing(daemon: Daemon) -> None:
    scan_id = os.urandom(16).hex()
    told = run_script(FORGETFUL, daemon.endpoint, scan_id)
    assert (told.returncode, told.stdout, told.stderr) == (0, "", "")
    with connect(daemon.endpoint) as client:
        held = {entry["scan"]: entry["positions"] for entry in client.status()["scans"]}
    assert held[scan_id] == 1


def test_a_program_whose_daemon_is_gone_ends_and_says_what_it_held(tmp_path: Path) -> None:
    code = FORGETFUL.replace("scan.write(", "input(); scan.write(")
    with (
        Daemon(tmp_path / "data") as daemon,
        subprocess.Popen(
            [sys.executable, "-c", code, daemon.endpoint, "ab" * 16],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process,
    ):
        wait_for(lambda: list(daemon.data_dir.glob("*.h5")), "the scan")
        daemon.stop()
        _, err = process.communicate("\n", timeout=SCRIPT_TIMEOUT_S)
    assert process.returncode == 0
    assert f"the program ended with 16 bytes of scan {'ab' * 16} not durable" in err


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this platform")
@pytest.mark.parametrize("turns", [1, 0], ids=["between writes", "within a write"])
def test_a_forked_child_is_told_and_its_parent_goes_on(daemon: Daemon, turns: int) -> None:
    code = (
        FORGETFUL.replace("scan.write(3, [1, 2, 3, 4])", "")
        + """
import os
scan.write(0, [0, 0, 0, 0])
[lane] = scan._channel.lanes._open
lane.turn[:] = TURNS * [True]
child = os.fork()
if child == 0:
    for call in (lambda: scan.write(1, [1, 1, 1, 1]), client.status, scan.finish):
        try:
            call()
        except Exception as error:
            print(error, flush=True)
    client.close()
    os._exit(7)
lane.turn[:] = [True]
_, status = os.waitpid(child, 0)
print(os.waitstatus_to_exitcode(status))
for row in range(1, 8):
    scan.write(row, [row] * 4)
print(scan.finish().status)
client.close()
"""
    )
    code = code.replace("TURNS", str(turns))
    told = run_script(code, daemon.endpoint, os.urandom(16).hex())
    assert told.returncode == 0, told.stderr
    *child, exit_code, status = told.stdout.splitlines()
    assert len(child) == 3
    assert all("belongs to the parent process" in line for line in child)
    assert (exit_code, status) == ("7", "complete")


# -------------------------------------------------------------------- threads and sizes


def test_several_threads_write_one_scan(daemon: Daemon) -> None:
    layout = make_layout(make_main("Raw"), make_main("Wide", "uint16", 40_000))
    data = {name: make_data(layout, name) for name in ("Raw", "Wide")}
    with connect(daemon.endpoint) as client, client.open_scan(layout) as scan:

        def write_part(part: int) -> None:
            for row in range(part, N, 4):
                if part == 3:
                    scan.write_at([row], data["Raw"][[row]], main="Raw")
                    scan.write_block(row, data["Wide"][[row]], main="Wide")
                else:
                    scan.write(row, {name: values[row] for name, values in data.items()})

        threads = [threading.Thread(target=write_part, args=(part,)) for part in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert scan.result.status == "complete"
    for index, (name, values) in enumerate(data.items()):
        path = f"Measurement_000/Channel_{index:03d}/{name}"
        np.testing.assert_array_equal(read(scan.result.file, path), values)


def test_blocks_and_rows_over_every_limit_are_split_and_arrive(daemon: Daemon) -> None:
    main = make_main(dtype="uint8", n_cols=(5 << 19) + 7)  # a row of 2.5 MiB, the window is 1 MiB
    layout = ScanLayout(positions=[Dimension("X", "um", 5)], mains=[main])
    data = np.random.default_rng(1).integers(0, 200, layout.shape("Raw")).astype("u1")
    with connect(daemon.endpoint) as client, client.open_scan(layout) as scan:
        scan.write(0, data[0])
        scan.write_block(1, data[1:3])
        scan.write_at([4, 3], data[[4, 3]])
    assert scan.result.status == "complete"
    np.testing.assert_array_equal(read(scan.result.file), data)


def test_writes_of_several_mains_mix(daemon: Daemon) -> None:
    mains = [make_main("Wide"), make_main("Narrow", "int16", 1), make_main("Time", "float64", 1)]
    layout = make_layout(*mains)
    data = {main.name: make_data(layout, main.name, seed) for seed, main in enumerate(mains)}
    with connect(daemon.endpoint) as client, client.open_scan(layout) as scan:
        for row in range(100):
            scan.write(row, {name: values[row] for name, values in data.items()})
        for row in range(100, 200):  # in another order, and as plain numbers
            scan.write(row, {"Time": data["Time"][row, 0], "Wide": data["Wide"][row].tolist()})
            scan.write(row, int(data["Narrow"][row, 0]), main="Narrow")
        for name, values in data.items():
            scan.write_block(200, values[200:300], main=name)
            scan.write_at(np.arange(N - 1, 299, -1), values[:299:-1], main=name)
    assert scan.result.status == "complete"
    for index, (name, values) in enumerate(data.items()):
        path = f"Measurement_000/Channel_{index:03d}/{name}"
        np.testing.assert_array_equal(read(scan.result.file, path), values)


def test_a_pixel_of_several_mains_is_taken_whole_or_not_at_all(daemon: Daemon) -> None:
    layout = make_layout(make_main("A"), make_main("B"))
    data = {name: make_data(layout, name) for name in "AB"}
    with connect(daemon.endpoint) as client, client.open_scan(layout) as scan:
        for row in range(N):
            if row in (0, 1, 200):
                with pytest.raises(BlockError, match=f"row {row} of main 'B' takes a spectrum"):
                    scan.write(row, {"A": data["A"][row], "B": data["B"][row][:-1]})
            scan.write(row, {name: values[row] for name, values in data.items()})
    assert scan.result.status == "complete"


# -------------------------------------------------------------------- what a caller did wrong

SPECTRUM = np.zeros(N_COLS, "f4")
BLOCK = np.zeros((4, N_COLS), "f4")


@pytest.mark.parametrize(
    ("call", "code", "told"),
    [
        (lambda s: s.write(0, SPECTRUM[:-1]), "bad_shape", r"shape \(24,\), not \(23,\)"),
        (lambda s: s.write(0, BLOCK), "bad_shape", r"shape \(24,\), not \(4, 24\)"),
        (lambda s: s.write(0, 1.0), "bad_shape", r"shape \(24,\), not \(\)"),
        (lambda s: s.write(0, SPECTRUM.astype("c8")), "bad_dtype", "complex64 .* float32"),
        (lambda s: s.write(0, ["a"] * N_COLS), "bad_dtype", "stored as float32"),
        (lambda s: s.write(0, None), "bad_shape|bad_dtype", "main 'Raw'"),
        (lambda s: s.write(N, SPECTRUM), "out_of_bounds", f"which has {N} rows"),
        (lambda s: s.write(-1, SPECTRUM), "out_of_bounds", "rows -1"),
        (lambda s: s.write(1.5, SPECTRUM), "out_of_bounds", "must be an integer, not float"),
        (lambda s: s.write(True, SPECTRUM), "out_of_bounds", "must be an integer, not True"),
        (lambda s: s.write(0, SPECTRUM, main="No"), "unknown_main", "'No'; the scan has 'Raw'"),
        (lambda s: s.write(0, {}), "unknown_main", "names no main"),
        (lambda s: s.write(0, {"No": SPECTRUM}), "unknown_main", "'No'; the scan has 'Raw'"),
        (lambda s: s.write_block(0, SPECTRUM), "bad_shape", r"shape \(n, 1 to 24\), not \(24,\)"),
        (lambda s: s.write_block(0, BLOCK[:0]), "bad_shape", r"not \(0, 24\)"),
        (lambda s: s.write_block(N - 3, BLOCK), "out_of_bounds", f"rows {N - 3} to {N}"),
        (lambda s: s.write_block(0, BLOCK, col=1), "out_of_bounds", "columns 1 to 24"),
        (lambda s: s.write_block(0, BLOCK, col=-1), "out_of_bounds", "columns -1"),
        (lambda s: s.write_at([0, 1], BLOCK), "bad_shape", r"shape \(2, 24\), not \(4, 24\)"),
        (lambda s: s.write_at([0, 1, 1, 2], BLOCK), "already_covered", "row 1 is given twice"),
        (lambda s: s.write_at([0, 1, 2, N], BLOCK), "out_of_bounds", f"which has {N} rows"),
        (lambda s: s.write_at([0.0, 1, 2, 3], BLOCK), "bad_shape", "1-D array of .* integer"),
        (lambda s: s.write_at([], BLOCK[:0]), "bad_shape", "at least one integer"),
    ],
)
def test_what_does_not_fit_is_told_with_what_would(
    misused: Any, call: Any, code: str, told: str
) -> None:
    with pytest.raises(BlockError, match=told) as caught:
        call(misused)
    assert caught.value.code in code.split("|")


@pytest.fixture(scope="module")
def misused(daemon: Daemon) -> Iterator[Any]:
    """Open a scan that takes whatever a test does to it, and is whole in the end."""
    layout = make_layout()
    with connect(daemon.endpoint) as client, client.open_scan(layout) as scan:
        yield scan
        scan.write_block(0, make_data(layout))
    assert scan.result.status == "complete"


@pytest.mark.parametrize(
    ("dtype", "values"), [("uint8", [0, 256]), ("int16", [-40_000, 0]), ("uint16", [-1, 0])]
)
def test_integers_that_do_not_fit_are_refused(
    daemon: Daemon, dtype: str, values: list[int]
) -> None:
    layout = make_layout(make_main(dtype=dtype, n_cols=2))
    with connect(daemon.endpoint) as client, client.open_scan(layout) as scan:
        for given in (values, np.array(values)):
            with pytest.raises(BlockError, match=rf"{dtype}") as caught:
                scan.write(0, given)
            assert caught.value.code == "bad_dtype"
        scan.abort()


def test_of_several_mains_one_must_be_named(daemon: Daemon) -> None:
    layout = make_layout(make_main("A"), make_main("B"))
    with connect(daemon.endpoint) as client, client.open_scan(layout) as scan:
        for call in (
            lambda: scan.write(0, SPECTRUM),
            lambda: scan.write_block(0, BLOCK),
            lambda: scan.write_at([0, 1, 2, 3], BLOCK),
        ):
            with pytest.raises(BlockError, match="several mains \\('A', 'B'\\): say which"):
                call()
        with pytest.raises(BlockError, match="not both"):
            scan.write(0, {"A": SPECTRUM}, main="A")
        scan.abort()
