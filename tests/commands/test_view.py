"""``usidstreamd view``: a picture of each main, of any file, finished or not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from support.daemon import Daemon, command
from support.usid_files import band_excitation
from usidstream import connect
from usidstream.feeds import preset


def colours(path: Path) -> int:
    with Image.open(path) as image:
        return len(np.unique(np.asarray(image.convert("RGB")).reshape(-1, 3), axis=0))


def test_one_main_goes_where_it_is_told(tmp_path: Path) -> None:
    file, png = band_excitation(tmp_path / "beps.h5"), tmp_path / "map.png"
    told = command(
        "usidstreamd", "view", file, "--main", "Raw_Measurement/source_main", "--out", png
    )
    assert (told.returncode, told.stdout, told.stderr) == (0, f"{png}\n", "")
    assert colours(png) > 15


def test_every_main_becomes_a_picture_beside_the_file(tmp_path: Path) -> None:
    told = command("usidstreamd", "view", band_excitation(tmp_path / "beps.h5"))
    assert (told.returncode, told.stderr) == (0, "")
    written = [Path(line) for line in told.stdout.splitlines()]
    assert len(written) == 3
    assert tmp_path / "beps_Raw_Measurement_source_main.png" in written
    assert sorted(tmp_path.glob("*.png*")) == sorted(written)


def test_a_growing_file_can_be_viewed(tmp_path: Path) -> None:
    feed = preset("raman", size=(8, 8))
    with (
        Daemon(tmp_path / "data", flush_interval_s=0.1) as daemon,
        connect(daemon.endpoint) as client,
        client.open_scan(feed.layout) as scan,
    ):
        scan.write_block(0, feed.values("Raw_Data", np.arange(32)))
        told = command("usidstreamd", "view", scan.file, "--out", tmp_path / "half.png")
        scan.abort()
    assert (told.returncode, told.stderr) == (0, "")
    assert colours(tmp_path / "half.png") > 15


@pytest.mark.parametrize(
    ("options", "code", "says"),
    [
        (["--main", "Nothing"], 2, "no main"),
        (["--reduction", "median"], 2, "mean, max or a column"),
        (["--main", "Raw_Measurement/source_main", "--reduction", "14"], 2, "14 columns"),
    ],
)
def test_what_is_not_there_is_named(
    tmp_path: Path, options: list[str], code: int, says: str
) -> None:
    told = command("usidstreamd", "view", band_excitation(tmp_path / "beps.h5"), *options)
    assert (told.returncode, told.stdout) == (code, "")
    assert says in told.stderr
    assert not list(tmp_path.glob("*.png*"))


def test_what_is_no_hdf5_file_is_refused(tmp_path: Path) -> None:
    text = tmp_path / "text.h5"
    text.write_text("no HDF5")
    told = command("usidstreamd", "view", text)
    assert told.returncode == 1
    assert "not an HDF5 file" in told.stderr
