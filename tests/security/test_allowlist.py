"""The list of admitted clients: a file that is gone throws out, a file that is damaged does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.keys import Keys
from usidstream.errors import UsidstreamError
from usidstreamd.security import read_allow_list


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys(tmp_path / "k", "afm", "be", "raman")


def test_a_damaged_file_leaves_its_client_as_it_was(keys: Keys) -> None:
    before = read_allow_list(keys.listed)
    (keys.listed / "afm.key").write_text("half a f")
    (keys.listed / "be.key").unlink()
    found = read_allow_list(keys.listed)
    assert list(found.faults) == ["afm"]
    after = found.after(before)
    assert sorted(after.names.values()) == ["afm", "raman"]


def test_a_damaged_file_lets_nobody_in_who_was_not(keys: Keys) -> None:
    before = read_allow_list(keys.listed)
    (keys.listed / "new.key").write_text("nonsense")
    assert read_allow_list(keys.listed).after(before).names == before.names


def test_a_key_has_one_name(keys: Keys) -> None:
    (keys.listed / "zzz.key").write_bytes((keys.listed / "afm.key").read_bytes())
    found = read_allow_list(keys.listed)
    assert sorted(found.names.values()) == ["afm", "be", "raman"]
    assert "is the key of afm too" in found.faults["zzz"]


def test_what_is_not_named_as_a_client_is_a_fault_and_other_files_are_not_looked_at(
    keys: Keys,
) -> None:
    (keys.listed / "a b.key").write_bytes((keys.listed / "afm.key").read_bytes())
    (keys.listed / "README").write_text("keys of the lab")
    found = read_allow_list(keys.listed)
    assert len(found.names) == 3
    assert list(found.faults) == ["a b"]


def test_a_directory_that_is_not_there_is_told_with_the_way_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(UsidstreamError, match="no such directory") as raised:
        read_allow_list(tmp_path / "nowhere")
    assert "keygen" in raised.value.hint
