"""A chunk's bytes are what a stock HDF5 reader decodes, bit by bit."""

from __future__ import annotations

import importlib.util
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import numpy as np
import pytest

from usidstreamd import codecs
from usidstreamd.codecs import CodecUnavailable, bitshuffle, deflate, gzip, planes
from usidstreamd.codecs.chunk import Uncompressed
from usidstreamd.codecs.gzip import Gzip

DTYPES = (
    "i1", "u1", "<i2", "<u2", "<i4", "<u4", "<i8", "<u8", "<f2", "<f4", "<f8", "<c8", "<c16",
    [("height", "<f4"), ("phase", "<f8"), ("counts", "<u2")],
    [("flag", "u1"), ("value", "<u2")],
)  # fmt: skip
SHAPE, CHUNK = (70, 45), (32, 16)

needs_hdf5plugin = pytest.mark.skipif(
    importlib.util.find_spec("hdf5plugin") is None,
    reason="hdf5plugin is not installed: pip install usidstream[plugins]",
)


@pytest.fixture(autouse=True, params=["compiled", "numpy"])
def loops(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Whether the loops over planes are compiled: without, everything must work as well."""
    if request.param == "numpy":
        monkeypatch.setattr(planes, "compiled", None)
    elif planes.compiled is None:
        pytest.skip("the package was installed without a C compiler")
    return str(request.param)


@pytest.fixture(params=list(deflate.DEFLATE_BACKENDS))
def backend(request: pytest.FixtureRequest) -> deflate.DeflateBackend:
    try:
        return deflate.DEFLATE_BACKENDS[request.param]()
    except ImportError as error:
        pytest.skip(f"{error}; it is one of several backends")


def noise(shape: tuple[int, ...], dtype: np.dtype, seed: int = 0) -> np.ndarray:
    raw = np.random.default_rng(seed).integers(0, 256, (*shape, dtype.itemsize), np.uint8)
    return raw.view(dtype).reshape(shape)


def constant(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    return np.broadcast_to(noise((1,) * len(shape), dtype), shape).copy()


def smooth(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    elements = np.zeros(shape, dtype)
    wave = 100 * np.sin(np.arange(elements.size) / 50).reshape(shape) + 100
    for name in dtype.names or (...,):
        elements[name] = wave.astype(dtype[name] if name is not ... else dtype)
    return elements


def as_bytes(elements: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(elements).view(np.uint8)


def write_chunks(
    dataset: h5py.Dataset, elements: np.ndarray, codec: codecs.Codec, chunk: tuple[int, int]
) -> None:
    for row in range(0, elements.shape[0], chunk[0]):
        for col in range(0, elements.shape[1], chunk[1]):
            view = elements[row : row + chunk[0], col : col + chunk[1]]
            dataset.id.write_direct_chunk((row, col), codec.encode(view, chunk))


def read_through_hdf5(path: Path, elements: np.ndarray, codec: codecs.Codec) -> np.ndarray:
    """Write the elements as encoded chunks, and return what HDF5's own filters make of them."""
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset(
            "main", elements.shape, elements.dtype, chunks=CHUNK, **codec.hdf5_filters
        )
        write_chunks(dataset, elements, codec, CHUNK)
    with h5py.File(path) as file:
        return file["main"][()]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("make", [noise, constant, smooth])
def test_a_stock_reader_decodes_gzip(
    tmp_path: Path, backend: deflate.DeflateBackend, dtype: object, shuffle: bool, make: object
) -> None:
    dtype = np.dtype(dtype)
    elements = make(SHAPE, dtype)
    codec = Gzip(dtype, shuffle=shuffle, backend=backend)
    read = read_through_hdf5(tmp_path / "main.h5", elements, codec)
    np.testing.assert_array_equal(as_bytes(read), as_bytes(elements))
    chunk = elements[: CHUNK[0], : CHUNK[1]]
    decoded = codec.decode(codec.encode(chunk, CHUNK), CHUNK)
    assert decoded.dtype == dtype
    np.testing.assert_array_equal(as_bytes(decoded), as_bytes(chunk))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_stock_reader_reads_uncompressed(tmp_path: Path, dtype: object) -> None:
    dtype = np.dtype(dtype)
    elements = noise(SHAPE, dtype)
    codec = Uncompressed(dtype)
    read = read_through_hdf5(tmp_path / "main.h5", elements, codec)
    np.testing.assert_array_equal(as_bytes(read), as_bytes(elements))
    whole = elements[: CHUNK[0], : CHUNK[1]]
    encoded = codec.encode(whole, CHUNK)
    assert encoded == whole.tobytes()
    np.testing.assert_array_equal(as_bytes(codec.decode(encoded, CHUNK)), as_bytes(whole))


@pytest.mark.parametrize("plane_nbytes", [1, 65534, 65535, 65536, 131070, 200000])
def test_noise_is_stored_in_blocks_of_any_length(
    backend: deflate.DeflateBackend, plane_nbytes: int
) -> None:
    dtype = np.dtype("<f8")
    chunk = noise((plane_nbytes, 1), dtype)
    encoded = Gzip(dtype, shuffle=True, backend=backend).encode(chunk, chunk.shape)
    shuffled = np.ascontiguousarray(chunk.view(np.uint8).reshape(-1, 8).T)
    assert zlib.decompress(encoded) == shuffled.tobytes()
    assert len(encoded) <= chunk.nbytes * 1.01 + 100


@pytest.mark.parametrize("compression", ["gzip", "none"])
def test_views_of_any_kind_are_encoded_alike(compression: str) -> None:
    dtype = np.dtype("<u4")
    codec = codecs.choose(compression, None, dtype)
    band = noise((64, 200), dtype)
    chunk = band[10:42, 50:114]
    expected = chunk.copy()
    for view in (expected, chunk, np.asfortranarray(expected), band.T[50:114, 10:42].T):
        decoded = codec.decode(codec.encode(view, (32, 64)), (32, 64))
        np.testing.assert_array_equal(decoded, expected)
    assert codec.encode(expected[::2], (16, 64)) == codec.encode(expected[::2].copy(), (16, 64))


@pytest.mark.parametrize("compression", ["gzip", "none"])
@pytest.mark.parametrize("dtype", ["<f4", [("a", "<f4"), ("b", "u1")]], ids=str)
def test_an_edge_chunk_is_filled_with_zeros_not_with_the_last_chunk(
    compression: str, dtype: object
) -> None:
    dtype = np.dtype(dtype)
    codec = codecs.choose(compression, None, dtype)
    codec.encode(noise((8, 9), dtype)[:, ::-1], (8, 9))
    for rows, cols in ((8, 3), (2, 9), (1, 1)):
        chunk = noise((rows, cols), dtype, seed=1)
        expected = np.zeros((8, 9), dtype)
        expected[:rows, :cols] = chunk
        decoded = codec.decode(codec.encode(chunk, (8, 9)), (8, 9))
        np.testing.assert_array_equal(as_bytes(decoded), as_bytes(expected))
        decoded = codec.decode(codec.encode(np.asfortranarray(chunk), (8, 9)), (8, 9))
        np.testing.assert_array_equal(as_bytes(decoded), as_bytes(expected))


def test_elements_larger_than_the_chunk_are_refused() -> None:
    codec = codecs.choose("none", None, np.dtype("u1"))
    for shape in ((3, 2), (2, 3)):
        with pytest.raises(ValueError, match="for a chunk of"):
            codec.encode(np.zeros(shape, "u1"), (2, 2))


def test_planes_that_shrink_are_compressed_and_noise_is_not() -> None:
    """Exponents shrink, mantissas do not: the stream is as small as that of the whole."""
    values = np.random.default_rng(3).normal(5, 1, (1024, 64)).astype("<f4")
    encoded = codecs.choose("gzip", None, values.dtype).encode(values, values.shape)
    shuffled = np.ascontiguousarray(values.view(np.uint8).reshape(-1, 4).T)
    assert len(encoded) < 1.05 * len(zlib.compress(shuffled.tobytes(), 4))
    assert shuffled[0].tobytes()[1000:2000] in encoded
    assert shuffled[3].tobytes()[1000:2000] not in encoded


def test_planes_are_chosen_anew_when_the_data_changes() -> None:
    codec = codecs.choose("gzip", None, np.dtype("<u4"))
    for _ in range(5):
        codec.encode(noise((128, 64), np.dtype("<u4")), (128, 64))
    flat = np.zeros((128, 64), "<u4")
    sizes = [len(codec.encode(flat, flat.shape)) for _ in range(gzip.RESAMPLE_CHUNKS)]
    assert sizes[0] > flat.nbytes
    assert sizes[-1] < 200


def test_planes_are_chosen_for_each_column_of_chunks() -> None:
    """A spectrum's flank and its peak differ, and their chunks come in turn."""
    codec = codecs.choose("gzip", None, np.dtype("<u4"))
    flat, rough = np.zeros((128, 64), "<u4"), noise((128, 64), np.dtype("<u4"))
    for _ in range(3):
        assert len(codec.encode(flat, flat.shape, 0)) < 200
        assert rough.view(np.uint8)[:, 0::4].tobytes() in codec.encode(rough, rough.shape, 64)


def test_a_dark_corner_does_not_decide_for_the_frame() -> None:
    frame = noise((64, 64), np.dtype("<u4"))
    frame[:16] = 0
    encoded = codecs.choose("gzip", None, frame.dtype).encode(frame, frame.shape)
    assert frame.view(np.uint8).reshape(-1, 4)[:, 0].tobytes()[2000:3000] not in encoded
    assert len(encoded) < 0.8 * frame.nbytes


def test_one_codec_serves_many_threads() -> None:
    dtype = np.dtype("<f4")
    codec = codecs.choose("gzip", None, dtype)
    chunks = [
        (smooth if k % 2 else noise)((64 + k, 40), dtype)[k:, : 20 + k % 20] for k in range(40)
    ]

    def round_trip(chunk: np.ndarray) -> bool:
        decoded = codec.decode(codec.encode(chunk, (64, 40)), (64, 40))
        rows, cols = chunk.shape
        same = as_bytes(decoded[:rows, :cols]).tobytes() == as_bytes(chunk).tobytes()
        return same and not as_bytes(decoded[:, cols:]).any()

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(round_trip, chunks * 20))


def test_shuffle_is_chosen_by_the_size_of_an_element() -> None:
    for dtype, shuffled in (("u1", False), ("<i2", True), ("<f4", True), ("<c16", True)):
        dtype = np.dtype(dtype)
        assert codecs.choose("gzip", None, dtype).hdf5_filters["shuffle"] is shuffled
        assert codecs.choose("gzip", False, dtype).hdf5_filters["shuffle"] is False
    assert codecs.choose("gzip", True, np.dtype("u1")).hdf5_filters["shuffle"] is False


@pytest.mark.parametrize("compression", ["gzip", "none"])
def test_damaged_bytes_are_refused(compression: str) -> None:
    codec = codecs.choose(compression, None, np.dtype("<i4"))
    chunk = noise((16, 16), np.dtype("<i4"))
    encoded = codec.encode(chunk, chunk.shape)
    for damaged in (encoded[:-1], b"", codec.encode(chunk[:8], (8, 16))):
        with pytest.raises(ValueError, match=r"a chunk"):
            codec.decode(damaged, chunk.shape)
    if compression == "gzip":
        flipped = bytearray(encoded)
        flipped[len(flipped) // 2] ^= 1
        with pytest.raises(ValueError, match="cannot be inflated"):
            codec.decode(bytes(flipped), chunk.shape)


def test_the_fastest_backend_that_is_there_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> deflate.DeflateBackend:
        raise ImportError("not here")

    deflate.best_backend.cache_clear()
    try:
        monkeypatch.setitem(deflate.DEFLATE_BACKENDS, "isal", missing)
        monkeypatch.setitem(deflate.DEFLATE_BACKENDS, "deflate", missing)
        assert codecs.deflate_backend() in {"zlib", "huffman+zlib"}
        codec = codecs.choose("gzip", None, np.dtype("<f4"))
        chunk = smooth((8, 8), np.dtype("<f4"))
        np.testing.assert_array_equal(codec.decode(codec.encode(chunk, (8, 8)), (8, 8)), chunk)
    finally:
        deflate.best_backend.cache_clear()


def test_an_unknown_compression_is_refused() -> None:
    with pytest.raises(CodecUnavailable, match="'zstd'") as refused:
        codecs.choose("zstd", None, np.dtype("<f4"))
    assert refused.value.code == "unsupported_feature"


def test_a_missing_plugin_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    bitshuffle.bitshuffle_library.cache_clear()
    with pytest.raises(CodecUnavailable, match="hdf5plugin") as refused:
        codecs.choose("bitshuffle-lz4", None, np.dtype("<f4"))
    assert "pip install 'usidstream[plugins]'" in refused.value.hint
    assert refused.value.code == "unsupported_feature"


@needs_hdf5plugin
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("make", [noise, constant, smooth])
def test_the_plugin_reads_bitshuffle_lz4(tmp_path: Path, dtype: object, make: object) -> None:
    import hdf5plugin

    dtype = np.dtype(dtype)
    elements = make(SHAPE, dtype)
    codec = codecs.choose("bitshuffle-lz4", None, dtype)
    read = read_through_hdf5(tmp_path / "main.h5", elements, codec)
    np.testing.assert_array_equal(as_bytes(read), as_bytes(elements))
    with h5py.File(tmp_path / "theirs.h5", "w") as file:
        filters = hdf5plugin.Bitshuffle(nelems=0, cname="lz4")
        dataset = file.create_dataset("main", data=elements, chunks=CHUNK, **filters)
        _, theirs = dataset.id.read_direct_chunk((0, 0))
        whole = elements[: CHUNK[0], : CHUNK[1]]
        np.testing.assert_array_equal(as_bytes(codec.decode(theirs, CHUNK)), as_bytes(whole))
        assert theirs == codec.encode(whole, CHUNK)


@needs_hdf5plugin
def test_damaged_bitshuffle_is_refused() -> None:
    dtype = np.dtype("<u2")
    codec = codecs.choose("bitshuffle-lz4", None, dtype)
    chunk = smooth((64, 64), dtype)
    encoded = codec.encode(chunk, chunk.shape)
    longer_block = encoded[:12] + b"\x7f" + encoded[13:]
    no_block = encoded[:8] + bytes(4) + encoded[12:]
    other_chunk = codec.encode(chunk[:32], (32, 64))
    for damaged in (b"", encoded[:11], encoded[:-1], longer_block, no_block, other_chunk):
        with pytest.raises(ValueError, match="bitshuffle"):
            codec.decode(damaged, chunk.shape)
