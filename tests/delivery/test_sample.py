"""Whether data shrinks better shuffled is seen from a sample of it."""

from __future__ import annotations

import numpy as np
import pytest

from usidstream.delivery import prefers_shuffle

RNG = np.random.default_rng(7)
SMOOTH = np.cumsum(RNG.normal(0, 1, (64, 256)), axis=1)


@pytest.mark.parametrize("dtype", ["<f4", "<f8", "<i4", "<u2", "<c8"])
def test_smooth_data_is_better_shuffled(dtype: str) -> None:
    assert prefers_shuffle((SMOOTH * 100).astype(dtype))


def test_floats_that_hold_a_few_counts_are_better_as_they_are() -> None:
    counts = RNG.integers(-40, 40, (64, 256)).astype("<f4") * np.float32(0.0137)
    assert not prefers_shuffle(counts)


def test_single_bytes_and_single_elements_have_an_answer_too() -> None:
    assert prefers_shuffle(np.zeros((4, 4), np.uint8))
    assert isinstance(prefers_shuffle(np.ones((1, 1), "<f8")), bool)


def test_only_the_beginning_of_a_large_sample_is_judged() -> None:
    counts = RNG.integers(-40, 40, 1 << 18).astype("<f4") * np.float32(0.0137)
    assert not prefers_shuffle(np.concatenate([counts, np.tile(SMOOTH.astype("<f4").ravel(), 40)]))


def test_the_sample_is_judged_in_the_order_of_its_elements_not_of_its_memory() -> None:
    data = (SMOOTH * 100).astype("<i4")
    assert prefers_shuffle(data.T.copy().T) == prefers_shuffle(data)
