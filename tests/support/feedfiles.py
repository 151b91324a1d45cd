"""Holds a finished file against the feed that it came from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np

from usidstream.feeds import Feed


def main_datasets(h5_file: h5py.File, feed: Feed) -> dict[str, Any]:
    """Return the dataset of each main, by the main's name."""
    group = h5_file[f"{feed.layout.name}_000"]
    if len(feed.layout.mains) == 1:
        main = feed.layout.mains[0]
        return {main.name: group[main.dataset]}
    return {
        main.name: group[f"Channel_{index:03d}/{main.dataset}"]
        for index, main in enumerate(feed.layout.mains)
    }


def differing_rows(file: str | Path, feed: Feed) -> dict[str, list[int]]:
    """Return the positions at which a file differs from its feed, for each main that has any."""
    rows = np.arange(feed.layout.n_positions)
    found = {}
    with h5py.File(file, "r") as h5_file:
        for name, dataset in main_datasets(h5_file, feed).items():
            wanted = feed.values(name, rows)
            assert (dataset.shape, dataset.dtype) == (wanted.shape, wanted.dtype)
            unequal = np.any(dataset[...] != wanted, axis=1).nonzero()[0]
            if len(unequal):
                found[name] = unequal.tolist()
    return found
