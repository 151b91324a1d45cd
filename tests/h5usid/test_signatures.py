"""Names, arguments and their order are those of pyUSID and sidpy."""

import inspect
import warnings

import numpy as np
import pytest

import usidstreamd.h5usid as usid
from usidstreamd.h5usid import hdf_utils, write_utils

# The guide's, and whatever stands beside them and is used with them.
NAMES = [name for name in hdf_utils.__all__ if name != "write_reduced_spec_dsets"]
# Public methods of their USIDataset; what is not carried over is listed in docs/format.md.
METHODS = ("__init__", "get_pos_values", "get_spec_values", "get_current_sorting", "slice")
METHODS += ("toggle_sorting", "get_n_dim_form", "visualize", "_get_pos_spec_slices")
METHODS += ("_get_dims_for_slice",)


@pytest.fixture(scope="module")
def origins():
    """Return the modules of pyUSID and sidpy; pyUSID 0.0.12 calls a name that numpy 2 lacks."""
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        patch.setattr(np, "product", np.prod, raising=False)
        pyusid, sidpy = pytest.importorskip("pyUSID"), pytest.importorskip("sidpy")
        io = pyusid.io
        yield [io.hdf_utils, sidpy.hdf.hdf_utils, sidpy.hdf.prov_utils], io, pyusid


def arguments(function):
    """Return names, kinds and defaults of arguments; defaults as text, for modes differ in type."""
    parameters = inspect.signature(function).parameters.values()
    return [(item.name, item.kind, repr(item.default)) for item in parameters]


@pytest.mark.parametrize("name", NAMES)
def test_functions_take_the_arguments_of_their_origin(origins, name):
    [origin, *_] = [getattr(module, name) for module in origins[0] if hasattr(module, name)]
    assert arguments(getattr(hdf_utils, name)) == arguments(origin)
    assert getattr(usid, name) is getattr(hdf_utils, name)


def test_the_guides_reduction_takes_the_arguments_of_the_first_version():
    names = list(inspect.signature(usid.write_reduced_spec_dsets).parameters)
    assert names == ["h5_parent_group", "h5_spec_inds", "h5_spec_vals", "dim_name", "basename"]


def test_matrices_and_dimensions_are_made_as_there(origins):
    _, io, _ = origins
    for name in write_utils.__all__:
        origin = getattr(io.write_utils, name, None) or getattr(io.dimension, name)
        if callable(origin) and name != "DimType" and not name.endswith("_DTYPE"):
            assert arguments(getattr(write_utils, name)) == arguments(origin), name
    for name in ("INDICES_DTYPE", "VALUES_DTYPE"):
        assert getattr(write_utils, name) is getattr(io.write_utils, name)
    modes = {mode.name: mode.value for mode in io.DimType}
    assert {mode.name: mode.value for mode in usid.DimType} == modes


@pytest.mark.parametrize("name", METHODS)
def test_methods_take_the_arguments_of_their_origin(origins, name):
    _, _, pyusid = origins
    ours, theirs = (getattr(owner.USIDataset, name) for owner in (usid, pyusid))
    assert arguments(ours) == arguments(theirs)


def test_modules_have_the_names_that_scripts_import():
    from usidstreamd.h5usid.dimension import Dimension, DimType
    from usidstreamd.h5usid.hdf_utils import get_attr
    from usidstreamd.h5usid.usi_dataset import USIDataset
    from usidstreamd.h5usid.write_utils import Dimension as SameDimension

    assert (Dimension, DimType) == (usid.Dimension, usid.write_utils.DimType)
    assert (SameDimension, USIDataset, get_attr) == (usid.Dimension, usid.USIDataset, usid.get_attr)
    for name in usid.prov_utils.__all__:
        assert getattr(usid.prov_utils, name) is getattr(usid, name)


def test_provenance_has_the_names_of_sidpys_module(origins):
    [*_, prov_utils] = origins[0]
    functions = inspect.getmembers(prov_utils, inspect.isfunction)
    own = [name for name, function in functions if function.__module__ == prov_utils.__name__]
    assert own == usid.prov_utils.__all__
