"""sidpy's ``prov_utils``: numbered groups and results, where later guides import them from."""

from .groups import assign_group_index, create_indexed_group
from .results import (
    check_for_matching_attrs,
    check_for_old,
    create_results_group,
    find_results_groups,
    get_source_dataset,
)

__all__ = [
    "assign_group_index",
    "check_for_matching_attrs",
    "check_for_old",
    "create_indexed_group",
    "create_results_group",
    "find_results_groups",
    "get_source_dataset",
]
