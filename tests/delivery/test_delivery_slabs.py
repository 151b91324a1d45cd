"""Memory cut from slabs: no byte is handed out twice, and slabs are used again."""

import numpy as np
import pytest

from support.crowd import in_threads
from usidstream.delivery.slabs import (
    MAX_CUT_BYTES,
    MAX_RING_SLABS_COUNT,
    SLAB_BYTES,
    SlabRing,
    Slabs,
)

FLOAT = np.dtype("<f4")


@pytest.mark.parametrize("expected_bytes", [1, 3000, SLAB_BYTES, 10 * SLAB_BYTES])
def test_no_array_shares_memory_with_another(expected_bytes):
    slabs = Slabs(SlabRing(), expected_bytes)
    sizes = [1, 7, 1024, 3, 100_000, 1, MAX_CUT_BYTES // 4, 50, MAX_CUT_BYTES // 4 + 1] * 6
    arrays = [slabs.take_array((size, 1), FLOAT) for size in sizes]
    for number, array in enumerate(arrays):
        array[...] = number
    assert [array.shape for array in arrays] == [(size, 1) for size in sizes]
    assert all((array == number).all() for number, array in enumerate(arrays))


def test_arrays_are_aligned_whatever_was_taken_before():
    slabs = Slabs(SlabRing())
    offsets = {slabs.take_array((odd,), np.dtype("u1")).ctypes.data % 16 for odd in (1, 3, 65, 7)}
    assert offsets == {slabs.take_array((2,), np.dtype("<c16")).ctypes.data % 16}


def test_compound_elements_fit():
    dtype = np.dtype([("re", "<f4"), ("flag", "u1")])
    array = Slabs(SlabRing()).take_array((5, 3), dtype)
    array["flag"] = 1
    assert array.dtype == dtype
    assert array.flags.c_contiguous


def addresses(ring, count):
    """Take slabs and let them go again, all at once."""
    return [slab.ctypes.data for slab in [ring.take() for _ in range(count)]]


def test_a_slab_is_used_again_once_nothing_refers_to_it():
    ring = SlabRing()
    slabs = Slabs(ring)
    array = slabs.take_array((16,), np.dtype("u1"))
    view = memoryview(array[3:5])  # as a message on its way holds it
    slab = array.base
    address = slab.ctypes.data
    del slab, array
    for _ in range(2 * SLAB_BYTES // MAX_CUT_BYTES):  # the first has been left behind by then
        slabs.take_array((MAX_CUT_BYTES,), np.dtype("u1"))
    assert address not in addresses(ring, 4)
    view.release()
    del view
    assert address in addresses(ring, 4)


def test_a_ring_is_bounded_however_much_is_kept():
    ring = SlabRing()
    kept = [ring.take() for _ in range(3 * MAX_RING_SLABS_COUNT)]
    assert len({slab.ctypes.data for slab in kept}) == len(kept)
    known = {slab.ctypes.data for slab in kept[-MAX_RING_SLABS_COUNT:]}
    kept.clear()
    assert set(addresses(ring, MAX_RING_SLABS_COUNT)) == known


def test_what_was_touched_is_taken_first_and_costs_no_fault():
    resource = pytest.importorskip("resource")
    ring = SlabRing()
    ring.touch(3 * SLAB_BYTES + 5)
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    slabs = [ring.take() for _ in range(3)]
    for slab in slabs:
        slab[::512] = 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults < 100  # of 6144 pages
    assert len({slab.ctypes.data for slab in slabs}) == 3


def test_threads_never_write_into_each_others_arrays():
    ring = SlabRing()
    wrong = []

    def cut(number):
        slabs, held = Slabs(ring), []
        for turn in range(150):
            array = slabs.take_array((MAX_CUT_BYTES,), np.dtype("u1"))
            array[::4096] = value = (number * 50 + turn) % 251
            held.append((array, value))
            if len(held) > number + 2:
                old, value = held.pop(0)
                if (old[::4096] != value).any():
                    wrong.append((number, turn))

    in_threads(cut)
    assert wrong == []


def test_what_is_too_large_to_be_cut_leaves_the_slab_as_it_was():
    slabs = Slabs(SlabRing())
    before = slabs.take_array((8,), np.dtype("u1"))
    large = slabs.take_array((MAX_CUT_BYTES + 1,), np.dtype("u1"))
    after = slabs.take_array((8,), np.dtype("u1"))
    assert after.base is before.base
    assert large.base is not before.base
