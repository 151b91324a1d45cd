"""A client that wishes a daemon ill, in a process of its own: ``python -m`` style, by path.

It says hello as anybody does and then does one thing as quickly as it can, until it is killed. It
prints a line when it has begun.
"""

from __future__ import annotations

import itertools
import secrets
import sys
from collections.abc import Callable, Iterator

import msgpack
import numpy as np
import zmq

import usidstream
from usidstream import wire
from usidstream.keys import ClientKeys
from usidstream.layout import Dimension, MainLayout, ScanLayout

Attack = Iterator[list[bytes]]

N_COLS = 16_384  # 64 KiB a row
LAYOUT = ScanLayout(
    positions=[Dimension("t", "s", 1_000_000)],
    mains=[
        MainLayout(
            name="Raw",
            quantity="Current",
            units="nA",
            dtype="float32",
            spectroscopic=[Dimension("Bias", "V", N_COLS)],
            compression="none",
        )
    ],
)
"""What honest clients measure."""
ROWS = np.random.default_rng(1).random((4, N_COLS), "f4")

SCAN = "0123456789abcdef" * 2
MIB = 1 << 20


def _open(scan: str, layout: object, frames: list[bytes] | None = None) -> list[bytes]:
    message = wire.Open(scan=scan, layout=layout, file="hostile", frames=frames or [])  # type: ignore[arg-type]
    return [bytes(frame) for frame in wire.encode(message)]


def _layout(size: int, **more: object) -> dict[str, object]:
    main = {"name": "m", "quantity": "q", "units": "", "dtype": "float32", **more}
    return {"positions": [{"name": "x", "units": "", "size": size}], "mains": [main]}


def pings() -> Attack:
    """Floods with what is answered, and never reads an answer."""
    yield from itertools.repeat(list(map(bytes, wire.encode(wire.Ping()))))


def garbage() -> Attack:
    """Floods with headers of a megabyte that are no message."""
    bomb = msgpack.packb(
        {"type": "annotate", "scan": SCAN, "seq": 1, "attrs": {"a": [[]] * 900_000}}
    )
    yield from itertools.repeat([bomb[:MIB]])


def oversize() -> Attack:
    """Opens layouts that would take terabytes, and some whose arrays are too large."""
    step = {"name": "s", "units": "", "size": 2**31}
    for _ in itertools.count():
        yield _open(secrets.token_hex(16), _layout(2**32 - 1))
        yield _open(secrets.token_hex(16), _layout(4, spectroscopic=[step]))
        yield _open(secrets.token_hex(16), _layout(4), [bytes(MIB)] * 16)


def attributes() -> Attack:
    """Opens layouts with as many attributes as a header holds."""
    attrs = {f"{number:06d}": number for number in range(60_000)}
    layout = _layout(4) | {"attrs": attrs}
    for _ in itertools.count():
        yield _open(secrets.token_hex(16), layout)


def blocks() -> Attack:
    """Sends blocks of a scan that it has no part in, far beyond any credit."""
    block = wire.Block(
        scan=SCAN, main="m", seq=1, row=0, rows=1, col=0, cols=1, crc=0, frames=(bytes(MIB),)
    )
    yield from itertools.repeat([bytes(frame) for frame in wire.encode(block)])


def frames() -> Attack:
    """Sends messages of very many frames."""
    yield from itertools.repeat([*map(bytes, wire.encode(wire.Ping())), *[b"x"] * 5000])


ATTACKS: dict[str, Callable[[], Attack]] = {
    attack.__name__: attack for attack in (pings, garbage, oversize, attributes, blocks, frames)
}


def main(endpoint: str, attack: str, *keys: str) -> None:
    """Attack until killed."""
    if attack == "honest":
        write_as_fast_as_it_goes(endpoint, keys)
    context = zmq.Context()
    socket = context.socket(zmq.DEALER)
    socket.setsockopt(zmq.RCVHWM, 1)
    socket.setsockopt(zmq.SNDHWM, 4)  # its own memory is not what is attacked
    if keys:
        loaded = ClientKeys.load(*keys)
        assert loaded is not None
        loaded.secure(socket)
    socket.connect(endpoint)
    socket.send_multipart(wire.encode(wire.Hello(versions=[1], client="hostile")))
    socket.recv_multipart()
    print("begun", flush=True)  # noqa: T201 - for whoever started this
    for message in ATTACKS[attack]():
        socket.send_multipart(message)


def write_as_fast_as_it_goes(endpoint: str, keys: tuple[str, ...]) -> None:
    """Be no worse than any other client, until killed."""
    names = dict(zip(("server_key", "key_file"), keys, strict=False))
    with usidstream.connect(endpoint, **names) as client:  # type: ignore[arg-type]
        scan = client.open_scan(LAYOUT, "fourth")
        print("begun", flush=True)  # noqa: T201 - for whoever started this
        for row in range(0, LAYOUT.n_positions, len(ROWS)):
            scan.write_block(row, ROWS)


if __name__ == "__main__":
    main(*sys.argv[1:])
