"""``usidstream replay`` of real and made files: the new file equals its source in every position.

Positions and spectroscopic steps are matched by their values, label by label, so that nothing is
taken for granted about the order in which either file lists them; and pyUSID's own reader, where
both are h5USID, must find the same N-dimensional data in both.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import numpy.typing as npt
import pytest

from support.daemon import Daemon, command
from support.source_files import link_main, new_file, write_ancillaries

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"

pytestmark = [
    # pyUSID tells of its own future
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

Array = npt.NDArray[Any]


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with Daemon(tmp_path_factory.mktemp("replays") / "data") as daemon:
        yield daemon
    assert "Traceback" not in daemon.log


@pytest.fixture(scope="module")
def origin() -> Iterator[Any]:
    """Import pyUSID, whose 0.0.12 calls a name that numpy 2 has dropped."""
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        patch.setattr(np, "product", np.prod, raising=False)
        yield pytest.importorskip("pyUSID")


def shared_file(name: str) -> Path:
    path = DATA / name
    if not path.exists():
        pytest.skip(f"the folder of real data is not there: {DATA}")
    return path


def replay(daemon: Daemon, source: Path) -> Path:
    told = command("usidstream", "replay", source, "--to", daemon.endpoint, "--json")
    assert told.returncode == 0, told.stderr
    result = json.loads(told.stdout)
    assert (result["status"], result["missing"]) == ("complete", {})
    return Path(result["file"])


# -------------------------------------------------------------------- the two files, side by side


class Side(NamedTuple):
    """Axes of a main along one side: labels in alphabetical order, and a value of each per step."""

    labels: list[str]
    units: list[str]
    values: Array


class Main(NamedTuple):
    """A main with positions and steps in the order of their values."""

    quantity: str
    units: str
    positions: Side
    steps: Side
    data: Array


def read_mains(h5_file: h5py.File) -> list[Main]:
    found: list[Any] = []
    h5_file.visititems(lambda _, each: found.append(each))
    mains = [each for each in found if "Position_Values" in each.attrs]
    return [read_main(main) for main in sorted(mains, key=lambda main: main.name)]


def read_main(dataset: Any) -> Main:
    positions, rows = read_side(dataset.file[dataset.attrs["Position_Values"]], transposed=False)
    steps, cols = read_side(dataset.file[dataset.attrs["Spectroscopic_Values"]], transposed=True)
    quantity, units = dataset.attrs["quantity"], dataset.attrs["units"]
    return Main(text(quantity), text(units), positions, steps, dataset[...][rows][:, cols])


def read_side(values: Any, *, transposed: bool) -> tuple[Side, Array]:
    labels = [text(label) for label in values.attrs["labels"]]
    units = [text(unit) for unit in values.attrs["units"]]
    table = np.asarray(values[...]).T if transposed else np.asarray(values[...])
    columns = np.argsort(labels)
    table = table[:, columns]
    order = np.lexsort(table.T)
    side = Side([labels[c] for c in columns], [units[c] for c in columns], table[order])
    return side, order


def text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def assert_same(source: list[Main], copy: list[Main]) -> None:
    assert len(source) == len(copy)
    for theirs, ours in zip(source, copy, strict=True):
        assert (theirs.quantity, theirs.units) == (ours.quantity, ours.units)
        for their_side, our_side in (
            (theirs.positions, ours.positions),
            (theirs.steps, ours.steps),
        ):
            assert (their_side.labels, their_side.units) == (our_side.labels, our_side.units)
            np.testing.assert_array_equal(
                their_side.values.astype(our_side.values.dtype), our_side.values
            )
        assert theirs.data.dtype == ours.data.dtype
        np.testing.assert_array_equal(theirs.data, ours.data)


def assert_same_side(theirs: Side, ours: Side) -> None:
    assert (theirs.labels, theirs.units) == (ours.labels, ours.units)
    np.testing.assert_array_equal(theirs.values.astype(ours.values.dtype), ours.values)


def assert_same_in_pyusid(origin: Any, source: h5py.File, copy: h5py.File) -> None:
    """Compare what pyUSID's reader makes of both files."""
    found = [
        [origin.USIDataset(main) for main in origin.hdf_utils.get_all_main(h5_file)]
        for h5_file in (source, copy)
    ]
    assert len(found[0]) == len(found[1]) > 0
    for theirs, ours in zip(*found, strict=True):
        assert ours.data_descriptor == theirs.data_descriptor
        assert ours.shape == theirs.shape
        assert sorted(ours.pos_dim_labels) == sorted(theirs.pos_dim_labels)
        assert sorted(ours.spec_dim_labels) == sorted(theirs.spec_dim_labels)
        for label in theirs.pos_dim_labels:
            np.testing.assert_allclose(
                ours.get_pos_values(label), theirs.get_pos_values(label), rtol=1e-6
            )
        for label in theirs.spec_dim_labels:
            np.testing.assert_allclose(
                ours.get_spec_values(label), theirs.get_spec_values(label), rtol=1e-6
            )
        axes = [ours.n_dim_labels.index(label) for label in theirs.n_dim_labels]
        assert [ours.n_dim_sizes[axis] for axis in axes] == list(theirs.n_dim_sizes)
        np.testing.assert_array_equal(
            np.transpose(ours.get_n_dim_form(), axes), theirs.get_n_dim_form()
        )


def assert_one_set_of_positions(h5_file: h5py.File, n_mains: int) -> None:
    found: list[Any] = []
    h5_file.visititems(lambda _, each: found.append(each))
    mains = [each for each in found if "Position_Values" in each.attrs]
    assert len(mains) == n_mains
    for name in ("Position_Values", "Position_Indices"):
        assert len({h5_file[main.attrs[name]].name for main in mains}) == 1
        assert sum(each.name.endswith(f"/{name}") for each in found) == 1


# -------------------------------------------------------------------- real files


@pytest.mark.parametrize(
    ("name", "n_mains"), [("SingFreqPFM_0003.h5", 4), ("AFM_Force_Curve.h5", 1)]
)
def test_a_real_h5usid_file(daemon: Daemon, origin: Any, name: str, n_mains: int) -> None:
    source = shared_file(name)
    copy = replay(daemon, source)
    with h5py.File(source) as theirs, h5py.File(copy) as ours:
        assert_same(read_mains(theirs), read_mains(ours))
        assert_one_set_of_positions(ours, n_mains)
        assert_same_in_pyusid(origin, theirs, ours)


def test_a_real_nsid_file(daemon: Daemon, origin: Any) -> None:
    source = shared_file("BEPS_PTO_50x50.h5")
    copy = replay(daemon, source)
    with h5py.File(source) as theirs, h5py.File(copy) as ours:
        data = theirs["Channel_000/generic/generic"]
        labels = [data.dims[axis].label for axis in range(data.ndim)]
        assert labels == ["X", "Y", "Voltage"]
        main = origin.USIDataset(ours["Measurement_000/generic"])
        assert main.data_descriptor == "Piezoresponse (a.u.)"
        assert (sorted(main.pos_dim_labels), main.spec_dim_labels) == (["X", "Y"], ["Voltage"])
        axes = [main.n_dim_labels.index(label) for label in labels]
        np.testing.assert_array_equal(np.transpose(main.get_n_dim_form(), axes), data[...])
        for axis, label in enumerate(labels):
            values = data.dims[axis][0][...].astype("f4")
            get = main.get_spec_values if label == "Voltage" else main.get_pos_values
            np.testing.assert_array_equal(get(label), values)


# -------------------------------------------------------------------- made files

N_X, N_Y, N_BIAS, N_CYCLE = 6, 4, 7, 2
POSITIONS = [("X", "nm", np.linspace(-1, 1, N_X)), ("Y", "um", np.arange(N_Y) * 2.5)]
SPECTRA = [("Bias", "V", np.linspace(-3, 3, N_BIAS)), ("Cycle", "", np.arange(float(N_CYCLE)))]
CHANNELS = [("Amplitude", "pm", "f4"), ("Phase", "rad", "f8"), ("Counts", "", "u2")]


def make_old_file(path: Path, visited: Array | None) -> None:
    """Write channels as pyUSID did before 2019; ``visited`` is the order of measurement."""
    rng = np.random.default_rng(5)
    with new_file(path) as h5_file:
        group = h5_file.create_group("Measurement_000")
        tables = write_ancillaries(group, "Position", POSITIONS, old=True, visited=visited)
        tables += write_ancillaries(group, "Spectroscopic", SPECTRA, old=True)
        for index, (quantity, units, dtype) in enumerate(CHANNELS):
            channel = group.create_group(f"Channel_{index:03d}")
            data = (rng.random((N_X * N_Y, N_BIAS * N_CYCLE)) * 1000).astype(dtype)
            more = {"quantity": quantity, "units": units or "a. u."}
            link_main(channel, "Raw_Data", data, tables, **more)


@pytest.mark.parametrize("order", ["grid", "measurement"])
def test_a_file_of_the_old_layout(daemon: Daemon, origin: Any, tmp_path: Path, order: str) -> None:
    shuffled = np.random.default_rng(6).permutation(N_X * N_Y)
    make_old_file(tmp_path / "old.h5", shuffled if order == "measurement" else None)
    copy = replay(daemon, tmp_path / "old.h5")
    with h5py.File(tmp_path / "old.h5") as theirs, h5py.File(copy) as ours:
        assert_same(read_mains(theirs), read_mains(ours))
        assert_one_set_of_positions(ours, len(CHANNELS))
        if order == "grid":  # pyUSID has no N-dimensional form for rows in any other order
            assert_same_in_pyusid(origin, theirs, ours)
