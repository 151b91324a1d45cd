"""Raw frames: checksums, arrays by reference, ranges."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from usidstream import wire
from usidstream.layout import Dimension, MainLayout, PositionTable, ScanLayout

# ---------------------------------------------------------------- checksums


@pytest.mark.parametrize(
    ("address", "frames", "crc"),
    [
        ((0, 0, 0, 0), [], 0x190A55AD),
        ((0, 0, 0, 0), [b""], 0x190A55AD),
        ((0, 1, 0, 2), [b"\x01\x00\x02\x00"], zlib.crc32(
            b"\0" * 8 + b"\x01" + b"\0" * 15 + b"\x02" + b"\0" * 7 + b"\x01\x00\x02\x00"
        )),
    ],
)  # fmt: skip
def test_the_checksum_runs_over_the_address_and_the_frames(
    address: tuple[int, int, int, int], frames: list[bytes], crc: int
) -> None:
    assert wire.block_crc(*address, frames) == crc


@given(
    st.tuples(*[st.integers(0, wire.MAX_INT)] * 4),
    st.lists(st.binary(max_size=100), max_size=3),
)
def test_the_checksum_is_zlibs(address: tuple[int, int, int, int], frames: list[bytes]) -> None:
    whole = b"".join(number.to_bytes(8, "little") for number in address) + b"".join(frames)
    assert wire.block_crc(*address, frames) == zlib.crc32(whole)


@given(st.binary(max_size=300), st.integers(0, 2**32 - 1))
def test_isal_and_zlib_agree(data: bytes, start: int) -> None:
    isal_zlib = pytest.importorskip("isal.isal_zlib")
    assert isal_zlib.crc32(data, start) == zlib.crc32(data, start)


def test_every_bit_of_the_address_counts() -> None:
    good = wire.block_crc(1, 2, 3, 4, [b"x"])
    for place in range(4):
        for bit in range(63):
            address = [1, 2, 3, 4]
            address[place] ^= 1 << bit
            assert wire.block_crc(*address, [b"x"]) != good


# ---------------------------------------------------------------- arrays


def reference(**changes: Any) -> dict[str, Any]:
    return {"__array__": 0, "dtype": "<f8", "shape": [2]} | changes


def refused(layout: Any, *frames: bytes) -> wire.WireError:
    with pytest.raises(wire.WireError) as caught:
        wire.unpack_layout(layout, frames)
    assert caught.value.code == "bad_message"
    assert len(caught.value.message) < 500
    return caught.value


array_dtypes = st.sampled_from([np.dtype(name) for name in wire.ARRAY_DTYPES])


@given(
    hnp.arrays(array_dtypes, hnp.array_shapes(min_dims=1, max_dims=2, min_side=0, max_side=4)),
    st.booleans(),
)
def test_an_array_comes_back_bit_for_bit(array: np.ndarray[Any, Any], swapped: bool) -> None:
    frames: list[wire.Frame] = [b"something before"]
    sent = array.astype(array.dtype.newbyteorder(">")) if swapped else array
    packed = wire.pack_layout({"a": [1, {"values": sent}], "b": "x"}, frames)
    assert packed["a"][1]["values"]["__array__"] == 1
    unpacked = wire.unpack_layout(packed, frames)
    values = unpacked["a"][1]["values"]
    assert (unpacked["b"], values.dtype, values.shape) == ("x", array.dtype, array.shape)
    assert values.tobytes() == array.tobytes()


def test_an_unpacked_array_cannot_be_written_to() -> None:
    frames: list[wire.Frame] = []
    packed = wire.pack_layout({"v": np.arange(3.0)}, frames)
    values = wire.unpack_layout(packed, [bytearray(frames[0])])["v"]
    with pytest.raises(ValueError, match="read-only"):
        values[0] = 1


def test_a_layout_with_every_kind_of_array_comes_back_equal() -> None:
    main = MainLayout(
        name="Raw",
        quantity="Current",
        units="nA",
        dtype=[("re", "float32"), ("n", "uint8")],
        spectroscopic=[
            Dimension("Bias", "V", np.linspace(-1, 1, 5, dtype=np.float32)),
            Dimension.regular("Time", "s", start=0.5, step=0.25, size=3),
        ],
        attrs={"flags": [True, False], "gains": [1, 2], "names": ["a", "µ"], "empty": []},
    )
    positions = PositionTable(["x", "y"], ["um", ""], np.arange(6.0).reshape(3, 2))
    layout = ScanLayout(
        positions=positions,
        mains=[main],
        attrs={"z": np.array([1 + 2j]), "big": 2**64 - 1, "on": True, "t": np.float16([0.5])},
    )
    frames: list[wire.Frame] = []
    message = wire.Open(
        scan="0" * 32, layout=wire.pack_layout(layout.to_dict(), frames), frames=frames
    )
    received = wire.decode_client(wire.encode(message))
    assert isinstance(received, wire.Open)
    plain = wire.unpack_layout(received.layout, received.frames)
    assert ScanLayout.from_dict(plain) == layout


TWO = bytes(16)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"__array__": 1}, "__array__"),
        ({"__array__": -1}, "__array__"),
        ({"__array__": 1 << 70}, "__array__"),
        ({"__array__": True}, "__array__"),
        ({"__array__": "0"}, "__array__"),
        ({"__array__": None}, "__array__"),
        ({"__array__": [0]}, "__array__"),
        ({"dtype": ">f8"}, "dtype"),
        ({"dtype": "f8"}, "dtype"),
        ({"dtype": "float64"}, "dtype"),
        ({"dtype": "|O"}, "dtype"),
        ({"dtype": "<U2"}, "dtype"),
        ({"dtype": "|V8"}, "dtype"),
        ({"dtype": "<M8[s]"}, "dtype"),
        ({"dtype": "<f16"}, "dtype"),
        ({"dtype": "f8,f8"}, "dtype"),
        ({"dtype": "(1000000000,)f8"}, "dtype"),
        ({"dtype": [["a", "<f8"]]}, "dtype"),
        ({"dtype": None}, "dtype"),
        ({"dtype": "<f4"}, "shape"),
        ({"shape": [3]}, "shape"),
        ({"shape": [1]}, "shape"),
        ({"shape": []}, "shape"),
        ({"shape": [-1]}, "shape"),
        ({"shape": [-2]}, "shape"),
        ({"shape": [2.0]}, "shape"),
        ({"shape": [True, 2]}, "shape"),
        ({"shape": [1 << 70]}, "shape"),
        ({"shape": [1 << 40, 1 << 40]}, "shape"),
        ({"shape": [1, 1, 2]}, "shape"),
        ({"shape": [0, 1 << 62]}, "shape"),
        ({"shape": 2}, "shape"),
        ({"shape": "2"}, "shape"),
        ({"shape": None}, "shape"),
        ({"shape": [[2]]}, "shape"),
    ],
)
def test_a_reference_that_does_not_fit_is_named(changes: dict[str, Any], field: str) -> None:
    assert refused({"values": reference(**changes)}, TWO).details == {"field": field}


def test_booleans_are_0_or_1() -> None:
    flags = reference(dtype="|b1", shape=[3])
    assert wire.unpack_layout(flags, [b"\0\1\1"]).tolist() == [False, True, True]
    assert refused(flags, b"\0\1\2").details == {"field": "__array__"}


def test_two_references_to_one_frame_are_refused() -> None:
    """A short message must not stand for endless data."""
    layout = {"a": [reference() for _ in range(1000)]}
    assert refused(layout, TWO).details == {"field": "__array__"}
    frames = [TWO] * 1000
    wire.unpack_layout({"a": [reference(__array__=i) for i in range(1000)]}, frames)


def test_a_map_that_is_almost_a_reference_is_a_map() -> None:
    for layout in ({"__array__": 0}, reference(more=1), {"dtype": "<f8", "shape": [2]}):
        assert wire.unpack_layout(layout, [TWO]) == layout


def test_a_layout_is_nested_so_deep_and_no_deeper() -> None:
    layout: Any = 1
    for _ in range(wire.MAX_LAYOUT_DEPTH):
        layout = {"a": layout}
    assert wire.unpack_layout(layout, []) == layout
    assert refused([layout]).details == {"field": "layout"}


# ---------------------------------------------------------------- ranges


@given(st.lists(st.tuples(*[st.integers(0, 2**63 - 1)] * 2), max_size=5))
def test_ranges_come_back(ranges: list[tuple[int, int]]) -> None:
    frames: list[wire.Frame] = [b"before"]
    table = np.array(ranges, np.int64).reshape(-1, 2)
    index = wire.pack_ranges(table, frames)
    assert (index, len(frames)) == (1, 2)
    assert wire.unpack_ranges(index, frames, 2) == ranges


def test_ranges_are_u64_little_endian() -> None:
    frames: list[wire.Frame] = []
    wire.pack_ranges([(1, 258)], frames)
    assert frames == [b"\x01" + b"\0" * 7 + b"\x02\x01" + b"\0" * 6]
    assert wire.unpack_ranges(0, [b"\xff" * 16], 2) == [(2**64 - 1, 2**64 - 1)]


@pytest.mark.parametrize(
    ("index", "frames"),
    [
        (0, [bytes(8)]),
        (0, [bytes(17)]),
        (0, [b"x"]),
        (1, [bytes(16)]),
        (-1, [bytes(16)]),
        (True, [bytes(16), bytes(16)]),
        ("0", [bytes(16)]),
        (None, [bytes(16)]),
        (0, []),
    ],
)
def test_ranges_that_are_none_are_named(index: Any, frames: list[bytes]) -> None:
    with pytest.raises(wire.WireError) as caught:
        wire.unpack_ranges(index, frames, 2)
    assert (caught.value.code, caught.value.details) == ("bad_message", {"field": "ranges"})
