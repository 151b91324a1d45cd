"""A scan whose client goes away, and what its file must hold before and after it is resumed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np

from support.daemon import Daemon, wait_for
from support.rawpeer import RawPeer
from usidstream import Dimension, MainLayout, ScanLayout, connect, wire
from usidstreamd.verify import verify_file

N_ROWS, N_COLS, CHUNK_ROWS = 64, 6, 8
SHORT = {"resume_timeout_s": 0.5, "flush_interval_s": 0.2}


def make_layout(compression: str = "gzip") -> ScanLayout:
    mains = [
        MainLayout(
            name,
            "Current",
            "nA",
            dtype,
            spectroscopic=[Dimension("Bias", "V", N_COLS)],
            chunks=(CHUNK_ROWS, N_COLS),
            compression=compression,
        )
        for name, dtype in (("Height", "float32"), ("Phase", "uint16"))
    ]
    return ScanLayout(positions=[Dimension("X", "um", 8), Dimension("Y", "um", 8)], mains=mains)


def values(main: str) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(len(main))
    return rng.integers(1, 60000, (N_ROWS, N_COLS)).astype(make_layout().main(main).np_dtype)


DATA = {main.name: values(main.name) for main in make_layout().mains}
SOME = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 21, 63]
"""A whole chunk, the beginning of one, and two scattered rows."""


def send(scan: Any, rows: list[int]) -> None:
    for row in rows:
        scan.write(row, {main: data[row] for main, data in DATA.items()})


def leave_a_scan(daemon: Daemon, scan_id: str, layout: ScanLayout | None = None) -> str:
    """Send some rows of a scan and go; return its file."""
    with connect(daemon.endpoint) as client:
        scan = client.open_scan(layout or make_layout(), scan_id=scan_id, file="left")
        send(scan, SOME)
        scan.write_block(40, DATA["Height"][40:42, 2:5], main="Height", col=2)
        scan.annotate({"operator": "nobody"})
        scan.wait_durable(timeout_s=30)
        scan.detach()
    return str(next(daemon.data_dir.glob("*.h5")))


def state_of(daemon: Daemon, scan_id: str) -> str:
    with RawPeer(daemon.endpoint) as peer:
        peer.send(wire.StatusRequest(scan=scan_id))
        (entry,) = peer.expect(wire.StatusReport).scans
    return str(entry["state"])


def wait_until_interrupted(daemon: Daemon, scan_id: str) -> None:
    wait_for(lambda: state_of(daemon, scan_id) == "interrupted", "the scan to be interrupted")


def status_in(file: str) -> str:
    with h5py.File(file, "r") as h5_file:
        return str(h5_file["Measurement_000"].attrs["acquisition_status"].decode())


def require_what_was_sent(file: str) -> None:
    """A plain file, complete as far as the scan came, and exact about it."""
    assert verify_file(Path(file)).faults == []
    with h5py.File(file, "r") as h5_file:
        attrs = h5_file["Measurement_000"].attrs
        assert attrs["acquisition_status"] == b"interrupted"
        assert attrs["acquisition_end"] > attrs["acquisition_start"]
        assert attrs["operator"] == "nobody"
        assert attrs["positions_complete"] == len(SOME)
        for number, (main, data) in enumerate(DATA.items()):
            group = h5_file[f"Measurement_000/Channel_{number:03d}"]
            states = np.zeros(N_ROWS, np.uint8)
            states[SOME] = 1
            expected = np.where(states[:, None] == 1, data, 0)
            if main == "Height":
                states[40:42] = 2
                expected[40:42, 2:5] = data[40:42, 2:5]
                assert group["partial_ranges"][...].tolist() == [[40, 42, 2, 5]]
            assert np.array_equal(group[main][...], expected)
            assert np.array_equal(group["completed_positions"][...], states)


def require_whole(file: str) -> None:
    assert verify_file(Path(file)).faults == []
    assert status_in(file) == "complete"
    with h5py.File(file, "r") as h5_file:
        for number, (main, data) in enumerate(DATA.items()):
            stored = h5_file[f"Measurement_000/Channel_{number:03d}/{main}"][...]
            assert np.array_equal(stored, data)


def resume_and_finish(daemon: Daemon, scan_id: str, layout: ScanLayout | None = None) -> Any:
    """Send everything again, as a program may that starts anew."""
    with connect(daemon.endpoint) as client:
        scan = client.open_scan(layout or make_layout(), scan_id=scan_id)
        assert scan.durable == len(SOME)
        held = {row for start, stop in scan.durable_ranges("Height") for row in range(start, stop)}
        assert held == set(SOME)
        send(scan, list(range(N_ROWS)))
        result = scan.finish()
        assert scan.skipped == 2 * len(SOME)
    assert result.status == "complete"
    return result
