"""Files that grow, are torn, left by a dead writer, or finished: opened without hanging."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest

from support.daemon import Daemon, wait_for
from support.usid_files import aborted, band_excitation, spiral
from usidstream import Dimension, MainLayout, ScanLayout, connect
from usidstreamd.h5usid import open_live

N_ROWS, N_COLS, CHUNK_ROWS = 64, 6, 8
LAYOUT = ScanLayout(
    positions=[Dimension("X", "um", 8), Dimension("Y", "um", 8)],
    mains=[
        MainLayout(
            "Raw_Data", "Current", "nA", "float32", [Dimension("Bias", "V", N_COLS)],
            chunks=(CHUNK_ROWS, N_COLS),
        )
    ],
)  # fmt: skip
DATA = np.random.default_rng(1).random((N_ROWS, N_COLS)).astype("f4")
ANSWER_TIMEOUT_S = 30.0

# A SWMR writer of more than a thousand chunks, killed by itself without closing.
KILLED_WRITER = """
import os, sys
import h5py, numpy as np
import usidstreamd.h5usid as usid
with h5py.File(sys.argv[1], "w", libver=("v110", "v110")) as f:
    g = f.create_group("Measurement_000")
    main = usid.write_main_dataset(
        g, (2048, 4), "Raw_Data", "Current", "nA", usid.Dimension("X", "um", 2048),
        usid.Dimension("Bias", "V", 4), dtype="f4", chunks=(1, 4), compression="gzip")
    states = g.create_dataset("completed_positions", (2048,), "u1", chunks=(2048,))
    g.create_dataset("partial_ranges", (0, 4), "i8", maxshape=(None, 4), chunks=(16, 4))
    f.swmr_mode = True
    for row in range(1500):
        main[row] = row
    main.flush()
    states[:1500] = 1
    f.flush()
    os.kill(os.getpid(), 9)
"""
READER = """
import sys, time
from usidstreamd.h5usid import open_live
try:
    with open_live(sys.argv[1]) as live:
        print("read", live.main().reduced("mean")[""][:1500].sum())
except OSError as error:
    print("refused", error)
"""


@pytest.fixture(scope="module")
def killed_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("killed") / "scan.h5"
    done = subprocess.run([sys.executable, "-c", KILLED_WRITER, path], check=False)
    assert done.returncode == -signal.SIGKILL
    with pytest.raises(OSError, match="nable to"):
        h5py.File(path, "r")
    return path


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with Daemon(tmp_path / "data", flush_interval_s=0.1) as daemon:
        yield daemon


def read_in_a_process(path: Path) -> str:
    """What a reader says; fails the test if it hangs."""
    command = [sys.executable, "-c", READER, str(path)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=ANSWER_TIMEOUT_S, check=True
    )
    return done.stdout


def test_a_growing_file_is_followed_to_its_end(daemon: Daemon) -> None:
    with connect(daemon.endpoint) as client, client.open_scan(LAYOUT) as scan:
        live = open_live(scan.file)
        with live:
            main = live.main()
            assert (live.is_growing, live.status, main.n_complete) == (True, "acquiring", 0)
            assert np.isnan(main.reduced()[""]).all()
            scan.write_block(0, DATA[:20])
            scan.write_block(40, DATA[40:42, 2:5], col=2)
            wait_for(lambda: live.refresh() and main.n_complete == 16, "two whole chunks")
            assert main.missing == [(16, N_ROWS)]
            np.testing.assert_array_equal(main.rows(np.arange(16)), DATA[:16])
            shown = main.reduced("max")[""]
            np.testing.assert_array_equal(shown[:16], DATA[:16].max(axis=1))
            assert np.isnan(shown[16:]).all()
            scan.finish()
            wait_for(lambda: live.refresh() == "incomplete", "the end")
            assert (live.is_growing, main.n_complete) == (False, 20)
            np.testing.assert_array_equal(main.partial, [[40, 42, 2, 5]])
            assert np.flatnonzero(main.holds(4)).tolist() == [*range(20), 40, 41]
            assert np.flatnonzero(main.held_of(41)).tolist() == [2, 3, 4]
            assert (main.held_of(19).all(), main.held_of(42).any()) == (True, False)
            with pytest.raises(IndexError, match="run from 0"):
                main.held_of(-1)
            assert not main.is_by_column
            assert main.n_complete == 20, "asking changes nothing"
            np.testing.assert_array_equal(main.reduced(4)[""][40:42], DATA[40:42, 4])
            assert np.isnan(main.reduced(5)[""][40:42]).all()
            np.testing.assert_array_equal(main.rows(19), DATA[19])


def test_a_stack_is_followed_image_by_image(daemon: Daemon) -> None:
    """What was asked before must not stay for good: h5py keeps shapes of files it only reads."""
    layout = LAYOUT.to_dict()
    layout["mains"][0] |= {"order": "columns", "chunks": [N_ROWS, 1]}
    with connect(daemon.endpoint) as client:
        scan = client.open_scan(ScanLayout.from_dict(layout))
        with open_live(scan.file) as live:
            main = live.main()
            assert (main.is_by_column, main.newest_column) == (True, None)
            for column in range(3):
                scan.write_block(0, DATA[:, column : column + 1], col=column)
                wait_for(lambda n=column: live.refresh() and main.newest_column == n, "an image")
                assert np.flatnonzero(main.held_of(5)).tolist() == [*range(column + 1)]
                np.testing.assert_array_equal(main.reduced(column)[""], DATA[:, column])
        scan.abort()


def test_a_file_whose_writer_died_shows_what_it_held(killed_file: Path) -> None:
    with open_live(killed_file) as live:
        main = live.main("Measurement_000/Raw_Data")
        assert (live.is_growing, main.n_complete, main.missing) == (True, 1500, [(1500, 2048)])
        np.testing.assert_array_equal(main.reduced(2)[""][:1500], np.arange(1500))
        live.refresh()
        assert main.n_complete == 1500
    assert read_in_a_process(killed_file).startswith("read")


def test_a_daemon_that_was_killed_leaves_a_file_to_follow(daemon: Daemon) -> None:
    with connect(daemon.endpoint, write_timeout_s=20) as client:
        scan = client.open_scan(LAYOUT)
        scan.write_block(0, DATA[:32])
        with open_live(scan.file) as live:
            main = live.main()
            wait_for(lambda: live.refresh() and main.n_complete == 32, "the first half")
            daemon.stop(signal.SIGKILL)
            assert (live.refresh(), main.n_complete) == ("acquiring", 32)
            np.testing.assert_array_equal(main.rows(np.arange(32)), DATA[:32])
            daemon.start()
            scan.write_block(32, DATA[32:])
            assert scan.finish().status == "complete"
            wait_for(lambda: live.refresh() == "complete", "the end")
            np.testing.assert_array_equal(main.rows(np.arange(N_ROWS)), DATA)


@pytest.mark.parametrize("mark", [b"FADB", b"FAHD", b"OHDR", b"\x89HDF"], ids=ascii)
def test_torn_metadata_is_refused_in_time_and_never_hangs(
    killed_file: Path, tmp_path: Path, mark: bytes
) -> None:
    raw = bytearray(killed_file.read_bytes())
    at = raw.find(mark)
    assert at >= 0
    raw[at + 20] ^= 0xFF
    torn = tmp_path / "torn.h5"
    torn.write_bytes(raw)
    told = read_in_a_process(torn)
    assert told.startswith("refused")
    assert "usidstreamd recover" in told or "checksum" in told


def test_a_file_that_is_torn_after_it_was_opened_can_be_tried_again(
    killed_file: Path, tmp_path: Path
) -> None:
    path = tmp_path / "scan.h5"
    sound = killed_file.read_bytes()
    path.write_bytes(sound)
    with open_live(path) as live:
        torn = bytearray(sound)
        for at in _all(sound, b"OHDR"):
            torn[at + 20] ^= 0xFF
        _overwrite(path, bytes(torn))
        started = time.monotonic()
        with pytest.raises(OSError, match="usidstreamd recover"):
            live.refresh()
        assert time.monotonic() - started < ANSWER_TIMEOUT_S
        assert live.main().n_complete == 1500
        _overwrite(path, sound)
        live.refresh()
        assert live.main().reduced("mean")[""][7] == 7


def _all(raw: bytes, mark: bytes) -> Iterator[int]:
    at = raw.find(mark)
    while at >= 0:
        yield at
        at = raw.find(mark, at + 1)


def _overwrite(path: Path, raw: bytes) -> None:
    """Write in place, as a writer of the same file does."""
    with path.open("r+b") as file:
        file.write(raw)


def test_a_finished_file_of_any_writer_counts_as_whole(tmp_path: Path) -> None:
    path = band_excitation(tmp_path / "beps.h5")
    with h5py.File(path) as h5_file:
        data = h5_file["Raw_Measurement/source_main"][...]
        waves = h5_file["Raw_Measurement/source_main-Fitter_001/results_main"][...]
    with open_live(path) as live:
        assert (live.is_growing, live.refresh(), len(live.mains)) == (False, "", 3)
        main = live.main("Raw_Measurement/source_main")
        assert (main.n_complete, main.missing) == (15, [])
        np.testing.assert_allclose(main.reduced("mean")[""], data.mean(axis=1))
        np.testing.assert_allclose(main.mean_spectrum()[""], data.mean(axis=0))
        compound, complex_main = list(live.mains.values())[1:]
        assert list(compound.reduced("max")) == ["r", "g", "b"]
        parts = complex_main.reduced(3)
        np.testing.assert_allclose(parts["Magnitude"], abs(waves[:, 3]))
        np.testing.assert_allclose(parts["Phase"], np.angle(waves[:, 3]))
        figure = main.plot(3)
        [image] = figure.axes[0].get_images()
        np.testing.assert_allclose(image.get_array(), data[:, 3].reshape(3, 5))


@pytest.mark.parametrize("write", [spiral, aborted])
def test_positions_without_a_grid_are_drawn(tmp_path: Path, write: object) -> None:
    assert callable(write)
    with open_live(write(tmp_path / "points.h5")) as live:
        figure = live.main().plot()
        offsets = figure.axes[0].collections[0].get_offsets()
        np.testing.assert_allclose(offsets, live.main().dataset.h5_pos_vals[()][:, ::1])


def test_what_cannot_be_opened_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        open_live(tmp_path / "nowhere.h5")
    text = tmp_path / "text.h5"
    text.write_text("no HDF5")
    with pytest.raises(OSError, match="not an HDF5 file"):
        open_live(text)
    with open_live(band_excitation(tmp_path / "beps.h5")) as live:
        with pytest.raises(KeyError, match="source_main"):
            live.main("Nothing")
        with pytest.raises(IndexError):
            live.main().rows(15)
        with pytest.raises(ValueError, match="reduction"):
            live.main().reduced("median")
    with pytest.raises(OSError, match="closed"):
        live.refresh()
