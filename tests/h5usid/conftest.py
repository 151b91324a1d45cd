"""An open file that is closed after each test."""

import h5py
import pytest


@pytest.fixture
def h5_file(tmp_path):
    with h5py.File(tmp_path / "scan.h5", "w", libver=("v110", "v110")) as file:
        yield file


@pytest.fixture
def other_file(tmp_path):
    with h5py.File(tmp_path / "other.h5", "w", libver=("v110", "v110")) as file:
        yield file
