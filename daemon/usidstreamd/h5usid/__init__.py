"""The format layer: writes and reads h5USID files with the functions of the writing guide.

``import usidstreamd.h5usid as usid`` and go on as the guide does. Knows HDF5 and the USID model;
never sockets, threads or any other part of the daemon.
"""

from . import hdf_utils, prov_utils, write_utils
from .dimension import Dimension, DimType
from .hdf_utils import *  # noqa: F403 - the guide's names, listed there once
from .live import LiveFile, LiveMain, open_live
from .swmr import open_readable
from .usi_dataset import USIDataset

__all__ = [
    "DimType",
    "Dimension",
    "LiveFile",
    "LiveMain",
    "USIDataset",
    "hdf_utils",
    "open_live",
    "open_readable",
    "prov_utils",
    "write_utils",
]
__all__ += hdf_utils.__all__
