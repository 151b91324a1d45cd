"""Whole scans through a real daemon in a process of its own, fed by the real client."""

from __future__ import annotations

import secrets
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from support.daemon import Daemon, wait_for
from usidstream import Dimension, MainLayout, PositionTable, ScanLayout, connect
from usidstream.errors import UsidstreamError
from usidstreamd.storage.ledger import LEDGER_NAME, Finalise, Ledger

N_X, N_Y, N_BIAS = 24, 16, 32
N = N_X * N_Y


def make_main(name: str = "Raw", dtype: str = "float32", **more: Any) -> MainLayout:
    spectroscopic = more.pop("spectroscopic", [Dimension("Bias", "V", np.linspace(-1, 1, N_BIAS))])
    return MainLayout(
        name=name,
        quantity="Current",
        units="nA",
        dtype=dtype,
        spectroscopic=spectroscopic,
        **more,
    )


def make_layout(*mains: MainLayout, **more: Any) -> ScanLayout:
    positions = [Dimension("X", "um", N_X), Dimension("Y", "um", N_Y)]
    return ScanLayout(positions=positions, mains=list(mains) or [make_main()], **more)


def make_data(layout: ScanLayout, main: str = "Raw", seed: int = 0) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(seed)
    return (rng.random(layout.shape(main)) * 1000).astype(layout.main(main).np_dtype)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with Daemon(tmp_path_factory.mktemp("scans") / "data", flush_interval_s=0.3) as daemon:
        yield daemon


@pytest.fixture
def daemon(shared: Daemon) -> Iterator[Daemon]:
    """The daemon of all these tests, running whatever the one before did to it."""
    if not shared.runs:
        shared.start()
    told = len(shared.log)
    yield shared
    assert "Traceback" not in shared.log[told:]


def read(file: str, path: str = "Measurement_000/Raw") -> np.ndarray[Any, Any]:
    with h5py.File(file, "r") as h5_file:
        data: np.ndarray[Any, Any] = h5_file[path][...]
    return data


def test_a_pixel_at_a_time(daemon: Daemon) -> None:
    layout = make_layout(attrs={"Instrument": "AFM"})
    data = make_data(layout)
    with connect(daemon.endpoint) as client, client.open_scan(layout, file="a") as scan:
        for row, spectrum in enumerate(data):
            scan.write(row, spectrum)
    assert (scan.result.status, scan.result.missing) == ("complete", {})
    assert Path(scan.result.file).is_absolute()
    assert Path(scan.result.file).name.startswith("a_")
    np.testing.assert_array_equal(read(scan.result.file), data)
    with h5py.File(scan.result.file) as h5_file:
        group = h5_file["Measurement_000"]
        assert group.attrs["acquisition_status"].decode() == "complete"
        assert group.attrs["scan_id"].decode() == scan.scan_id
        assert group.attrs["Instrument"] == "AFM"
        assert (group["completed_positions"][...] == 1).all()
    journal = Path(f"{scan.result.file}.journal")
    wait_for(lambda: not journal.exists(), "a finished scan to have no journal")


def test_wait_durable_after_a_single_pixel(daemon: Daemon) -> None:
    layout = make_layout()
    data = make_data(layout)
    with connect(daemon.endpoint) as client, client.open_scan(layout) as scan:
        scan.write(5, data[5])
        scan.wait_durable(timeout_s=20)
        assert scan.durable == 1
        assert scan.durable_ranges("Raw") == [(5, 6)]
        daemon.restart(signal.SIGKILL)
        scan.write(6, data[6])
        scan.wait_durable(timeout_s=20)
        assert scan.durable_ranges("Raw") == [(5, 7)]
        scan.abort("enough")
    assert scan.result.status == "aborted"
    assert scan.result.missing == {"Raw": [(0, 5), (7, N)]}
    np.testing.assert_array_equal(read(scan.result.file)[5:7], data[5:7])


def test_rows_in_random_order(daemon: Daemon) -> None:
    layout = make_layout()
    data = make_data(layout)
    with connect(daemon.endpoint) as client, client.open_scan(layout) as scan:
        for row in np.random.default_rng(1).permutation(N):
            scan.write(row, data[row])
    assert scan.result.status == "complete"
    np.testing.assert_array_equal(read(scan.result.file), data)


@pytest.mark.parametrize("order", ["rows", "columns"])
def test_a_scan_larger_than_memory_in_random_order(tmp_path: Path, order: str) -> None:
    chunks = (64, 256) if order == "rows" else (256, 32)
    main = make_main(
        dtype="float64", order=order, chunks=chunks, spectroscopic=[Dimension("t", "s", 1024)]
    )
    layout = ScanLayout(
        positions=[Dimension("X", "um", 64), Dimension("Y", "um", 16)], mains=[main]
    )
    data = make_data(layout)
    assert data.nbytes == 8 << 20
    rng = np.random.default_rng(2)
    with Daemon(
        tmp_path / "data", memory_budget_mb=1, credit_window_mb=1, max_block_mb=1
    ) as daemon:
        with connect(daemon.endpoint) as client, client.open_scan(layout) as scan:
            for part in np.array_split(rng.permutation(1024), 64):
                if order == "rows":
                    scan.write_at(part, data[part])
                else:
                    for col in part:
                        scan.write_block(0, data[:, col : col + 1], col=int(col))
            memory = client.status()["daemon"]
        assert memory["memory_in_use_bytes"] <= memory["memory_budget_bytes"]
        assert scan.result.status == "complete"
        np.testing.assert_array_equal(read(scan.result.file), data)


def test_blocks_columns_and_scattered_rows_mix(daemon: Daemon) -> None:
    layout = make_layout()
    data = make_data(layout)
    with connect(daemon.endpoint) as client, client.open_scan(layout) as scan:
        scan.write_block(0, data[:100])
        scan.write_block(100, data[100:200, :10])
        scan.write_block(100, data[100:200, 10:], col=10)
        scan.write_at(np.arange(N - 1, 199, -2), data[N - 1 : 199 : -2])
        scan.write_at(np.arange(N - 2, 199, -2), data[N - 2 : 199 : -2])
    assert scan.result.status == "complete"
    np.testing.assert_array_equal(read(scan.result.file), data)


@pytest.mark.parametrize("dtype", ["int8", "uint16", "int64", "float64", "complex64", "complex128"])
def test_every_kind_of_number(daemon: Daemon, dtype: str) -> None:
    layout = make_layout(make_main(dtype=dtype))
    data = np.random.default_rng(3).integers(0, 100, layout.shape("Raw")).astype(dtype)
    with connect(daemon.endpoint) as client, client.open_scan(layout) as scan:
        scan.write_block(0, data)
    np.testing.assert_array_equal(read(scan.result.file), data)


def test_a_compound_main(daemon: Daemon) -> None:
    dtype = np.dtype([("Amplitude", "<f4"), ("Phase", "<f8")])
    layout = make_layout(make_main(dtype=dtype))
    data = np.zeros(layout.shape("Raw"), dtype)
    data["Amplitude"] = np.arange(data.size).reshape(data.shape)
    data["Phase"] = -data["Amplitude"]
    with connect(daemon.endpoint) as client, client.open_scan(layout) as scan:
        scan.write_block(0, data)
    np.testing.assert_array_equal(read(scan.result.file), data)


def test_several_mains_share_their_positions(daemon: Daemon) -> None:
    mains = [make_main("Height"), make_main("Phase", "int16"), make_main("Other", "float64")]
    layout = make_layout(*mains)
    data = {main.name: make_data(layout, main.name, seed=i) for i, main in enumerate(mains)}
    with connect(daemon.endpoint) as client, client.open_scan(layout) as scan:
        for row in range(N):
            scan.write(row, {name: values[row] for name, values in data.items()})
    with h5py.File(scan.result.file) as h5_file:
        group = h5_file["Measurement_000"]
        shared = set()
        for index, main in enumerate(mains):
            dataset = group[f"Channel_{index:03d}/{main.name}"]
            np.testing.assert_array_equal(dataset[...], data[main.name])
            shared.add(h5_file[dataset.attrs["Position_Values"]].name)
        assert len(shared) == 1


def test_positions_from_a_table(daemon: Daemon) -> None:
    angle = np.linspace(0, 20, 50)
    spiral = np.stack([angle * np.cos(angle), angle * np.sin(angle)], axis=1)
    layout = ScanLayout(
        positions=PositionTable(["X", "Y"], ["um", "um"], spiral), mains=[make_main()]
    )
    data = make_data(layout)
    with connect(daemon.endpoint) as client, client.open_scan(layout) as scan:
        scan.write_block(0, data)
    with h5py.File(scan.result.file) as h5_file:
        values = h5_file[h5_file["Measurement_000/Raw"].attrs["Position_Values"]][...]
    stored = {tuple(pair) for pair in np.sort(values.astype("f4"), axis=1).tolist()}
    assert stored == {tuple(pair) for pair in np.sort(spiral.astype("f4"), axis=1).tolist()}


def test_missing_rows_are_told_exactly(daemon: Daemon) -> None:
    layout = make_layout()
    data = make_data(layout)
    with connect(daemon.endpoint) as client, client.open_scan(layout) as scan:
        scan.write_block(0, data[:10])
        scan.write_block(12, data[12:20, :5])
        scan.write_block(20, data[20:])
    assert scan.result.status == "incomplete"
    assert scan.result.missing == {"Raw": [(10, 20)]}
    with h5py.File(scan.result.file) as h5_file:
        states = h5_file["Measurement_000/completed_positions"][...]
        assert states[:21].tolist() == [1] * 10 + [0, 0] + [2] * 8 + [1]
        assert h5_file["Measurement_000/partial_ranges"][...].tolist() == [[12, 20, 0, 5]]


def test_an_exception_in_the_with_block_aborts_and_keeps_what_came(daemon: Daemon) -> None:
    layout = make_layout()
    data = make_data(layout)
    with connect(daemon.endpoint) as client:
        scan = client.open_scan(layout)

        def fail_at_the_microscope() -> None:
            with scan:
                scan.write(3, data[3])
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            fail_at_the_microscope()
        assert scan.result.status == "aborted"
    np.testing.assert_array_equal(read(scan.result.file)[3], data[3])


def test_annotations_and_final_attributes_are_in_the_file(daemon: Daemon) -> None:
    layout = make_layout()
    with connect(daemon.endpoint) as client, client.open_scan(layout) as scan:
        scan.annotate({"drift_nm": 1.3, "note": "µ"})
        scan.write_block(0, make_data(layout))
        scan.annotate({"drift_nm": 2.6})
        scan.finish(attrs={"operator": "me", "steps": [1, 2, 3]})
    with h5py.File(scan.result.file) as h5_file:
        attrs = h5_file["Measurement_000"].attrs
        assert attrs["drift_nm"] == 2.6
        assert attrs["note"] == "µ"
        assert attrs["operator"] == "me"
        assert list(attrs["steps"]) == [1, 2, 3]


def test_annotations_survive_a_restart(daemon: Daemon) -> None:
    layout = make_layout()
    with connect(daemon.endpoint) as client, client.open_scan(layout) as scan:
        scan.annotate({"drift_nm": 1.3})
        scan.wait_durable(timeout_s=20)
        daemon.restart()
        scan.write_block(0, make_data(layout))
    with h5py.File(scan.result.file) as h5_file:
        assert h5_file["Measurement_000"].attrs["drift_nm"] == 1.3


def test_a_restart_in_mid_scan_costs_only_time(daemon: Daemon) -> None:
    layout = make_layout()
    data = make_data(layout)
    order = np.random.default_rng(4).permutation(N)
    with connect(daemon.endpoint) as client, client.open_scan(layout) as scan:
        for count, row in enumerate(order):
            scan.write(row, data[row])
            if count in (N // 4, N // 2):
                daemon.restart()
    assert scan.result.status == "complete"
    np.testing.assert_array_equal(read(scan.result.file), data)


def test_column_blocks_survive_a_restart(daemon: Daemon) -> None:
    layout = make_layout(make_main(order="columns"))
    data = make_data(layout)
    with connect(daemon.endpoint) as client, client.open_scan(layout) as scan:
        for col in range(N_BIAS):
            scan.write_block(0, data[:, col : col + 1], col=col)
            if col == N_BIAS // 2:
                scan.wait_durable(timeout_s=20)
                daemon.restart()
    assert scan.result.status == "complete"
    np.testing.assert_array_equal(read(scan.result.file), data)


def test_a_scan_is_resumed_by_its_id_in_a_new_client(daemon: Daemon) -> None:
    layout, scan_id = make_layout(), secrets.token_hex(16)
    data = make_data(layout)
    with connect(daemon.endpoint) as client:
        scan = client.open_scan(layout, scan_id=scan_id)
        scan.write_block(0, data[:100])
        scan.wait_durable(timeout_s=20)
        scan.detach()
    daemon.restart()
    with connect(daemon.endpoint) as client, client.open_scan(layout, scan_id=scan_id) as scan:
        for row in range(N):
            scan.write(row, data[row])
        assert scan.skipped == 100
    assert scan.result.status == "complete"
    np.testing.assert_array_equal(read(scan.result.file), data)
    with connect(daemon.endpoint) as client:
        again = client.open_scan(layout, scan_id=scan_id)
        assert again.result == scan.result, "a finished scan's id is remembered"


def test_two_clients_fill_one_scan_each_its_own_main(daemon: Daemon) -> None:
    layout = make_layout(make_main("Height"), make_main("Phase"))
    data = {name: make_data(layout, name, seed) for seed, name in enumerate(("Height", "Phase"))}
    with connect(daemon.endpoint) as first, first.open_scan(layout) as scan:

        def help_to_fill() -> None:
            with connect(daemon.endpoint) as second, second.join_scan(scan.scan_id) as joined:
                for row in range(N):
                    joined.write(row, data["Phase"][row], main="Phase")
            results.append(joined.result)

        results: list[Any] = []
        helper = threading.Thread(target=help_to_fill)
        helper.start()
        for row in range(N):
            scan.write(row, data["Height"][row], main="Height")
        helper.join()
    assert results[0].status == "acquiring"
    assert scan.result.status == "complete"
    for index, name in enumerate(data):
        path = f"Measurement_000/Channel_{index:03d}/{name}"
        np.testing.assert_array_equal(read(scan.result.file, path), data[name])


def test_three_scans_at_once(daemon: Daemon) -> None:
    layout = make_layout()
    files: dict[int, str] = {}

    def run_scan(seed: int) -> None:
        data = make_data(layout, seed=seed)
        with connect(daemon.endpoint) as client:
            with client.open_scan(layout, file=f"scan_{seed}") as scan:
                for row in range(N):
                    scan.write(row, data[row])
            files[seed] = scan.result.file

    threads = [threading.Thread(target=run_scan, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(files.values())) == 3
    for seed, file in files.items():
        np.testing.assert_array_equal(read(file), make_data(layout, seed=seed))


READER = """
import sys, time, h5py
path, enough = sys.argv[1], int(sys.argv[2])
seen = []
with h5py.File(path, "r", libver="latest", swmr=True) as h5_file:
    main, done = h5_file["Measurement_000/Raw"], h5_file["Measurement_000/completed_positions"]
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        done.refresh(); main.refresh()
        rows = (done[...] == 1).nonzero()[0]
        if len(rows) and not (main[int(rows[-1])] != 0).all():
            sys.exit("a position is said complete before its data is there")
        if not seen or len(rows) > seen[-1]:
            seen.append(len(rows))
            print(len(rows), flush=True)
        if seen[-1] >= enough:
            break
        time.sleep(0.02)
"""


def test_another_process_sees_rows_appear(daemon: Daemon) -> None:
    layout = make_layout(make_main(chunks=(24, N_BIAS)))
    data = make_data(layout) + 1
    seen = [0]
    with connect(daemon.endpoint) as client, client.open_scan(layout) as scan:
        command = [sys.executable, "-c", textwrap.dedent(READER), scan.file, str(N)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as reader:
            assert reader.stdout is not None
            assert reader.stdout.readline() == "0\n", "it opens the file before there is anything"
            for row in range(0, N, 96):
                scan.write_block(row, data[row : row + 96])
                while seen[-1] < row + 96:
                    seen.append(int(reader.stdout.readline()))
                assert seen[-1] == row + 96
            assert reader.wait(20) == 0
    assert seen == sorted(seen)
    assert scan.result.status == "complete"


def test_errors_about_earlier_blocks_are_raised_once_and_the_scan_goes_on(daemon: Daemon) -> None:
    layout = make_layout()
    data = make_data(layout)
    with connect(daemon.endpoint) as client, client.open_scan(layout) as scan:
        scan.write_block(0, data[:10])
        scan.write_block(5, data[5:15])
        with pytest.raises(UsidstreamError) as caught:
            scan.wait_durable(timeout_s=20)
        assert caught.value.code == "already_covered"
        assert caught.value.details["row"] == 5
        scan.write_block(10, data[10:])
    assert scan.result.status == "complete"
    np.testing.assert_array_equal(read(scan.result.file), data)


def test_of_blocks_that_travel_together_only_the_refused_one_is_missing(daemon: Daemon) -> None:
    layout = make_layout()
    data = make_data(layout)
    with connect(daemon.endpoint) as client, client.open_scan(layout) as scan:
        scan.write_block(20, data[20:30])
        scan.wait_durable()
        for row in (0, 8, 16, 24, 32):
            scan.write_block(row, data[row : row + 8])
        with pytest.raises(UsidstreamError) as caught:
            scan.wait_durable(timeout_s=20)
        assert caught.value.code == "already_covered"
        assert (caught.value.details["row"], caught.value.details["rows"]) == (16, 16)
        scan.wait_durable(timeout_s=20)
        assert scan.durable_ranges() == [(0, 16), (20, 30), (32, 40)]
        scan.write_block(16, data[16:20])
        scan.write_block(30, data[30:32])
        scan.write_block(40, data[40:])
    assert scan.result.status == "complete"
    np.testing.assert_array_equal(read(scan.result.file), data)


def test_a_daemon_that_cannot_write_says_so(tmp_path: Path) -> None:
    other = Daemon(tmp_path / "blocked")
    other.data_dir.write_text("a file where a folder should be")
    with pytest.raises(AssertionError, match="storage_failed"):
        other.start()


def test_a_second_daemon_in_the_same_directory_is_refused(daemon: Daemon) -> None:
    other = Daemon(daemon.data_dir)
    with pytest.raises(AssertionError, match="in use by another daemon"):
        other.start()


def test_nothing_open_remains_after_the_daemon_stops(daemon: Daemon) -> None:
    layout = make_layout()
    with connect(daemon.endpoint) as client:
        scan = client.open_scan(layout)
        scan.write(0, make_data(layout)[0])
        scan.wait_durable(timeout_s=20)
        scan.detach()
    assert daemon.stop() == 0
    with h5py.File(scan.file, "r") as h5_file:
        assert h5_file["Measurement_000"].attrs["acquisition_status"].decode() == "acquiring"
    daemon.start()
    with connect(daemon.endpoint) as client:
        wait_for(lambda: client.status()["scans"], "the waiting scan")
        assert [line["scan"] for line in client.status()["scans"]] == [scan.scan_id]


def test_a_finish_that_was_not_remembered_is_told_after_the_restart(daemon: Daemon) -> None:
    """The file is final, but the daemon died before it had noted the result."""
    layout, scan_id = make_layout(), secrets.token_hex(16)
    data = make_data(layout)
    with connect(daemon.endpoint) as client, client.open_scan(layout, scan_id=scan_id) as scan:
        scan.write_block(0, data)
        scan.wait_durable(timeout_s=20)
        journal = Path(scan.file + ".journal")
        kept = shutil.copytree(journal, daemon.data_dir.parent / "kept")
    daemon.stop()
    shutil.copytree(kept, journal)
    ledger, _state = Ledger.open(journal / LEDGER_NAME)
    ledger.append([Finalise(status="complete", ended="2026-01-01T00:00:00+00:00")])
    ledger.close()
    (daemon.data_dir / ".usidstream" / "finished" / scan_id).unlink()
    daemon.start()
    with connect(daemon.endpoint) as client:
        again = client.open_scan(layout, scan_id=scan_id)
        assert again.result == scan.result
    wait_for(lambda: not journal.exists(), "the journal to go")


def test_damaged_blocks_are_sent_again_without_a_word(daemon: Daemon) -> None:
    layout = make_layout()
    data = make_data(layout)
    with connect(daemon.endpoint) as client, client.open_scan(layout) as scan:
        for _ in range(10):
            scan.corrupt_next_block()
        scan.write_block(0, data)
        scan.wait_durable(timeout_s=20)
    assert scan.result.status == "complete"
    np.testing.assert_array_equal(read(scan.result.file), data)
