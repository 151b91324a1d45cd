"""Files of other writers: old ancillaries, links of every kind, references into everywhere."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from support.merge_files import described, everything, finished, scan_id, stored
from support.usid_files import band_excitation, link, old_ancillaries, spiral
from usidstreamd.h5usid import USIDataset, find_results_groups, get_all_main
from usidstreamd.merging import MergeError, merge
from usidstreamd.verify import verify_file

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"


def write_measurement(group: Any, positions_in: Any, name: str = "Raw", **more: Any) -> Any:
    """Write a 4 x 3 main whose position datasets stand in another group."""
    if "Position_Indices" not in positions_in:
        old_ancillaries(positions_in, "Position", np.arange(4)[:, None], np.arange(4)[:, None],
                        ["X"], ["nm"], False)  # fmt: skip
    positions = [positions_in["Position_Indices"], positions_in["Position_Values"]]
    if "Spectroscopic_Indices" not in group:
        old_ancillaries(
            group, "Spectroscopic", [np.arange(3)], [np.arange(3.0)], ["F"], ["Hz"], True
        )
    spectra = [group["Spectroscopic_Indices"], group["Spectroscopic_Values"]]
    h5_main = group.create_dataset(name, data=np.arange(12.0).reshape(4, 3), **more)
    return link(h5_main, "Current", "A", [*positions, *spectra])


def test_an_old_file_with_results_is_taken_over_whole(tmp_path: Path) -> None:
    source, session = band_excitation(tmp_path / "old.h5"), tmp_path / "day.h5"
    report = merge(session, [source])
    assert [merged.group for merged in report.merged] == ["/Raw_Measurement_000"]
    assert len(report.merged[0].mains) == 3
    with h5py.File(source) as h5_file, h5py.File(session) as h5_session:
        copy = h5_session["Raw_Measurement_000"]
        assert described(copy) == described(h5_file["Raw_Measurement"])
        main = USIDataset(copy["source_main"])
        origin = USIDataset(h5_file["Raw_Measurement/source_main"])
        np.testing.assert_array_equal(main.get_n_dim_form(), origin.get_n_dim_form())
        assert len(find_results_groups(main, "Fitter")) == 2
        region = main.attrs["even_rows"]
        assert h5_session[region] == main
        np.testing.assert_array_equal(main[region], h5_file["Raw_Measurement/source_main"][::2])


def test_a_session_of_the_oldest_kind_of_hdf5_can_grow(tmp_path: Path) -> None:
    session = band_excitation(tmp_path / "day.h5")
    with h5py.File(session) as h5_file:
        before = described(h5_file["Raw_Measurement"])
    merge(session, [finished(tmp_path / "s", scan_id(0))])
    with h5py.File(session) as h5_file:
        assert described(h5_file["Raw_Measurement"]) == before
        assert len(get_all_main(h5_file)) == 6
    assert verify_file(session).faults == []


def test_stored_bytes_are_never_decoded(tmp_path: Path) -> None:
    """No encoder makes such chunks: decoding and encoding again would change them."""
    source = tmp_path / "odd.h5"
    with h5py.File(source, "w") as h5_file:
        group = h5_file.create_group("Measurement_000")
        main = write_measurement(group, group, chunks=(2, 3), compression="gzip", shuffle=True)
        raw = np.zeros((2, 3)).tobytes()
        main.id.write_direct_chunk((0, 0), zlib.compress(raw, 0))
        main.id.write_direct_chunk((2, 0), raw, filter_mask=3)
        wanted = stored(main)
    merge(tmp_path / "day.h5", [source])
    with h5py.File(tmp_path / "day.h5") as h5_file:
        assert stored(h5_file["Measurement_000/Raw"]) == wanted
    assert {mask for mask, _ in wanted.values()} == {0, 3}


def test_ancillaries_from_elsewhere_come_along_once_for_all_mains(tmp_path: Path) -> None:
    source = tmp_path / "apart.h5"
    with h5py.File(source, "w") as h5_file:
        apart = h5_file.create_group("Ancillary")
        for number in range(2):
            group = h5_file.create_group(f"Measurement_{number:03d}")
            group["Position_Values"] = "a name that is taken"
            for name in ("A", "B"):
                write_measurement(group, apart, name)
    report = merge(tmp_path / "day.h5", [source])
    assert report.notes == [f"{source}: not in a measurement, not merged: Ancillary"]
    with h5py.File(tmp_path / "day.h5") as h5_file:
        mains = get_all_main(h5_file)
        held = [h5_file[main.attrs["Position_Values"]].name for main in mains]
        assert held == ["/Measurement_000/Position_Values_1"] * 4
        assert h5_file["Measurement_000/Position_Values"][()] == b"a name that is taken"
        assert mains[0][...].tolist() == np.arange(12).reshape(4, 3).tolist()


def test_links_and_references_of_every_kind_lead_to_the_copies(tmp_path: Path) -> None:
    source, session = tmp_path / "linked.h5", band_excitation(tmp_path / "day.h5")
    with h5py.File(source, "w") as h5_file:
        group = h5_file.create_group("Measurement_000")
        main = write_measurement(group, group)
        group["same"] = main
        group["round"] = group
        group["soft"] = h5py.SoftLink("/Measurement_000/Raw")
        group["near"] = h5py.SoftLink("Raw")
        group["text"] = ["a", "longer text"]
        group.create_dataset("chunked_text", data=["x" * 99, "y"], chunks=(1,))
        table = np.array([(1, "in a table")], [("n", "i4"), ("text", h5py.string_dtype())])
        group.create_dataset("table", data=table, chunks=(1,))
        group["kind"] = np.dtype("f4")
        scale = group.create_dataset("scale", data=np.arange(3.0))
        scale.make_scale("F")
        main.dims[1].attach_scale(scale)
        references = group.create_dataset("list", (3,), dtype=h5py.ref_dtype, chunks=(2,))
        references[0], references[2] = main.ref, group.ref
        group.attrs["root"] = h5_file.ref
    merge(session, [spare(tmp_path)])  # so that the number changes
    report = merge(session, [source])
    assert report.notes == [f"{source}: /Measurement_000: refers to /, which is in no measurement"]
    with h5py.File(session) as h5_file:
        group = h5_file["Measurement_001"]
        main = group["Raw"]
        assert all(group[name] == main for name in ("same", "soft", "near"))
        assert group["round"] == group
        assert group.get("soft", getlink=True).path == "/Measurement_001/Raw"
        assert [*group["text"].asstr()[...], *group["chunked_text"].asstr()[...]] == [
            "a", "longer text", "x" * 99, "y",
        ]  # fmt: skip
        assert group["table"][0].tolist() == (1, b"in a table")
        assert group["kind"].dtype == np.dtype("f4")
        assert main.dims[1]["F"] == group["scale"]
        assert h5_file[group["scale"].attrs["REFERENCE_LIST"][0][0]] == main
        first, null, last = group["list"][...]
        assert (h5_file[first], bool(null), h5_file[last]) == (main, False, group)
        assert not group.attrs["root"]


def spare(folder: Path) -> Path:
    with h5py.File(folder / "spare.h5", "w") as h5_file:
        write_measurement(group := h5_file.create_group("Measurement_000"), group)
    return folder / "spare.h5"


def test_what_a_file_says_of_itself_is_kept_with_each_measurement(tmp_path: Path) -> None:
    source = spare(tmp_path)
    with h5py.File(source, "r+") as h5_file:
        h5_file.attrs.update({"sample_name": "PTO", "operator": "the file's"})
        h5_file["Measurement_000"].attrs["operator"] = "its own"
    report = merge(tmp_path / "day.h5", [source])
    with h5py.File(tmp_path / "day.h5") as h5_file:
        assert h5_file["Measurement_000"].attrs["sample_name"] == "PTO"
        assert h5_file["Measurement_000"].attrs["operator"] == "its own"
    (note,) = report.notes
    assert note.endswith("attributes of the file that /Measurement_000 has no place for: operator")


def test_a_main_outside_of_a_measurement_is_refused(tmp_path: Path) -> None:
    source = spiral(tmp_path / "spiral.h5")
    with pytest.raises(MergeError, match="main dataset Raw_Data stands in no measurement group"):
        merge(tmp_path / "day.h5", [source])
    assert list(everything(tmp_path)) == ["spiral.h5"]


@pytest.mark.parametrize("name", ["SingFreqPFM_0003.h5", "AFM_Force_Curve.h5"])
def test_real_files_are_taken_over_and_open_in_pyusid(tmp_path: Path, name: str) -> None:
    if not (DATA / name).exists():
        pytest.skip(f"no real data beside the checkout: {DATA}")
    report = merge(tmp_path / "day.h5", [DATA / name])
    pyusid = pytest.importorskip("pyUSID")
    with h5py.File(DATA / name) as h5_file, h5py.File(tmp_path / "day.h5") as h5_session:
        wanted = described(h5_file["Measurement_000"])
        found = described(h5_session["Measurement_000"])
        wanted[""] = found[""] = {**wanted[""], **found[""]}  # and the file's own attributes
        assert found == wanted
        for path in report.merged[0].mains:
            main = pyusid.USIDataset(h5_session[path])
            assert main.shape == h5_file[path].shape
