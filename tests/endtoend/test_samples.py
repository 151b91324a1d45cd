"""A sample of the data decides how its bytes are stored, for as long as the scan lives."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest

from support.daemon import Daemon
from usidstream import BlockError, Dimension, MainLayout, ScanLayout, connect

RNG = np.random.default_rng(3)
N, M = 256, 64
COUNTS = (RNG.integers(-40, 40, (N, M)) * np.float32(0.0137)).astype("f4")
SMOOTH = np.cumsum(RNG.normal(0, 1, (N, M)), axis=1).astype("f4")


def layout_of(**more: object) -> ScanLayout:
    steps = [Dimension("Bias", "V", M)]
    return ScanLayout(
        positions=[Dimension("X", "um", 16), Dimension("Y", "um", 16)],
        mains=[
            MainLayout(name, "Current", "nA", "float32", spectroscopic=steps, **more)
            for name in ("Counts", "Smooth")
        ],
    )


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with Daemon(tmp_path / "data") as daemon:
        yield daemon


def shuffled(file: str) -> dict[str, bool]:
    with h5py.File(file) as h5:
        channels = h5["Measurement_000"]
        return {
            name: bool(channels[f"Channel_{number:03d}/{name}"].shuffle)
            for number, name in enumerate(("Counts", "Smooth"))
        }


def test_each_main_is_stored_as_its_sample_shrinks_best_also_after_a_restart(
    daemon: Daemon,
) -> None:
    sample = {"Counts": COUNTS[:32], "Smooth": SMOOTH[:32]}
    with connect(daemon.endpoint) as client:
        with client.open_scan(layout_of(), sample=sample) as scan:
            scan.write_block(0, COUNTS[:100], main="Counts")
            scan.write_block(0, SMOOTH, main="Smooth")
            scan.wait_durable()
            daemon.restart()
            scan.write_block(100, COUNTS[100:], main="Counts")
        assert scan.result.status == "complete"
    assert shuffled(scan.result.file) == {"Counts": False, "Smooth": True}
    with h5py.File(scan.result.file) as h5:
        np.testing.assert_array_equal(h5["Measurement_000/Channel_000/Counts"], COUNTS)


def test_the_layout_has_the_last_word(daemon: Daemon) -> None:
    with connect(daemon.endpoint) as client:
        with client.open_scan(layout_of(shuffle=True), sample={"Counts": COUNTS}) as scan:
            scan.abort()
        assert shuffled(scan.result.file) == {"Counts": True, "Smooth": True}


def test_a_scan_that_exists_is_resumed_with_any_sample(daemon: Daemon) -> None:
    with connect(daemon.endpoint) as client:
        scan = client.open_scan(layout_of(), sample={"Counts": COUNTS})
    with connect(daemon.endpoint) as client:
        again = client.open_scan(layout_of(), scan_id=scan.scan_id, sample={"Counts": SMOOTH})
        again.abort()
    assert shuffled(again.result.file) == {"Counts": False, "Smooth": True}


def test_a_sample_that_fits_no_main_is_refused_before_anything_is_opened(daemon: Daemon) -> None:
    with connect(daemon.endpoint) as client:
        for sample, words in ((COUNTS, "several mains"), ({"Counts": COUNTS[:, :3]}, "block of")):
            with pytest.raises(BlockError, match=words):
                client.open_scan(layout_of(), sample=sample)
        assert client.status()["scans"] == []
    assert not list(daemon.data_dir.glob("*.h5"))
