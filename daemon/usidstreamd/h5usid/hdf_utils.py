"""The writing guide's ``hdf_utils``: its functions, gathered under its name."""

from .ancillary import write_ind_val_dsets
from .attributes import get_attr, get_attributes, write_book_keeping_attrs, write_simple_attrs
from .checks import is_editable_h5, validate_h5_objs_in_same_h5_file
from .conformity import (
    check_if_main,
    validate_anc_dset_attrs,
    validate_anc_h5_dsets,
    validate_dims_against_main,
    validate_main_dset,
)
from .copying import copy_attributes, copy_dataset, copy_linked_objects
from .duplicates import copy_main_attributes, create_empty_dataset
from .groups import assign_group_index, create_indexed_group, write_dict_to_h5_group
from .lazy import lazy_load_array
from .links import (
    check_and_link_ancillary,
    get_auxiliary_datasets,
    link_h5_obj_as_alias,
    link_h5_objects_as_attrs,
)
from .main import link_as_main, write_main_dataset
from .reading import get_dimensionality, get_sort_order, get_unit_values
from .reduced import write_reduced_anc_dsets, write_reduced_spec_dsets
from .reshape import reshape_from_n_dims, reshape_to_n_dims
from .results import (
    check_for_matching_attrs,
    check_for_old,
    create_results_group,
    find_results_groups,
    get_source_dataset,
)
from .tree import find_dataset, get_all_main, get_h5_obj_refs, print_tree

__all__ = [
    "assign_group_index",
    "check_and_link_ancillary",
    "check_for_matching_attrs",
    "check_for_old",
    "check_if_main",
    "copy_attributes",
    "copy_dataset",
    "copy_linked_objects",
    "copy_main_attributes",
    "create_empty_dataset",
    "create_indexed_group",
    "create_results_group",
    "find_dataset",
    "find_results_groups",
    "get_all_main",
    "get_attr",
    "get_attributes",
    "get_auxiliary_datasets",
    "get_dimensionality",
    "get_h5_obj_refs",
    "get_sort_order",
    "get_source_dataset",
    "get_unit_values",
    "is_editable_h5",
    "lazy_load_array",
    "link_as_main",
    "link_h5_obj_as_alias",
    "link_h5_objects_as_attrs",
    "print_tree",
    "reshape_from_n_dims",
    "reshape_to_n_dims",
    "validate_anc_dset_attrs",
    "validate_anc_h5_dsets",
    "validate_dims_against_main",
    "validate_h5_objs_in_same_h5_file",
    "validate_main_dset",
    "write_book_keeping_attrs",
    "write_dict_to_h5_group",
    "write_ind_val_dsets",
    "write_main_dataset",
    "write_reduced_anc_dsets",
    "write_reduced_spec_dsets",
    "write_simple_attrs",
]
