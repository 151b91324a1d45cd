"""Valid things spoilt: bytes, plain values, records and texts. Pure: all chance is handed in.

Each function takes a `random.Random`, so that the same spoiling is driven by a seed and a number (a
long run that can be repeated), by hypothesis (which makes a failure small) and by a coverage-guided
fuzzer. Spoiling knows the structure: bits flip, pieces are cut, doubled and spliced; and lengths,
headers and counts lie inside checksums that are right.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Any, TypeAlias

from usidstream.framing import FramingError, frame, unframe

MAX_STEPS_COUNT = 4
MAX_GROWTH_BYTES = 1 << 16
DEEP_COUNT = 3000
"""Deeper than Python recurses."""

NUMBERS = (
    *(-(2**63), -(2**31), -2, -1, 0, 1, 2, 7, 255, 256, 2**16 - 1, 2**16, 2**20, 2**31 - 1, 2**31),
    *(2**32 - 1, 2**32, 2**40, 2**53 + 1, 2**62, 2**63 - 1, 2**63, 2**64 - 1),
)
FLOATS = (0.0, -0.0, 0.5, 1e-320, 1e308, float("inf"), float("-inf"), float("nan"))
TEXTS = (
    *("", ".", "..", "/", "../../x", "a/b", "a-b", "CON", "nul\0", "\n", "µ", "x" * 300),
    *("complete", "interrupted", "float64", "O", "V99999999", ">f8", "U5", "<m8", "gzip"),
    *("__array__", "5.5"),
)  # fmt: skip
SHORT = (b"", b"\0", b"\xff" * 8, b"\xc1", b"\xdd\xff\xff\xff\xff", b"\x80", b"\x90" * 9)

Spoil: TypeAlias = Callable[[Random, bytes], bytes]


# ---------------------------------------------------------------- bytes


def spoil_bytes(chance: Random, data: bytes, donors: Sequence[bytes] = SHORT) -> bytes:
    """Return bytes spoilt in one to a few places; ``donors`` are spliced in."""
    for _ in range(chance.randint(1, MAX_STEPS_COUNT)):
        data = chance.choice(_ON_BYTES)(chance, data, donors)
    return data


def _flip(chance: Random, data: bytes, _donors: Sequence[bytes]) -> bytes:
    if not data:
        return data
    at = chance.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1 :]


def _overwrite(chance: Random, data: bytes, _donors: Sequence[bytes]) -> bytes:
    """Put a number where a length, an offset or a count may stand, of any width and order."""
    width = chance.choice((1, 2, 4, 8))
    number = chance.choice(NUMBERS) % (1 << 8 * width)
    at = chance.randint(0, len(data))
    order = "little" if chance.random() < 0.5 else "big"
    return data[:at] + number.to_bytes(width, order) + data[at + width :]  # type: ignore[arg-type]


def _cut(chance: Random, data: bytes, _donors: Sequence[bytes]) -> bytes:
    return data[: chance.randint(0, len(data))]


def _drop(chance: Random, data: bytes, _donors: Sequence[bytes]) -> bytes:
    start, stop = _span(chance, data)
    return data[:start] + data[stop:]


def _double(chance: Random, data: bytes, _donors: Sequence[bytes]) -> bytes:
    start, stop = _span(chance, data)
    most = max(1, min(9, MAX_GROWTH_BYTES // max(1, stop - start)))
    return data[:stop] + data[start:stop] * chance.randint(1, most) + data[stop:]


def _splice(chance: Random, data: bytes, donors: Sequence[bytes]) -> bytes:
    donor = chance.choice(donors)
    start, stop = _span(chance, donor)
    at, until = _span(chance, data)
    return data[:at] + donor[start:stop] + data[until:]


def _zero(chance: Random, data: bytes, _donors: Sequence[bytes]) -> bytes:
    start, stop = _span(chance, data)
    return data[:start] + bytes(stop - start) + data[stop:]


def _span(chance: Random, data: bytes) -> tuple[int, int]:
    start = chance.randint(0, len(data))
    return start, chance.randint(start, len(data))


_ON_BYTES = (_flip, _flip, _flip, _overwrite, _overwrite, _cut, _drop, _double, _splice, _zero)


# ---------------------------------------------------------------- plain values


def spoil_value(chance: Random, value: Any) -> Any:
    """Return a plain value (maps, lists, texts, numbers) with one to a few parts that lie."""
    for _ in range(chance.randint(1, MAX_STEPS_COUNT)):
        value = _spoil_somewhere(chance, value)
    return value


def _spoil_somewhere(chance: Random, value: Any) -> Any:
    """Go down to some part, and spoil it in a copy of what is on the way."""
    if isinstance(value, dict) and value and chance.random() < 0.85:
        key = chance.choice(list(value))
        return value | {key: _spoil_somewhere(chance, value[key])}
    if isinstance(value, list) and value and chance.random() < 0.8:
        at = chance.randrange(len(value))
        return [*value[:at], _spoil_somewhere(chance, value[at]), *value[at + 1 :]]
    return chance.choice(_ON_VALUES)(chance, value)


def _another(chance: Random, _value: Any) -> Any:
    return anything(chance)


def _near(chance: Random, value: Any) -> Any:
    """Stay of the kind, and go wrong by a little."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return chance.choice((value + 1, value - 1, -value, value * 2, value << 32, float(value)))
    if isinstance(value, float):
        return chance.choice((-value, value * 1e300, int(value) if abs(value) < 2**60 else 0))
    if isinstance(value, str):
        text = spoil_bytes(chance, value.encode(), _TEXT_DONORS)
        return text.decode("utf-8", "replace")
    if isinstance(value, bytes):
        return spoil_bytes(chance, value)
    return anything(chance)


def _without(chance: Random, value: Any) -> Any:
    if isinstance(value, dict) and value:
        gone = chance.choice(list(value))
        return {key: part for key, part in value.items() if key != gone}
    return value[:-1] if isinstance(value, list) else None


def _with_more(chance: Random, value: Any) -> Any:
    if isinstance(value, dict):
        key = chance.choice((*TEXTS, *value)) if chance.random() < 0.7 else anything(chance)
        return value | {key if isinstance(key, str | int | bytes) else "x": anything(chance)}
    return [*value, *value, anything(chance)] if isinstance(value, list) else [value]


def _deep(chance: Random, value: Any) -> Any:
    for _ in range(chance.choice((1, 2, 12, 13, 60))):
        value = [value] if chance.random() < 0.5 else {"x": value}
    return value


_ON_VALUES = (_another, _near, _near, _near, _without, _with_more, _deep)
_TEXT_DONORS = tuple(map(str.encode, TEXTS))


def anything(chance: Random) -> Any:
    """Return a plain value of any kind, as likely an awkward one as not."""
    kind = chance.randrange(9)
    if kind < 3:
        return chance.choice(NUMBERS)
    if kind < 5:
        return chance.choice(TEXTS)
    simple = (chance.choice(FLOATS), None, True, False, chance.choice(SHORT), [], {}, [[], {}])
    return chance.choice(simple)


# ---------------------------------------------------------------- files of records


def spoil_records(chance: Random, data: bytes, spoil_payload: Spoil = spoil_bytes) -> bytes:
    """Return a file of records spoilt: its bytes, or records inside checksums that are right."""
    if chance.random() < 0.3:
        return spoil_bytes(chance, data)
    payloads = whole_payloads(data)
    for _ in range(chance.randint(1, MAX_STEPS_COUNT)):
        payloads = _spoil_a_record(chance, payloads, spoil_payload)
    return b"".join(map(frame, payloads))


def _spoil_a_record(chance: Random, payloads: list[bytes], spoil_payload: Spoil) -> list[bytes]:
    if not payloads:
        return [chance.choice(SHORT)]
    at = chance.randrange(len(payloads))
    before, this, behind = payloads[:at], payloads[at], payloads[at + 1 :]
    how = chance.randrange(10)
    if how < 6:
        return [*before, spoil_payload(chance, this), *behind]
    if how == 6:
        return [*before, *behind]
    if how == 7:
        return [*before, this, this, *behind]
    if how == 8:
        return [this, *before, *behind]
    return [*behind, *before, this]


def whole_payloads(data: bytes) -> list[bytes]:
    """Return the payloads of the records up to the first that is not whole."""
    payloads: list[bytes] = []
    try:
        payloads.extend(unframe(data))
    except FramingError:
        return payloads
    return payloads


# ---------------------------------------------------------------- texts


def spoil_text(chance: Random, text: str) -> bytes:
    """Return a text of lines, such as TOML, spoilt in lines, values or bytes."""
    lines = text.split("\n")
    for _ in range(chance.randint(1, MAX_STEPS_COUNT)):
        at = chance.randrange(len(lines))
        lines[at] = chance.choice(_ON_LINES)(chance, lines[at], lines)
    data = "\n".join(lines).encode()
    return spoil_bytes(chance, data, _TEXT_DONORS) if chance.random() < 0.4 else data


def _other_value(chance: Random, line: str, _lines: Sequence[str]) -> str:
    return f"{line.partition('=')[0]}= {chance.choice(_TOML_VALUES)}"


def _other_line(chance: Random, _line: str, lines: Sequence[str]) -> str:
    return chance.choice(lines)


def _twice(_chance: Random, line: str, _lines: Sequence[str]) -> str:
    return f"{line}\n{line}"


def _gone(_chance: Random, _line: str, _lines: Sequence[str]) -> str:
    return ""


_ON_LINES = (_other_value, _other_value, _other_value, _other_line, _twice, _gone)
_TOML_VALUES = (
    *(str(number) for number in NUMBERS),
    *("true", "nan", "-inf", "1e400", "0x1F", "1979-05-27", '""', '"x"', '"""\n"""', "'", "["),
    *("[]", "{}", "[[1, 2], [3]]", "{x = 1}", "9" * 5000, "[" * DEEP_COUNT + "]" * DEEP_COUNT),
    "[1, 'x']",
    *('"../x"', '"tcp://0.0.0.0:1"', '"tcp://"', '"\\u0000"', '"inproc://x"', "{}.x", "1_0", "+1"),
)  # fmt: skip
