"""Functions with a ``verbose`` argument say what they do, and nothing without it."""

import h5py
import pytest

import usidstreamd.h5usid as usid
from support.usid_files import band_excitation


@pytest.mark.parametrize("verbose", [True, False])
def test_verbose_functions_say_what_they_do(tmp_path, other_file, capsys, verbose):
    hu = usid.hdf_utils
    with h5py.File(band_excitation(tmp_path / "beps.h5"), "r+") as file:
        h5_group = file["Raw_Measurement"]
        h5_main = usid.USIDataset(h5_group["source_main"])
        pair = h5_main.h5_spec_inds, h5_main.h5_spec_vals
        for call in (
            lambda: hu.write_simple_attrs(h5_group, {"a": 1}, verbose=verbose),
            lambda: hu.copy_attributes(h5_group, other_file, verbose=verbose),
            lambda: hu.assign_group_index(h5_group, "source_main-Fitter", verbose=verbose),
            lambda: hu.write_ind_val_dsets(other_file, usid.Dimension("X", "", 2), verbose=verbose),
            lambda: hu.write_reduced_anc_dsets(file, *pair, "Bias", verbose=verbose),
            lambda: hu.get_unit_values(*pair, verbose=verbose),
            lambda: hu.get_all_main(file, verbose=verbose),
            lambda: hu.check_if_main(h5_group, verbose=verbose),
            lambda: hu.copy_dataset(h5_main, other_file, verbose=verbose),
            lambda: hu.copy_linked_objects(
                h5_main, other_file.create_group("new"), verbose=verbose
            ),
            lambda: hu.check_for_old(h5_main, "Fitter", {"att_1": 5}, verbose=verbose),
            lambda: hu.reshape_to_n_dims(h5_main, verbose=verbose),
            lambda: hu.reshape_from_n_dims(
                h5_main.get_n_dim_form(), h5_main.h5_pos_inds, pair[0], verbose=verbose
            ),
            lambda: h5_main.slice({"X": 1}, verbose=verbose),
            lambda: h5_main._get_dims_for_slice({"X": 1}, verbose=verbose),
            lambda: hu.write_main_dataset(
                file, (2, 2), "Main", "Current", "nA", usid.Dimension("X", "", 2),
                usid.Dimension("B", "", 2), aux_spec_prefix="S", dtype="f4", verbose=verbose,
            ),
        ):  # fmt: skip
            capsys.readouterr()
            call()
            assert bool(capsys.readouterr().out) is verbose
