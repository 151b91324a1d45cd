"""The writing guide's ``write_utils``: dimensions and the constants of ancillary datasets."""

from .axes import INDICES_DTYPE, VALUES_DTYPE
from .dimension import Dimension, DimType, validate_dimensions

__all__ = ["INDICES_DTYPE", "VALUES_DTYPE", "DimType", "Dimension", "validate_dimensions"]
