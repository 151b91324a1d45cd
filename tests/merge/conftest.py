"""Most tests verify in their own process: their files are such as HDF5 reads well."""

import pytest

import usidstreamd.verify
from usidstreamd.verify.reading import read_file


class _NoSteps:
    def expect(self, total):
        pass

    def step(self):
        pass

    advance = step


@pytest.fixture(autouse=True)
def quick_verify(request, monkeypatch):
    """Spare the processes that read."""
    if "in_processes" not in request.fixturenames:
        monkeypatch.setattr(
            usidstreamd.verify,
            "_read_in_a_process",
            lambda path, report, _progress: read_file(path, report, _NoSteps()),
        )


@pytest.fixture
def in_processes():
    """Let verify read as it does for users."""
