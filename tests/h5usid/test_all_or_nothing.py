"""A call that HDF5 fails in the middle leaves the file as it was, wherever that is.

Every call is made again and again; each time the next step of HDF5 raises, until none is left.
"""

import contextlib
from itertools import count

import h5py
import numpy as np
import pytest

import usidstreamd.h5usid as usid
from support.usid_files import contents, grid_indices, link, old_ancillaries
from usidstreamd.h5usid import Dimension, ancillary

ANCILLARIES = ("h5_pos_inds", "h5_pos_vals", "h5_spec_inds", "h5_spec_vals")
GROUP, ATTRIBUTES = h5py.Group, h5py.AttributeManager
WRITING = (
    *((GROUP, name) for name in ("create_group", "create_dataset", "__setitem__", "copy")),
    *((owner, "__delitem__") for owner in (GROUP, ATTRIBUTES)),
    *((h5py.h5a, name) for name in ("create", "rename")),
    (h5py.h5r, "create"),
    (ancillary, "shuffled_deflate"),
)
READING = ((ATTRIBUTES, "__getitem__"),)


class HDF5Error(OSError):
    """What no program could expect."""


class FailingStep:
    """Makes one step of HDF5 fail, before or after it is done."""

    def __init__(self, patch, number, late):
        self.passed, self.number, self.late = 0, number, late
        for owner, name in WRITING if late else WRITING + READING:
            patch.setattr(owner, name, self.failing(getattr(owner, name)))

    def failing(self, step):
        def stand_in(*args, **kwargs):
            self.passed += 1
            mine = self.passed == self.number
            if mine and not self.late:
                raise HDF5Error
            result = step(*args, **kwargs)
            if mine:
                raise HDF5Error
            return result

        return stand_in


@pytest.fixture
def files():
    """Two files in memory: a main with old ancillaries and a neighbour; a foreign file."""
    keywords = {"driver": "core", "backing_store": False}
    with h5py.File("here", "w", **keywords) as here, h5py.File("there", "w", **keywords) as there:
        inds, bias = grid_indices(3, 2), grid_indices(2, 2).T
        pairs = [
            *old_ancillaries(here, "Position", inds, inds, ["X", "Y"], ["nm", "um"], False),
            *old_ancillaries(here, "Spectroscopic", bias, bias, ["B", "C"], ["V", "V"], True),
        ]
        h5_main = link(here.create_dataset("Main", data=np.ones((6, 4))), "Current", "A", pairs)
        h5_main.attrs["even"] = h5_main.regionref[::2]
        here.create_dataset("Plain", data=np.zeros((6, 4)))
        here["Plain"].attrs.update({"quantity": "before", "units": "V"})
        here.attrs.update({"text": "before", "list": [1, 2, 3]})
        there["Position_Indices"] = here["Position_Indices"][()]
        there["Duplicate"] = [4, 5]
        yield here, there


def dims(*sizes):
    return [Dimension(name, "nm", size) for name, size in zip("XYZ", sizes, strict=False)]


def new_main(h5_file, shape, pos_dims, **keywords):
    return usid.write_main_dataset(
        h5_file, shape, "New", "Height", "nm", pos_dims, dims(2), dtype="f4", **keywords
    )


def shared(here):
    h5_main = usid.USIDataset(here["Main"])
    return {name: getattr(h5_main, name) for name in ANCILLARIES}


CALLS = {
    "large main": lambda here, _: new_main(
        here, (30_000, 2), dims(200, 150), main_dset_attrs={"a": ["b", "c"]}, aux_pos_prefix="P",
        aux_spec_prefix="S",
    ),
    "main from another file": lambda here, there: usid.write_main_dataset(
        there, np.ones((6, 4)), "New", "Height", "nm", None, None, **shared(here)
    ),
    "ancillaries": lambda _, there: usid.write_ind_val_dsets(there, dims(3, 2)),
    "reduced": lambda here, there: usid.write_reduced_spec_dsets(
        there, here["Spectroscopic_Indices"], here["Spectroscopic_Values"], "C"
    ),
    "indexed group": lambda here, _: usid.create_indexed_group(here, "Measurement"),
    "results group": lambda here, _: usid.create_results_group(here["Main"], "Fit"),
    "nested attributes": lambda here, _: usid.write_simple_attrs(
        here, {"text": "after", "list": 5, "new": 1.5, "deep": {"er": {"b": 2}}, "all": [{"c": 3}]}
    ),
    "copied attributes": lambda here, _: usid.copy_attributes(
        here["Main"], here["Plain"], skip_refs=False
    ),
    "copied dataset": lambda here, there: usid.copy_dataset(here["Main"], there),
    "reused dataset": lambda here, there: usid.copy_dataset(here["Position_Indices"], there),
    "linked objects": lambda here, there: usid.copy_linked_objects(
        here["Main"], there["Duplicate"]
    ),
    "duplicate": lambda here, _: usid.create_empty_dataset(here["Main"], "f4", "New"),
    "duplicate in place": lambda here, _: usid.create_empty_dataset(here["Main"], "f4", "Plain"),
    "duplicate elsewhere": lambda here, there: usid.create_empty_dataset(
        here["Main"], "f4", "Duplicate", there, {"by": "hand"}
    ),
    "links": lambda here, _: usid.link_h5_objects_as_attrs(here, [here["Main"], here["Plain"]]),
    "linked main": lambda here, _: usid.link_as_main(here["Plain"], *shared(here).values()),
    "group of a dictionary": lambda here, _: usid.write_dict_to_h5_group(
        here, {"a": 1, "b": {"c": "d"}}, "Metadata"
    ),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("late", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("call", CALLS)
def test_whichever_step_fails_the_file_stays_as_it_was(files, call, late):
    before = [contents(file) for file in files]
    failures = 0
    for number in count(1):
        with pytest.MonkeyPatch.context() as patch:
            step = FailingStep(patch, number, late)
            # attributes name their key, with HDF5's error as the cause
            with contextlib.suppress(HDF5Error, ValueError):
                CALLS[call](*files)
                break
        failures += 1
        assert step.passed >= number, "refused before the step was reached"
        assert [contents(file) for file in files] == before, f"after step {number}"
    assert step.passed == failures > 3
    assert [contents(file) for file in files] != before


def test_what_cannot_be_taken_back_is_told(h5_file, monkeypatch):
    def refuse(*_):
        raise HDF5Error

    def create_and_refuse(h5_group, name, **_):
        create_dataset(h5_group, name, data=[1])
        monkeypatch.setattr(h5py.Group, "__delitem__", refuse)
        raise ZeroDivisionError

    create_dataset = h5py.Group.create_dataset
    monkeypatch.setattr(h5py.Group, "create_dataset", create_and_refuse)
    with pytest.raises(ZeroDivisionError) as caught:
        usid.write_ind_val_dsets(h5_file, dims(3))
    assert "taken back" in caught.value.__notes__[0]


def test_a_failing_print_undoes_the_call(files, monkeypatch):
    def broken_pipe(*_):
        raise BrokenPipeError

    before = [contents(file) for file in files]
    monkeypatch.setattr("builtins.print", broken_pipe)
    with pytest.raises(BrokenPipeError):
        usid.write_ind_val_dsets(files[1], dims(3, 2), verbose=True)
    with pytest.raises(BrokenPipeError):
        usid.write_simple_attrs(files[1], {"a": 1}, verbose=True)
    assert [contents(file) for file in files] == before
