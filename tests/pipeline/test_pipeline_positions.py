"""How many positions are complete in every main."""

import numpy as np

from usidstreamd.pipeline.positions import CompletePositions


def test_a_position_counts_once_it_is_complete_in_every_main():
    positions = CompletePositions(4, ["Height", "Phase"])
    positions.note("Height", slice(0, 3), np.array([True, True, False]))
    assert positions.count == 0
    positions.note("Phase", slice(1, 4), np.array([True, False, True]))
    assert positions.count == 1
    positions.note("Phase", slice(1, 4), np.array([True, False, True]))
    assert positions.count == 1
    positions.note("Height", slice(3, 4), np.array([True]))
    assert positions.count == 2


def test_more_mains_than_a_byte_counts():
    names = [f"Channel_{number}" for number in range(300)]
    positions = CompletePositions(2, names)
    for name in names[:-1]:
        positions.note(name, slice(0, 2), np.array([True, True]))
    assert positions.count == 0
    positions.note(names[-1], slice(0, 2), np.array([True, False]))
    assert positions.count == 1
