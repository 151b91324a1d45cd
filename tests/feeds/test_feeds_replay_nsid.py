"""Replay of NSID files: axes become positions or spectra by type, the array stays the array."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from support.scan_double import ScanDouble
from support.source_files import new_file, write_nsid
from usidstream.feeds.replay import SourceError, open_replay
from usidstream.layout import SINGLE_STEP, Dimension

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"

AXES = {
    "X": ("X", "um", np.linspace(0, 1, 4), "SPATIAL"),
    "Y": ("Y", "um", np.linspace(0, 2, 3), "SPATIAL"),
    "Z": ("Z", "um", np.linspace(0, 3, 2), "SPATIAL"),
    "V": ("V", "V", np.linspace(-5, 5, 6), "SPECTRAL"),
    "K": ("K", "1/nm", np.linspace(-1, 1, 5), "RECIPROCAL"),
    "T": ("T", "s", np.linspace(0, 9, 7), "TEMPORAL"),
    "C": ("C", "", np.arange(3.0), "CHANNEL"),
}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "source.h5"


def write_array(path, axes, **options):
    shape = [len(AXES[axis][2]) for axis in axes]
    data = np.random.default_rng(3).standard_normal(shape)
    with new_file(path) as h5_file:
        group = h5_file.create_group("Measurement_000/Channel_000/Image")
        write_nsid(group, "Image", data, [AXES[axis] for axis in axes], **options)
    return data


@pytest.mark.parametrize("block_bytes", [1, 100, 700, 2**20])
@pytest.mark.parametrize("chunks", [None, True], ids=["contiguous", "chunked"])
@pytest.mark.parametrize(
    "axes", ["XYV", "YX", "V", "VYX", "TYX", "XVY", "YXKV", "XKYV", "ZYXV", "YXC", "X", "TXVY"]
)
def test_axes_in_any_order(path, axes, chunks, block_bytes):
    data = write_array(path, axes, chunks=chunks)
    with open_replay(path) as recording:
        scan = ScanDouble(recording.layout)
        for name, piece in recording.pieces(block_bytes):
            scan.write_block(piece.rows, piece.data, col=piece.col, main=name)
            assert piece.data.nbytes <= max(block_bytes, 8)
    assert scan.is_complete
    positions = [axis for axis in axes if axis in "XYZ"]
    spectra = [axis for axis in axes if axis not in "XYZ"]
    layout = recording.layout
    expected = tuple(Dimension(*AXES[axis][:3]) for axis in reversed(positions))
    assert layout.positions == (expected or (Dimension("Point", "", 1),))
    expected = tuple(Dimension(*AXES[axis][:3]) for axis in reversed(spectra))
    assert layout.mains[0].spectroscopic == (expected or (SINGLE_STEP,))
    first = [axes.index(axis) for axis in positions + spectra]
    n_dim = scan.arrays["Image"].reshape([len(AXES[axis][2]) for axis in positions + spectra])
    np.testing.assert_array_equal(n_dim, data.transpose(first))


@pytest.mark.parametrize(("axes", "order"), [("TYX", "columns"), ("YXV", "rows"), ("V", "rows")])
def test_a_stack_of_images_comes_by_columns(path, axes, order):
    write_array(path, axes)
    with open_replay(path) as recording:
        assert recording.layout.mains[0].order == order


@pytest.mark.parametrize(
    ("kind", "is_position"),
    [("SPATIAL", True), ("spatial", True), ("DimensionType.SPATIAL", True), (1, True),
     (np.bytes_("SPATIAL"), True),
     ("POINT_CLOUD", True), ("SPECTRAL", False), (3, False), ("UNKNOWN", False), (-1, False)],
)  # fmt: skip
def test_ways_to_write_a_dimension_type(path, kind, is_position):
    with new_file(path) as h5_file:
        axes = [("A", "m", np.arange(4.0), kind), ("V", "V", np.arange(2.0), "SPECTRAL")]
        write_nsid(h5_file.create_group("data"), "data", np.zeros((4, 2)), axes)
    with open_replay(path) as recording:
        assert recording.layout.n_positions == (4 if is_position else 1)
    is_unknown = kind in ("UNKNOWN", -1)
    assert bool(recording.notes) == is_unknown


def test_metadata_beside_the_main_is_carried(path):
    data = write_array(path, "YXV")
    with h5py.File(path, "r+") as h5_file:
        group = h5_file["Measurement_000/Channel_000/Image"]
        group["Image"].attrs.update({"modality": "PFM", "source": "S", "pyNSID_version": "0.0.7"})
        group.create_group("original_metadata/deep").attrs["gain"] = 5
        group.create_group("metadata").attrs["operator"] = "A"
    with open_replay(path) as recording:
        main = recording.layout.mains[0]
    assert recording.notes == ()
    assert recording.layout.name == "Measurement"
    assert (main.quantity, main.units, main.np_dtype) == ("Piezoresponse", "pm", data.dtype)
    assert main.attrs == {
        "modality": "PFM", "source": "S", "source_pyNSID_version": "0.0.7",
        "metadata.operator": "A", "original_metadata.deep.gain": 5,
        "X.quantity": "Q1", "X.dimension_type": "SPATIAL",
        "Y.quantity": "Q0", "Y.dimension_type": "SPATIAL",
        "V.quantity": "Q2", "V.dimension_type": "SPECTRAL",
    }  # fmt: skip


def test_an_axis_without_a_scale_is_counted(path):
    with new_file(path) as h5_file:
        write_nsid(h5_file.create_group("data"), "data", np.zeros((4, 2)), [AXES["X"]])
    with open_replay(path) as recording:
        assert recording.layout.mains[0].spectroscopic == (Dimension("Dimension_1", "", 2),)
    assert "has no scale" in recording.notes[0]


def test_scales_alone_do_not_make_a_main(path):
    """As in netCDF files, where nothing tells positions from spectra."""
    with new_file(path) as h5_file:
        write_nsid(h5_file, "field", np.zeros(4), [("lat", "deg", np.arange(4.0), None)])
    with pytest.raises(SourceError, match="no main dataset"), open_replay(path):
        pass


def test_real_switching_spectroscopy():
    path = DATA / "BEPS_PTO_50x50.h5"
    if not path.is_file():
        pytest.skip("the real file BEPS_PTO_50x50.h5 is not here")
    with open_replay(path) as recording:
        scan = ScanDouble(recording.layout)
        recording.send(scan)
    layout = recording.layout
    assert [(d.name, d.units, d.size) for d in layout.positions] == [("Y", "m", 50), ("X", "m", 50)]
    assert [(d.name, d.units) for d in layout.mains[0].spectroscopic] == [("Voltage", "V")]
    with h5py.File(path) as h5_file:
        source = h5_file["Channel_000/generic/generic"][()]
    assert scan.is_complete
    assert scan.arrays["generic"].reshape(50, 50, 64).tobytes() == source.tobytes()
