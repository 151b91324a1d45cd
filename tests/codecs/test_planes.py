"""Planes coded by our own loops are what every inflater makes the same bytes of."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from usidstreamd.codecs import deflate, gzip, planes

pytestmark = pytest.mark.skipif(
    planes.compiled is None, reason="the package was installed without a C compiler"
)

BLOCK_NBYTES = 32 << 10
SOURCE = Path(planes.__file__).with_name("_planes.c")


def fibonacci_frequencies(n_values: int, most: int) -> np.ndarray:
    """Bytes whose best code is as long as it can be, which must be cut: a tree like a rope."""
    counts = [1, 1]
    while len(counts) < n_values and sum(counts) + counts[-1] + counts[-2] <= most:
        counts.append(counts[-1] + counts[-2])
    values = np.repeat(np.arange(len(counts), dtype=np.uint8), counts)
    return np.random.default_rng(1).permutation(values)


def corpus() -> Iterator[tuple[str, np.ndarray]]:
    """Planes that have something at which a coder may fall over."""
    rng = np.random.default_rng(7)
    noise = rng.integers(0, 256, 3 * BLOCK_NBYTES, np.uint8)
    skewed = (rng.geometric(0.3, 3 * BLOCK_NBYTES) % 256).astype(np.uint8)
    for n in (0, 1, 2, 7, 8, 9, 15, 16, 17, 63, 300, 65535, 65536):
        yield f"{n} of noise", noise[:n]
        yield f"{n} skewed", skewed[:n]
        yield f"{n} alike", np.full(n, 200, np.uint8)
    for n in range(1, 3 * BLOCK_NBYTES, BLOCK_NBYTES // 2 - 1):
        yield f"{n} skewed, across blocks", skewed[:n]
    for k in range(-2, 3):
        yield f"a block and {k}", skewed[: BLOCK_NBYTES + k]
    for n in (20, 27, 40, 256):
        yield f"{n} Fibonacci frequencies", fibonacci_frequencies(n, BLOCK_NBYTES)
    yield "all values once, then one", np.r_[np.arange(256), np.zeros(9000)].astype(np.uint8)
    yield "two values", rng.integers(0, 2, 50000, np.uint8) * 255
    yield "in turn", np.tile(np.arange(7, dtype=np.uint8), 9000)
    yield "noise, then nothing", np.r_[noise[:BLOCK_NBYTES], np.zeros(BLOCK_NBYTES, np.uint8)]
    lengths = np.arange(1, 1100)
    yield "runs of every length", np.repeat((lengths % 251).astype(np.uint8), lengths)
    few = rng.choice([*range(1, 12), *range(255, 275), 510, 516, 517, 518, 519], 400)
    yield "runs of odd lengths", np.repeat(rng.integers(0, 9, 400, np.uint8), few)


CORPUS = dict(corpus())


def inflaters() -> dict[str, Callable[[bytes], bytes]]:
    found: dict[str, Callable[[bytes], bytes]] = {"zlib": zlib.decompress}
    try:
        from isal import isal_zlib

        found["isal"] = isal_zlib.decompress
    except ImportError:
        pass
    return found


def code(plane: np.ndarray) -> bytes:
    return planes.zlib_stream(plane.reshape(1, -1), planes.CODED, deflate.best_backend())


@pytest.mark.parametrize("name", CORPUS)
def test_what_is_coded_inflates_to_the_same_bytes(name: str) -> None:
    plane = CORPUS[name]
    stream = code(plane)
    for inflater, inflate in inflaters().items():
        assert inflate(stream) == plane.tobytes(), inflater
    assert len(stream) <= len(plane) * 1.001 + 20


def test_the_other_library_inflates_it_too() -> None:
    """libdeflate refuses what is not strictly as RFC 1951 has it."""
    library = pytest.importorskip("deflate")
    for plane in CORPUS.values():
        if len(plane):
            assert library.zlib_decompress(code(plane), len(plane)) == plane.tobytes()


pieces = st.one_of(
    st.binary(max_size=400),
    st.tuples(st.binary(min_size=1, max_size=1), st.integers(1, 1200)).map(lambda p: p[0] * p[1]),
    st.tuples(st.binary(min_size=1, max_size=5), st.integers(1, 3000)).map(lambda p: p[0] * p[1]),
    st.tuples(st.integers(1, 255), st.integers(0, 2**32)).map(
        lambda p: np.random.default_rng(p[1]).integers(0, p[0], 2000, np.uint8).tobytes()
    ),
)


@settings(max_examples=200)
@given(st.lists(pieces, max_size=30))
def test_any_bytes_come_back(parts: list[bytes]) -> None:
    whole = b"".join(parts)
    assert zlib.decompress(code(np.frombuffer(whole, np.uint8))) == whole


@pytest.mark.parametrize("nbytes", [0, 1, 63, 64, 65, 5119, 5120, 5121, 40000])
@pytest.mark.parametrize("value", [0, 255, None])
def test_the_checksum_is_that_of_all_planes(nbytes: int, value: int | None) -> None:
    rng = np.random.default_rng(nbytes)
    whole = rng.integers(0, 256, (3, nbytes), np.uint8)
    if value is not None:
        whole[:] = value
    stream = planes.compiled.zlib_stream(whole, b"scs", ())
    assert int.from_bytes(stream[-4:], "big") == zlib.adler32(whole)


@given(st.data(), st.integers(1, 9), st.integers(0, 3000))
def test_planes_of_all_kinds_stand_in_one_stream(
    data: st.DataObject, n_planes: int, nbytes: int
) -> None:
    """Where a coded plane ends within a byte, what a library made begins with the next."""
    rng = np.random.default_rng(n_planes * 5000 + nbytes)
    whole = (rng.geometric(0.2, (n_planes, nbytes)) % 256).astype(np.uint8)
    ways = bytes(data.draw(st.lists(st.sampled_from(b"scm"), min_size=n_planes, max_size=n_planes)))
    for backend in (deflate.DEFLATE_BACKENDS["zlib"](), deflate.best_backend()):
        assert zlib.decompress(planes.zlib_stream(whole, ways, backend)) == whole.tobytes()


def test_values_in_no_order_become_smaller_than_a_search_makes_them() -> None:
    """What the coder is for: exponents of noise, where matches cost more than they save."""
    floats = np.random.default_rng(2).normal(0, 3, 1 << 16).astype("<f4")
    exponents = np.ascontiguousarray(floats.view(np.uint8).reshape(-1, 4)[:, 3])
    assert len(code(exponents)) < 0.95 * len(zlib.compress(exponents.tobytes(), 4))
    assert gzip.choose_way(exponents, deflate.best_backend()) == planes.CODED


def test_each_plane_is_treated_as_pays() -> None:
    rng = np.random.default_rng(5)
    backend = deflate.best_backend()
    if backend.raw_blocks is None:
        pytest.skip(f"{backend.name} makes no blocks")
    cases = {
        planes.STORED: [rng.integers(0, 256, 50000, np.uint8), rng.integers(0, 250, 5, np.uint8)],
        planes.CODED: [rng.binomial(8, 0.5, 50000).astype(np.uint8), np.zeros(50000, np.uint8)],
        planes.MATCHED: [np.tile(rng.integers(0, 256, 100, np.uint8), 500)],
    }
    for way, examples in cases.items():
        for plane in examples:
            assert gzip.choose_way(plane, backend) == way


def test_a_block_follows_what_the_data_does() -> None:
    """Half a plane is noise and half is not: each half is treated as it deserves."""
    rng = np.random.default_rng(6)
    noise = rng.integers(0, 256, 4 * BLOCK_NBYTES, np.uint8)
    flat = rng.binomial(4, 0.5, 4 * BLOCK_NBYTES).astype(np.uint8)
    stream = code(np.r_[noise, flat])
    assert noise[1000:2000].tobytes() in stream
    assert len(stream) < len(noise) + 0.28 * len(flat)


@pytest.mark.parametrize("n_values", [256, 200, 160, 140, 120])
def test_what_is_taken_for_noise_has_nothing_to_save(n_values: int) -> None:
    """7.2 bits are 147 values alike in number: about there the look must change its mind."""
    plane = np.random.default_rng(8).integers(0, n_values, 8 * BLOCK_NBYTES, np.uint8)
    is_stored = len(code(plane)) >= len(plane)
    assert is_stored == (n_values > 147)


@pytest.mark.parametrize("itemsize", [1, 2, 3, 4, 5, 8, 12, 16])
def test_bytes_are_shuffled_from_lines_of_a_wider_band(itemsize: int) -> None:
    rng = np.random.default_rng(itemsize)
    for n_lines, n, step in ((1, 1, 1), (5, 7, 20), (64, 33, 100), (3, 5000, 5001), (9, 16, 16)):
        band = rng.integers(0, 256, (n_lines, step * itemsize), np.uint8)
        for lines in (band[:, : n * itemsize], band[::-1, : n * itemsize]):
            found = np.empty((itemsize, n_lines * n), np.uint8)
            planes.compiled.shuffle(lines, found)
            expected = lines.reshape(n_lines * n, itemsize).T
            np.testing.assert_array_equal(found, expected)


def test_what_does_not_fit_together_is_refused_and_nothing_is_written() -> None:
    shuffle, stream = planes.compiled.shuffle, planes.compiled.zlib_stream
    lines = np.zeros((4, 12), np.uint8)
    for wrong in ((4, 13), (5, 12), (0, 48), (48,), (2, 2, 12)):
        target = np.full(wrong, 9, np.uint8)
        with pytest.raises(ValueError, match="planes"):
            shuffle(lines, target)
        assert (target == 9).all()
    for source in (lines[:, ::2], lines.view("<u2"), lines.reshape(-1)):
        with pytest.raises(ValueError, match="lines and planes must be bytes"):
            shuffle(source, np.zeros((4, 12), np.uint8))
    read_only = np.zeros((4, 12), np.uint8)
    read_only.flags.writeable = False
    with pytest.raises((ValueError, BufferError)):
        shuffle(lines, read_only)

    for ways, matched, message in (
        (b"", (), "no 0 planes"),
        (b"ccccc", (), "no 5 planes"),
        (b"cxcc", (), "plane 1 is to be treated in no known way"),
        (b"cmcc", (), "1 planes have matches, and blocks of 0"),
        (b"cccc", (b"",), "0 planes have matches, and blocks of 1"),
    ):
        with pytest.raises(ValueError, match=message):
            stream(lines, ways, matched)
    with pytest.raises(TypeError, match="must be bytes"):
        stream(lines, b"cmcc", ("text",))
    with pytest.raises(TypeError, match="bytes"):  # it could change after it was looked at
        stream(lines, np.frombuffer(b"cccc", np.uint8).copy(), ())
    with pytest.raises(ValueError, match="48 bytes are no 2 planes"):
        stream(np.zeros((4, 12), np.uint8), b"cc", (), lines)
    target = np.full((3, 12), 9, np.uint8)
    with pytest.raises(ValueError, match="4 lines of 12 bytes are no 3 planes"):
        stream(target, b"ccc", (), lines)
    assert (target == 9).all()


IN_ANOTHER_INTERPRETER = """
import importlib.util, zlib
spec = importlib.util.spec_from_file_location("_planes", {path!r})
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
plane = bytes(range(7)) * 9000
assert zlib.decompress(module.zlib_stream(plane, b"c", ())) == plane
"""


def test_it_works_in_another_interpreter_with_a_lock_of_its_own() -> None:
    interpreters = pytest.importorskip("_interpreters", reason="Python 3.13 has them")
    code = IN_ANOTHER_INTERPRETER.format(path=planes.compiled.__file__)
    other = interpreters.create("isolated")
    try:
        assert interpreters.run_string(other, code) is None
    finally:
        interpreters.destroy(other)


UNDER_SANITIZERS = """
import sys, zlib
sys.path.insert(0, sys.argv[1])
import numpy as np, _planes
from codecs_corpus import CORPUS
for name, plane in CORPUS.items():
    plane = plane.copy()
    for ways in (b"c", b"s"):
        found = _planes.zlib_stream(plane, ways, ())
        assert zlib.decompress(found) == plane.tobytes(), name
for itemsize in (1, 2, 4, 8, 12):
    band = np.random.default_rng(1).integers(0, 256, (37, 50 * itemsize), np.uint8)
    planes = np.empty((itemsize, 37 * 33), np.uint8)
    _planes.shuffle(band[:, : 33 * itemsize], planes)
    assert (planes == band[:, : 33 * itemsize].reshape(-1, itemsize).T).all()
    found = _planes.zlib_stream(planes * 0, b"c" * itemsize, (), band[:, : 33 * itemsize])
    assert zlib.decompress(found) == planes.tobytes()
print("sound")
"""

CHANGED_MEANWHILE_C = """
#include "_planes.c"

#define UNTOLD __attribute__((no_instrument_function))
#define OURS __attribute__((visibility("hidden"))) /* the C library has functions of that name */

static uint8_t *plane;
static const uint8_t *changed;
static size_t nbytes;

UNTOLD void change_meanwhile(uint8_t *to, const uint8_t *from, size_t n) {
    plane = to, changed = from, nbytes = n;
}

/* The compiler calls it as every function begins. Where a head is put, bytes have been counted. */
UNTOLD OURS void __cyg_profile_func_enter(void *function, void *caller) {
    (void)caller;
    if (plane != NULL && function == (void *)put_head) memcpy(plane, changed, nbytes);
}

UNTOLD OURS void __cyg_profile_func_exit(void *function, void *caller) {
    (void)function, (void)caller;
}
"""
CHANGED_MEANWHILE = """
import ctypes, sys, zlib
sys.path.insert(0, sys.argv[1])
import numpy as np, _planes
from codecs_corpus import CORPUS
skewed, rarest = CORPUS["skewed"], CORPUS["rarest"]
library = ctypes.CDLL(_planes.__file__)
for n_blocks in (1, 3):
    plane, changed = np.tile(skewed, n_blocks), np.tile(rarest, n_blocks)
    address = ctypes.c_void_p(plane.ctypes.data), ctypes.c_void_p(changed.ctypes.data)
    library.change_meanwhile(*address, ctypes.c_size_t(len(plane)))
    found = _planes.zlib_stream(plane, b"c", ())
    assert (plane == changed).all()
    assert zlib.decompress(found) == changed.tobytes()
print("sound")
"""


def test_no_byte_is_touched_that_is_not_ours(tmp_path: Path) -> None:
    """The loops under the compiler's sanitizers: addresses, overflows, shifts, alignment."""
    arrays = {str(k): plane for k, plane in enumerate(CORPUS.values())}
    assert_sound(tmp_path, SOURCE, UNDER_SANITIZERS, arrays)


def test_bytes_that_change_while_they_are_coded_are_written_within_bounds(tmp_path: Path) -> None:
    """All bytes are common when they are counted, and have the longest codes afterwards."""
    source = tmp_path / "changed_meanwhile.c"
    source.write_text(CHANGED_MEANWHILE_C)
    skewed = fibonacci_frequencies(21, BLOCK_NBYTES)
    common = np.full(BLOCK_NBYTES - len(skewed), skewed.max(), np.uint8)
    rarest = np.tile(np.array([0, 1], np.uint8), BLOCK_NBYTES // 2)
    arrays = {"skewed": np.random.default_rng(1).permutation(np.r_[skewed, common])}
    arrays["rarest"] = rarest
    assert_sound(tmp_path, source, CHANGED_MEANWHILE, arrays, "-finstrument-functions")


def assert_sound(
    tmp_path: Path, source: Path, program: str, arrays: dict[str, np.ndarray], *options: str
) -> None:
    """Run a program with the module under sanitizers; it finds arrays in its CORPUS."""
    compiler = shutil.which("gcc")
    if compiler is None or not sys.platform.startswith("linux"):
        pytest.skip("sanitizers are taken from gcc on Linux")
    library = subprocess.run(
        [compiler, "-print-file-name=libasan.so"], capture_output=True, text=True, check=True
    ).stdout.strip()
    if not os.path.isabs(library):
        pytest.skip("gcc came without its sanitizers: Debian's package libgcc-dev")
    checks = [
        "-fsanitize=address,undefined",
        "-fno-sanitize-recover=all",
        "-fno-omit-frame-pointer",
    ]
    warnings = ["-Wall", "-Wextra", "-Wconversion", "-Werror"]
    # A form for each processor is chosen before the sanitizers have begun.
    one_form = ["-Dtarget_clones(...)=unused"]
    headers = ["-isystem", sysconfig.get_path("include")]
    module = tmp_path / "_planes.so"
    subprocess.run(
        [compiler, "-O1", "-g", "-fPIC", "-shared", *checks, *warnings, *one_form, *headers,
         *options, f"-I{SOURCE.parent}", str(source), "-o", str(module)],
        check=True,
    )  # fmt: skip
    np.savez(tmp_path / "corpus.npz", **arrays)
    loader = "import numpy as np\nfrom pathlib import Path\n"
    loader += "CORPUS = dict(np.load(Path(__file__).with_name('corpus.npz')))\n"
    (tmp_path / "codecs_corpus.py").write_text(loader)
    environment = {**os.environ, "LD_PRELOAD": library, "ASAN_OPTIONS": "detect_leaks=0"}
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout == "sound\n", done.stderr[-4000:]
