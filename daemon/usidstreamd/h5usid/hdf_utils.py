"""The writing guide's ``hdf_utils``: its functions, gathered under its name."""

from .ancillary import write_ind_val_dsets
from .attributes import get_attr, get_attributes, write_book_keeping_attrs, write_simple_attrs
from .checks import is_editable_h5
from .conformity import check_if_main
from .copying import copy_attributes, copy_dataset
from .groups import assign_group_index, create_indexed_group
from .links import get_auxiliary_datasets, link_h5_obj_as_alias, link_h5_objects_as_attrs
from .main import link_as_main, write_main_dataset
from .tree import print_tree

__all__ = [
    "assign_group_index",
    "check_if_main",
    "copy_attributes",
    "copy_dataset",
    "create_indexed_group",
    "get_attr",
    "get_attributes",
    "get_auxiliary_datasets",
    "is_editable_h5",
    "link_as_main",
    "link_h5_obj_as_alias",
    "link_h5_objects_as_attrs",
    "print_tree",
    "write_book_keeping_attrs",
    "write_ind_val_dsets",
    "write_main_dataset",
    "write_simple_attrs",
]
