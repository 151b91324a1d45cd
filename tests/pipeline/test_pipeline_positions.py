"""Counting positions: complete in every main, and the gaps that were left behind."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from usidstreamd.pipeline.positions import CompletePositions

N = 12
steps = st.lists(
    st.tuples(st.sampled_from("ab"), st.integers(0, N - 1), st.integers(1, N)), max_size=20
)


@given(steps)
def test_counts_and_gaps_are_those_of_the_states(told: list[tuple[str, int, int]]) -> None:
    held = {name: np.zeros(N, np.bool_) for name in "ab"}
    counted = CompletePositions(N, held)
    for name, start, length in told:
        window = slice(start, min(N, start + length))
        states = held[name][window]
        if length % 3 == 0 and not states.any():
            states[:] = True
            counted.note_run(name, window.start, window.stop)
        else:
            states[:: 1 + start % 2] = True
            counted.note(name, window, states.copy())
        for main, complete in held.items():
            numbers = np.flatnonzero(complete)
            end = int(numbers[-1]) + 1 if len(numbers) else 0
            assert counted.gaps[main] == end - len(numbers)
        assert counted.count == int((held["a"] & held["b"]).sum())
