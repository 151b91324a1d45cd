"""The writing guide's ``write_utils``: dimensions, and ancillary matrices made by hand."""

from .axes import INDICES_DTYPE, VALUES_DTYPE
from .dimension import Dimension, DimType, validate_dimensions
from .matrices import (
    build_ind_val_matrices,
    calc_chunks,
    create_spec_inds_from_vals,
    get_aux_dset_slicing,
    make_indices_matrix,
)

__all__ = [
    "INDICES_DTYPE",
    "VALUES_DTYPE",
    "DimType",
    "Dimension",
    "build_ind_val_matrices",
    "calc_chunks",
    "create_spec_inds_from_vals",
    "get_aux_dset_slicing",
    "make_indices_matrix",
    "validate_dimensions",
]
