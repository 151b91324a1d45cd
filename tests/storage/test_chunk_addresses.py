import os
from contextlib import contextmanager

import h5py
import numpy as np
import pytest

from usidstreamd.storage.address import SAMPLE_BYTES, AddressedWriter
from usidstreamd.storage.live import LIBVER

N_CHUNKS = 600


@contextmanager
def writer_of(path, *, chunk_bytes=64, swmr=True, **filters):
    """Two mains and a dataset that is written in between, as coverage is."""
    with h5py.File(path, "w", libver=LIBVER) as h5_file:
        for name in "ab":
            h5_file.create_dataset(
                name, (N_CHUNKS, chunk_bytes), "u1", chunks=(1, chunk_bytes), **filters
            )
        h5_file.create_dataset("states", (N_CHUNKS,), "u1", chunks=(1,))
    with h5py.File(path, "r+", libver=LIBVER, rdcc_nbytes=0) as h5_file:
        if swmr:
            h5_file.swmr_mode = True
        fd = os.open(path, os.O_RDONLY)
        yield h5_file, AddressedWriter(h5_file.id, fd)
        os.close(fd)


def addresses_in(dataset):
    found = {}
    dataset.id.chunk_iter(lambda info: found.update({info.chunk_offset: info.byte_offset}))
    return found


@pytest.mark.parametrize("swmr", [True, False])
@pytest.mark.parametrize("nbytes", [20, 300, 2047, 5000, 70_000])
def test_addresses_are_hdf5s_own_and_hdf5_is_hardly_asked(tmp_path, nbytes, swmr):
    rng = np.random.default_rng(nbytes)
    n_chunks = N_CHUNKS if nbytes < 10_000 else 60
    with writer_of(tmp_path / "f.h5", chunk_bytes=4096, swmr=swmr, compression="gzip") as (
        h5_file,
        writer,
    ):
        told = {"a": {}, "b": {}}
        for number in range(n_chunks):
            name = "ab"[number % 3 == 0]
            payload = rng.bytes(nbytes + number % 7)
            told[name][number, 0] = writer.write(
                h5_file[name].id, (number, 0), payload, is_sealed=bool(number % 2)
            )
            if number % 50 == 0:
                h5_file["states"].id.write_direct_chunk((number,), b"\1")
                h5_file.flush()
        for name, addresses in told.items():
            assert addresses_in(h5_file[name]) == addresses
        assert writer.n_asked <= n_chunks // 20


@pytest.mark.parametrize(
    "content",
    [
        lambda _rng, n: bytes(n),  # nothing but zeros
        lambda _rng, n: b"\7" * n,
        lambda rng, n: bytes(SAMPLE_BYTES) + rng.bytes(n - 2 * SAMPLE_BYTES) + bytes(SAMPLE_BYTES),
        lambda _rng, n: b"same" * (n // 4),
    ],
    ids=["zeros", "constant", "empty-edges", "periodic"],
)
@pytest.mark.parametrize("chunk_bytes", [128, 2048, 8192])
def test_unfiltered_chunks_that_look_like_others_get_their_own_address(
    tmp_path, chunk_bytes, content
):
    rng = np.random.default_rng(1)
    with writer_of(tmp_path / "f.h5", chunk_bytes=chunk_bytes) as (h5_file, writer):
        order = [*range(40), *range(0, 40, 3), *range(40, 60)]  # some written again
        told = {}
        for number in order:
            told[number, 0] = writer.write(
                h5_file["a"].id, (number, 0), content(rng, chunk_bytes), is_sealed=False
            )
        assert addresses_in(h5_file["a"]) == told
        assert len(set(told.values())) == len(told)


def test_a_chunk_written_again_with_another_size_is_followed(tmp_path):
    rng = np.random.default_rng(1)
    with writer_of(tmp_path / "f.h5", chunk_bytes=4096, compression="gzip") as (h5_file, writer):
        for nbytes in (100, 90, 4000, 4000, 120, 50_000):
            address = writer.write(h5_file["a"].id, (3, 0), rng.bytes(nbytes), is_sealed=True)
            assert addresses_in(h5_file["a"]) == {(3, 0): address}


def test_the_bytes_are_at_the_address_at_once(tmp_path):
    rng = np.random.default_rng(1)
    with writer_of(tmp_path / "f.h5", compression="gzip") as (h5_file, writer):
        for number in range(50):
            payload = rng.bytes(3000 + number)
            address = writer.write(h5_file["a"].id, (number, 0), payload, is_sealed=True)
            with open(tmp_path / "f.h5", "rb") as file:
                file.seek(address)
                assert file.read(len(payload)) == payload
