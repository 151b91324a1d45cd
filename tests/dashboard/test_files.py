"""What the page reads from files: axes of any writer, reduced rows, spectra, and what it cannot."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import h5py
import numpy as np
import pytest

from support.usid_files import band_excitation, spiral
from usidstreamd.dashboard.files import Files, FileUnavailableError
from usidstreamd.dashboard.views import Kind

T = TypeVar("T")


def ask(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


def test_a_file_of_another_writer_tells_its_axes(tmp_path: Path) -> None:
    path = band_excitation(tmp_path / "beps.h5")
    files = Files()
    views = ask(files.views(path))
    assert len(views) == 3
    (view,) = [view for view in views if view.name.endswith("source_main")]
    assert (view.kind, view.label, view.width, view.height) == (Kind.MAP, "Current (A)", 5, 3)
    assert [axis.name for axis in view.spectrum] == ["Bias", "Cycle"]
    number = views.index(view)
    with h5py.File(path, locking=False) as h5_file:
        data = h5_file["Raw_Measurement/source_main"][...]
    found = ask(files.reduced(path, number, "at:3", lambda held, *_: np.flatnonzero(held)))
    np.testing.assert_allclose(found.values, data[:, 3])
    found = ask(files.spectrum(path, number, 7))
    np.testing.assert_allclose(found.values, data[7], rtol=1e-6)
    assert found.is_whole
    files.close()


def test_a_table_of_positions_becomes_a_cloud(tmp_path: Path) -> None:
    files = Files()
    (view,) = ask(files.views(spiral(tmp_path / "spiral.h5")))
    assert (view.kind, len(view.positions)) == (Kind.CLOUD, 2)
    files.close()


def test_what_cannot_be_read_is_said_and_can_be_tried_again(tmp_path: Path) -> None:
    files = Files()
    path = tmp_path / "scan.h5"
    with pytest.raises(FileUnavailableError, match="No such file"):
        ask(files.views(path))
    band_excitation(path)
    assert len(ask(files.views(path))) == 3
    with pytest.raises(FileUnavailableError):
        ask(files.spectrum(path, 0, 10_000))
    files.close()


def test_the_newest_files_are_listed_first(tmp_path: Path) -> None:
    files = Files()
    for number, name in enumerate(("old.h5", "new.h5", "notes.txt")):
        (tmp_path / name).write_text("")
        os.utime(tmp_path / name, (number, number))
    (tmp_path / "new.h5.journal").mkdir()
    assert [path.name for path in ask(files.listed(tmp_path))] == ["new.h5", "old.h5"]
    files.close()
