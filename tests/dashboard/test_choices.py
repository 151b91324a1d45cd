"""What the page's boxes offer, and what is meant by what is chosen there."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from usidstreamd.dashboard import choices
from usidstreamd.dashboard.views import Axis, MainView


def view(name: str = "Current", n_columns: int = 6) -> MainView:
    bias = Axis("Bias", "V", np.linspace(-1, 1, n_columns))
    x = Axis("X", "um", np.arange(4.0))
    return MainView(name, "Current", "nA", 4, n_columns, (x,), (bias,))


def test_mains_are_offered_side_by_side_and_alone() -> None:
    assert choices.channels_offered([view("A")]) == [("0", "A")]
    two = choices.channels_offered([view("A"), view("B")])
    assert two == [("0+", "all"), ("0", "A"), ("1", "B")]
    six = choices.channels_offered([view(name) for name in "ABCDEF"])
    assert six[:2] == [("0+", "1 to 4"), ("4+", "5 to 6")]


@pytest.mark.parametrize(
    ("key", "shown"), [("0+", [0, 1, 2, 3]), ("4+", [4, 5]), ("0", [0]), ("5", [5])]
)
def test_a_channel_says_which_mains_are_shown(key: str, shown: list[int]) -> None:
    assert choices.is_channel(key)
    assert choices.mains_shown(key, 6) == shown


def test_what_stands_in_a_box_before_anything_is_offered_is_no_channel() -> None:
    assert not choices.is_channel("-")


@pytest.mark.parametrize(
    ("value", "column"),
    [("at:2", 2), ("at:99", 5), ("at:x", None), ("at:", None), ("at:-1", None), ("mean", None)],
)
def test_an_address_can_ask_for_a_column_that_is_there(value: str, column: int | None) -> None:
    assert choices.column_wanted(value, view()) == column
    assert choices.column_wanted(value, view(n_columns=1)) is None


@pytest.mark.parametrize(
    ("value", "reduction", "title"),
    [
        ("mean", "mean", "Current, mean"),
        ("max", "max", "Current, maximum"),
        ("at a column", "at:5", "Current at Bias 1 V"),
        ("what another main offers", "mean", "Current, mean"),
    ],
)
def test_a_value_names_a_reduction_that_the_main_has(
    value: str, reduction: str, title: str
) -> None:
    assert choices.reduction_of(view(), value, 7) == reduction
    assert choices.panel_title(view(), reduction) == title


def test_of_a_stack_the_newest_image_comes_first_and_is_named() -> None:
    stack = replace(view("Movie"), is_stack=True)
    offered = choices.values_offered(stack)
    assert offered[0] == ("latest", "newest image")
    assert [key for key, _ in offered[1:]] == ["mean", "max", choices.AT_COLUMN]
    assert choices.reduction_of(stack, "latest", 0) == "latest"
    assert choices.panel_title(stack, "latest") == "Movie, newest image"
    assert choices.panel_title(stack, "latest", 5) == "Movie at Bias 1 V"
    assert choices.reduction_of(view(), "latest", 0) == "mean"  # another channel beside it


def test_a_main_of_one_column_has_one_value() -> None:
    single = view(n_columns=1)
    assert choices.values_offered(single) == [("at:0", "value")]
    assert choices.reduction_of(single, "max", 3) == "at:0"
    assert choices.panel_title(single, "at:0") == "Current"
