import pytest
from hypothesis import given
from hypothesis import strategies as st

from usidstream import framing

payloads = st.lists(st.binary(max_size=60), max_size=6)


@given(payloads)
def test_records_come_back(parts):
    assert list(framing.unframe(b"".join(map(framing.frame, parts)))) == parts


@given(payloads, st.data())
def test_a_cut_file_gives_whole_records_and_then_an_error(parts, data):
    whole = b"".join(map(framing.frame, parts))
    ends = [0]
    for part in parts:
        ends.append(ends[-1] + framing.HEADER.size + len(part))
    cut = data.draw(st.integers(0, len(whole)))
    found = []
    reader = framing.unframe(whole[:cut])
    if cut in ends:
        found.extend(reader)
    else:
        with pytest.raises(framing.FramingError, match="cut short"):
            found.extend(reader)
    assert found == parts[: sum(end <= cut for end in ends) - 1]


@given(st.lists(st.binary(min_size=1, max_size=60), min_size=1, max_size=6), st.data())
def test_a_flipped_bit_is_never_read_as_data(parts, data):
    damaged = bytearray(b"".join(map(framing.frame, parts)))
    damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    found = []
    with pytest.raises(framing.FramingError):
        found.extend(framing.unframe(damaged))
    assert found == parts[: len(found)]


def test_a_run_of_zero_bytes_is_no_record():
    with pytest.raises(framing.FramingError):
        list(framing.unframe(bytes(64)))


@pytest.mark.parametrize("value", [object(), {1, 2}, 1 << 64])
def test_what_msgpack_cannot_hold_is_refused(value):
    with pytest.raises(framing.FramingError):
        framing.pack(value)
