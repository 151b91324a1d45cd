"""The core of the format layer: what a daemon needs to pre-create a scan's file."""

import h5py
import numpy as np
import pytest

import usidstreamd.h5usid as usid
from usidstream.layout import Dimension as LayoutDimension
from usidstream.layout import PositionTable


@pytest.fixture
def h5_file(tmp_path):
    with h5py.File(tmp_path / "scan.h5", "w", libver=("v110", "v110")) as file:
        yield file


def grid():
    return [
        LayoutDimension("Cols", "nm", np.arange(400, 900, 100)),
        usid.Dimension("Rows", "um", 3),
    ]


def bias():
    return usid.Dimension("Bias", "V", np.linspace(-1, 1, 4))


def test_an_empty_main_is_created_with_the_keywords_of_h5py(h5_file):
    h5_group = usid.create_indexed_group(h5_file, "Measurement")
    h5_main = usid.write_main_dataset(
        h5_group, (15, 4), "Raw_Data", "Current", "nA", grid(), bias(),
        dtype="<u2", chunks=(5, 4), compression="gzip", shuffle=True, main_dset_attrs={"Gain": 9},
    )  # fmt: skip
    assert h5_main.chunks == (5, 4)
    assert (h5_main.compression, h5_main.shuffle) == ("gzip", True)
    assert h5_main.attrs["Gain"] == 9
    assert h5_main.h5_pos_inds[:, 1].tolist() == [0, 1, 2, 3, 4] * 3
    assert h5_main.h5_pos_vals[:, 1].tolist() == [400, 500, 600, 700, 800] * 3
    assert h5_main.h5_pos_inds.dtype == np.uint32
    assert h5_main.h5_pos_vals.dtype == np.float32


def test_a_table_of_positions_becomes_the_position_values(h5_file):
    angle = np.linspace(0, 20, 300)
    table = PositionTable(["X", "Y"], ["um", "um"], np.stack([angle * np.cos(angle), angle], 1))
    h5_main = usid.write_main_dataset(
        h5_file, (300, 4), "Spiral", "Current", "nA", table, bias(), dtype="f4"
    )
    np.testing.assert_allclose(h5_main.h5_pos_vals[:], table.values, rtol=1e-6)
    assert usid.get_attr(h5_main.h5_pos_inds, "type").tolist() == [1, 1]
    assert h5_main.pos_dim_sizes == [300, 300]


def test_everything_is_in_place_when_swmr_begins(tmp_path):
    path = tmp_path / "swmr.h5"
    with h5py.File(path, "w", libver=("v110", "v110")) as file:
        h5_main = usid.write_main_dataset(
            file, (65536, 4), "Raw_Data", "Current", "nA",
            [usid.Dimension("X", "nm", 256), usid.Dimension("Y", "nm", 256)], bias(),
            dtype="f4", chunks=(4096, 4),
        )  # fmt: skip
        file.swmr_mode = True
        h5_main[7] = [1, 2, 3, 4]
        h5_main.flush()
        with h5py.File(path, "r", libver="latest", swmr=True) as reader:
            seen = usid.USIDataset(reader["Raw_Data"])
            for h5_dset in (seen, seen.h5_pos_inds, seen.h5_pos_vals, seen.h5_spec_vals):
                h5_dset.refresh()
            assert seen[7].tolist() == [1, 2, 3, 4]
            assert seen.h5_pos_inds[-1].tolist() == [255, 255]
        with pytest.raises(ValueError, match="SWMR"):
            usid.create_indexed_group(file, "Measurement")


def test_a_large_grid_is_streamed_into_few_bytes(tmp_path):
    path = tmp_path / "large.h5"
    with h5py.File(path, "w", libver=("v110", "v110")) as file:
        dims = [usid.Dimension("X", "nm", np.linspace(0, 1, 3000)), usid.Dimension("Y", "nm", 700)]
        h5_inds, h5_vals = usid.write_ind_val_dsets(file, dims, is_spectral=False)
        rows = np.arange(2_100_000)
        np.testing.assert_array_equal(h5_inds[:, 1], rows % 3000)
        np.testing.assert_array_equal(h5_inds[:, 0], rows // 3000)
        expected = np.linspace(0, 1, 3000, dtype=np.float32)
        np.testing.assert_array_equal(h5_vals[:, 1], expected[rows % 3000])
    assert path.stat().st_size < 1_000_000
