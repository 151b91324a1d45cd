"""Everything that parses, each with valid samples, a way to spoil them, and what must come of it.

A case is one spoilt input and one reading of it. It ends with what was read, or with an error of
the stable list that says enough and not too much; it returns a word for the count of outcomes. Any
other exception is a fault of ours. What drives the cases (a seed and a number, hypothesis, a
coverage-guided fuzzer) hands in all chance.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any, TypeAlias
from unittest import mock

import h5py
import msgpack
import numpy as np

from support import mutation
from support.journalled import JournalledScan
from support.storing import GZIP, SCAN_ID, layout_of, main_of, random_data
from support.wire_samples import ALL, public_fields
from usidstream import wire
from usidstream.client.spool_files import SpooledScan, SpoolFolder, read_header
from usidstream.delivery import SpooledForm
from usidstream.delivery.conform import MainShape
from usidstream.delivery.payload import Payload
from usidstream.errors import ERRORS, UsidstreamError
from usidstream.framing import FramingError, frame, pack, unpack
from usidstream.layout import Dimension, MainLayout, PositionTable, ScanLayout
from usidstreamd import storage
from usidstreamd.config import sources
from usidstreamd.session import error_message
from usidstreamd.storage import MainPlan, recovery
from usidstreamd.storage.held import held_coverage
from usidstreamd.storage.inspection import inspect
from usidstreamd.storage.ledger import LEDGER_NAME, is_interrupted, replay
from usidstreamd.storage.ledger_records import (
    Annotated,
    Checkpoint,
    Chunks,
    Closed,
    Done,
    Finalise,
    Held,
    Opened,
    Recovered,
    encode,
    encode_head,
)  # fmt: skip
from usidstreamd.storage.plausible import require_plausible
from usidstreamd.storage.record import RECORD_NAME, OpenRecord
from usidstreamd.storage.segments import JournalBlock, RowJournal, RowReplay
from usidstreamd.storage.superblock import consistency_flags, require_closed
from usidstreamd.storage.superblock_repair import RepairedView, Superblock, repair

MAX_ERROR_CHARS = 8192
"""What an error says has to fit a log's line and a screen."""
RECOVERED_OF_LEDGERS = 4
"""One ledger of so many goes through the whole recovery, with its file; all are read."""
COMPARED_OF_RECOVERED = 256
"""One recovery of so many compares in a process of its own, as a daemon does."""
VIEWED_BYTES = 4096

Case: TypeAlias = Callable[[Random], str]
Target: TypeAlias = Callable[[Path], Case]
"""Makes a target's samples in a directory of its own; returns what runs a case."""


def attempt(act: Callable[[], Any]) -> tuple[Any, str]:
    """Return what ``act`` returned, and ``taken``; or the error, and its code."""
    try:
        return act(), "taken"
    except UsidstreamError as error:
        require_telling(error)
        return error, error.code


def require_telling(error: UsidstreamError) -> None:
    """Fail unless an error is of the stable list, and says enough and not too much."""
    assert error.code in ERRORS, error.code
    assert error.code != "internal_error", error
    assert error.message, error.code
    assert error.hint, error
    assert len(str(error)) <= MAX_ERROR_CHARS, f"{len(str(error))} characters of {error.code}"
    wire.encode(error_message(error, "read"))  # it can be told to a peer


# ---------------------------------------------------------------- messages


def sample_messages(kinds: list[type[wire.Message]], scan: str = SCAN_ID) -> list[wire.Message]:
    """Return one message of each kind, all fields set."""
    return [_sample(kind, scan) for kind in kinds]


def _sample(kind: type[wire.Message], scan: str) -> wire.Message:
    values: dict[str, Any] = {}
    for spec in public_fields(kind):
        read = wire.read_kind(spec.type)
        assert read is not None
        values[spec.name] = scan if spec.name == "scan" else _value_of(read)
    if kind is wire.Hello:
        values["versions"] = [1]
    frames: list[wire.Frame] = []
    if "layout" in values:
        values["layout"] = wire.pack_layout(sample_layout().to_dict(), frames)
    elif "attrs" in values:
        values["attrs"] = wire.pack_layout({"drift": np.arange(3.0), "who": "x"}, frames)
    elif "coverage" in values and isinstance(values["coverage"], dict):
        values["coverage"] = {"Raw": {"complete": wire.pack_ranges([(0, 4)], frames)}}
    elif kind is wire.Increment:
        values["rows"], rows = wire.pack_rows(np.array([1, 2, 3, 7, 8]))
        frames += [rows, np.arange(5, dtype="<f4").tobytes()]
    elif kind is wire.Newest:
        values |= {"shape": [2, 3], "steps": [1, 1]}
        frames.append(np.arange(6, dtype="<f4").tobytes())
    return kind(frames=tuple(frames), **values)


_PLAIN: dict[type, Any] = {str: "text", int: 3, bool: True, float: 2.5}


def _value_of(kind: wire.Kind) -> Any:
    if kind.python in _PLAIN:
        return _PLAIN[kind.python]
    item = _value_of(kind.item) if kind.item is not None else 1
    return [item, item] if kind.python is list else {"a": item}


def spoil_message(chance: Random, message: wire.Message) -> list[bytes]:
    """Return a message's frames with lies in its fields, or with spoilt bytes, or both."""
    head, *raw = [bytes(part) for part in wire.encode(message)]
    if chance.random() < 0.7:
        fields = msgpack.unpackb(head)
        names = [name for name in fields if name != "type" or chance.random() < 0.1]
        name = chance.choice(names or ["type"])
        fields[name] = mutation.spoil_value(chance, fields[name])
        try:
            head = msgpack.packb(fields)
        except (ValueError, OverflowError, TypeError):  # it has no form on the wire
            head = mutation.spoil_bytes(chance, head)
    else:
        head = mutation.spoil_bytes(chance, head)
    if raw and chance.random() < 0.4:
        at = chance.randrange(len(raw))
        raw[at] = mutation.spoil_bytes(chance, raw[at])
    if chance.random() < 0.1:
        raw = chance.choice([[], [*raw, b""], raw[:-1], raw * 2, [head, *raw]])
    return [head, *raw]


def follow(message: wire.Message) -> None:
    """Read what refers to raw frames, as a receiver does."""
    if isinstance(message, wire.Increment):
        attempt(lambda: wire.unpack_increment(message))
    if isinstance(message, wire.Newest):
        attempt(lambda: wire.unpack_newest(message))
    for field in ("layout", "attrs"):
        attempt(lambda: wire.unpack_layout(getattr(message, field, {}), message.frames))  # noqa: B023 - run now
    if isinstance(message, wire.Opened | wire.StatusReport):
        for indices in message.coverage.values():
            attempt(lambda: wire.unpack_ranges(indices.get("complete"), message.frames, 2))  # noqa: B023 - run now


def _messages(
    kinds: Mapping[str, type[wire.Message]], decode: Callable[[list[Any]], wire.Message]
) -> Target:
    def make(_directory: Path) -> Case:
        samples = sample_messages(list(kinds.values()))
        foreign = sample_messages(ALL)

        def case(chance: Random) -> str:
            some = samples if chance.random() < 0.9 else foreign
            frames = spoil_message(chance, chance.choice(some))
            message, outcome = attempt(lambda: decode(frames))
            if outcome == "taken":
                wire.encode(message)
                follow(message)
            return outcome

        return case

    return make


def telemetry_messages(directory: Path) -> Case:
    """Read what telemetry sends: a topic stands before the header."""
    topics = (b"daemon", wire.scan_topic(SCAN_ID).encode(), b"", b"\xff", b"x" * 300)
    topic = [topics[0]]
    case = _messages(wire.TELEMETRY_MESSAGES, lambda frames: _read_telemetry(topic[0], frames))(
        directory
    )

    def with_topic(chance: Random) -> str:
        topic[0] = chance.choice(topics[:2] if chance.random() < 0.9 else topics)
        return case(chance)

    return with_topic


def _read_telemetry(topic: bytes, frames: list[Any]) -> wire.Message:
    told, message = wire.decode_telemetry([topic, *frames])
    assert told.encode() == topic
    return message


# ---------------------------------------------------------------- layouts and configuration


def sample_layout() -> ScanLayout:
    """Return a layout that uses everything a layout can say."""
    bias = Dimension("Bias", "V", np.linspace(-1, 1, 4))
    mains = [
        MainLayout("Raw", "Current", "nA", "float32", [bias, Dimension("Cycle", "", 2)],
                   chunks=(4, 4), compression="gzip", shuffle=True, attrs={"gain": 9, "x": [1.5]}),
        MainLayout("Mask", "Flag", "", [("a", "<u2"), ("b", "<f4")], order="columns", dataset="M"),
    ]  # fmt: skip
    positions = [Dimension("X", "nm", 4), Dimension.regular("Y", "um", start=0, step=2, size=3)]
    return ScanLayout(
        positions=positions, mains=mains, attrs={"who": "x", "n": 3}, pixel_time_s=0.01
    )


def sample_layouts() -> list[ScanLayout]:
    """Return layouts with dimensions and with a table of positions."""
    table = PositionTable(["X", "Y"], ["nm", "nm"], np.arange(10.0).reshape(5, 2))
    return [sample_layout(), ScanLayout(positions=table, mains=[main_of()])]


def layout_from_dict(_directory: Path) -> Case:
    samples = []
    for layout in sample_layouts():
        frames: list[wire.Frame] = []
        plain = wire.pack_layout(layout.to_dict(), frames)
        samples.append((plain, [bytes(part) for part in frames]))

    def case(chance: Random) -> str:
        plain, frames = chance.choice(samples)
        plain = mutation.spoil_value(chance, plain)
        if frames and chance.random() < 0.3:
            frames = [mutation.spoil_bytes(chance, part) for part in frames]

        def read() -> None:
            layout = ScanLayout.from_dict(wire.unpack_layout(plain, frames))
            assert layout == ScanLayout.from_dict(layout.to_dict())
            storage.refuse_reserved_in(layout)

        return attempt(read)[1]

    return case


def layout_from_toml(_directory: Path) -> Case:
    presets = Path(__file__).parents[2] / "config" / "layouts"
    samples = [path.read_text("utf-8") for path in sorted(presets.glob("*.toml"))]
    samples += [layout.dumps() for layout in sample_layouts()]
    path = _directory / "layout.toml"

    def case(chance: Random) -> str:
        path.write_bytes(mutation.spoil_text(chance, chance.choice(samples)))
        return attempt(lambda: ScanLayout.load(path))[1]

    return case


def configuration(directory: Path) -> Case:
    sample = (Path(__file__).parents[2] / "config" / "usidstream.toml").read_text("utf-8")
    # The options stand in comments; a sample has them all set.
    sample = "\n".join(
        line.removeprefix("# ") if " = " in line and not line.startswith("# " * 2) else line
        for line in sample.splitlines()
    )
    path = directory / "usidstream.toml"
    names = [line.split(" =")[0] for line in sample.splitlines() if " = " in line]

    def case(chance: Random) -> str:
        path.write_bytes(mutation.spoil_text(chance, sample))
        name = "USIDSTREAM_" + chance.choice(names).upper()
        environ = {name: str(mutation.anything(chance))} if chance.random() < 0.3 else {}
        gathered = sources.gather(path, environ=environ)
        assert (gathered.config is None) == bool(gathered.problems)
        for problem in gathered.problems:
            assert 0 < len(problem.message) <= MAX_ERROR_CHARS, len(problem.message)
        return attempt(lambda: sources.load(path, environ=environ))[1]

    return case


# ---------------------------------------------------------------- a scan's files

LAYOUT = layout_of(
    main_of("Raw", n=8), main_of("Whole", "int16", 4, compression="none"), n_positions=48
)
PLANS = {"Raw": MainPlan((4, 4), GZIP), "Whole": MainPlan((16, 4), {})}


def make_scan(directory: Path) -> JournalledScan:
    """Leave a scan as a daemon that died does: chunks, some not flushed, and journalled rows."""
    directory.mkdir(exist_ok=True)
    scan = JournalledScan(directory, LAYOUT, PLANS)
    scan.open()
    for name in PLANS:
        scan.store(name, random_data(LAYOUT, name), 0, 16)
    scan.h5_file.flush()
    rows = random_data(LAYOUT, "Raw")[32:34]
    block = JournalBlock(0, 32, 2, 0, 8, memoryview(np.ascontiguousarray(rows)))
    scan.journal.commit([], [block], {"note": "x"})
    scan.store("Raw", random_data(LAYOUT, "Raw"), 16, 32)
    # What a dead writer leaves: the flags stand, and the ledger says nothing of a close.
    left = {path: path.read_bytes() for path in sorted(directory.rglob("*")) if path.is_file()}
    scan.close()
    for path, content in left.items():
        path.write_bytes(content)
    return scan


def spoil_map_record(chance: Random, payload: bytes) -> bytes:
    """Let a record of a ledger lie: in its map's values, or in the fields of its entries."""
    if payload[:1] == b"m" and chance.random() < 0.7:
        try:
            return b"m" + pack(mutation.spoil_value(chance, unpack(payload[1:])))
        except FramingError:
            return payload[:-1]
    if payload[:1] == b"c" and len(payload) > 40 and chance.random() < 0.6:
        entries = bytearray(payload[1:])
        at = 40 * chance.randrange(len(entries) // 40) + chance.choice((0, 4, 8, 16, 24, 32, 36))
        width = 4 if at % 40 in (0, 4, 32, 36) else 8
        number = chance.choice(mutation.NUMBERS) % (1 << 8 * width)
        entries[at : at + width] = number.to_bytes(width, "little")
        return b"c" + bytes(entries)
    return mutation.spoil_bytes(chance, payload)


def sample_ledgers(scan: JournalledScan) -> list[bytes]:
    """Return the scan's own ledger, and ones with records of every kind behind its."""
    own = (scan.directory / LEDGER_NAME).read_bytes()
    table = {"Raw": np.array([[4, 6, 0, 3]])}
    chunk = next(iter(replay(scan.directory / LEDGER_NAME).chunks))
    more = [
        Held(table), Annotated({"a": 1, "b": np.arange(3.0)}), Checkpoint(1), Recovered(2),
        Chunks([chunk, chunk._replace(is_complete=False)]), Opened(), Closed(),
        Finalise("interrupted", "2025-01-01T00:00:00+00:00", {"x": 1}, {"Raw": [(4, 9)]}, table),
        Done(),
    ]  # fmt: skip
    head = frame(encode_head())
    every = own + b"".join(frame(encode(record)) for record in more)
    return [own, own, every, head + b"".join(frame(encode(record)) for record in more)]


def ledgers(directory: Path) -> Case:
    """Read damaged ledgers, and let some go through the whole recovery with their files."""
    scan = make_scan(directory / "data")
    samples = sample_ledgers(scan)
    kept = directory / "kept"
    shutil.copytree(directory / "data", kept)
    path = scan.directory / LEDGER_NAME

    def look() -> None:
        state = replay(path)
        require_plausible(scan.record, state, path)
        held_coverage(LAYOUT, PLANS, state.chunks, state.partial)

    def case(chance: Random) -> str:
        path.write_bytes(mutation.spoil_records(chance, chance.choice(samples), spoil_map_record))
        is_interrupted(path)
        outcome = attempt(look)[1]
        if chance.randrange(RECOVERED_OF_LEDGERS):
            return outcome
        in_process = chance.randrange(COMPARED_OF_RECOVERED) > 0
        outcome = _recover(scan, in_process=in_process)
        shutil.rmtree(directory / "data")
        shutil.copytree(kept, directory / "data")
        return outcome

    return case


def _recover(scan: JournalledScan, *, in_process: bool) -> str:
    """Recover a scan; what is refused stays as it was, and what is done is done for good."""
    before = scan.path.read_bytes()
    with _comparing_here() if in_process else _comparing_as_ever():
        report, outcome = attempt(lambda: recovery.recover(scan.directory))
        if outcome != "taken":
            assert scan.path.read_bytes() == before, "a recovery that failed changed the file"
            assert {p.name for p in scan.path.parent.iterdir()} == {
                scan.path.name, scan.directory.name
            }  # fmt: skip
            return f"recovery: {outcome}"
        assert consistency_flags(scan.path) == 0
        again, outcome = attempt(lambda: recovery.recover(scan.directory))
    assert outcome == "taken", again
    assert again.how == recovery.NOTHING_TO_DO, again
    json.dumps(report.to_dict())
    with h5py.File(scan.path, "r") as h5_file:
        h5_file.visititems(lambda _name, item: dict(item.attrs) and None)
    return f"recovery: {report.how}"


@contextmanager
def _comparing_here() -> Iterator[None]:
    def compare(path: Path, journal: Path, ledger: Path, *_more: Any) -> Any:
        return inspect(path, OpenRecord.read(journal), replay(ledger).chunks)

    with mock.patch.object(recovery, "compare", compare):
        yield


@contextmanager
def _comparing_as_ever() -> Iterator[None]:
    yield


def row_segments(directory: Path) -> Case:
    journal = RowJournal(directory, target_bytes=1)
    data = np.arange(24, dtype="<f4").tobytes()
    for scattered in (None, np.array([3, 1, 9], "<u8").tobytes(), None):
        rows = 3 if scattered else 2
        journal.append([JournalBlock(0, 0, rows, 0, 8, data[: rows * 32], scattered)])
    journal.sync()
    journal.close()
    paths = sorted(directory.iterdir())
    samples = {path: path.read_bytes() for path in paths}

    def case(chance: Random) -> str:
        path = chance.choice(paths)
        path.write_bytes(mutation.spoil_records(chance, samples[path]))
        replayed = RowReplay(directory, chance.choice((0, 1, 2)))
        blocks, outcome = attempt(lambda: list(replayed))
        if outcome == "taken":
            for block in blocks:
                _ = block.nbytes, block.parts()
            assert all(len(fault) <= MAX_ERROR_CHARS for fault in replayed.faults)
            outcome = "told" if replayed.faults else "taken"
        attempt(lambda: RowJournal(directory).close())
        path.write_bytes(samples[path])
        return outcome

    return case


def open_record(directory: Path) -> Case:
    scan = make_scan(directory)
    path = scan.directory / RECORD_NAME
    sample = path.read_bytes()

    def spoil(chance: Random, payload: bytes) -> bytes:
        try:
            return pack(mutation.spoil_value(chance, unpack(payload)))
        except FramingError:
            return mutation.spoil_bytes(chance, payload)

    def case(chance: Random) -> str:
        path.write_bytes(mutation.spoil_records(chance, sample, spoil))
        (found,) = storage.find_journals(directory)
        if isinstance(found, storage.StorageError):
            return attempt(lambda: _raise(found))[1]
        assert found.path.parent == directory, "a record names a file elsewhere"
        return attempt(lambda: OpenRecord.read(scan.directory))[1]

    return case


def _raise(error: Exception) -> None:
    raise error


def finished_results(directory: Path) -> Case:
    finished = storage.FinishedScans(directory)
    result = storage.FinishedResult("/data/x.h5", "incomplete", {"Raw": [(1, 3), (5, 9)]})
    finished.remember(SCAN_ID, result)
    (path,) = (p for p in directory.rglob("*") if p.name == SCAN_ID)
    sample = path.read_bytes()

    def spoil(chance: Random, payload: bytes) -> bytes:
        try:
            return pack(mutation.spoil_value(chance, unpack(payload)))
        except FramingError:
            return mutation.spoil_bytes(chance, payload)

    def case(chance: Random) -> str:
        path.write_bytes(mutation.spoil_records(chance, sample, spoil))
        found, outcome = attempt(lambda: finished.get(SCAN_ID))
        if outcome == "taken":
            missing = storage_missing(found)
            assert wire.encode(missing)
        return outcome

    return case


def storage_missing(result: storage.FinishedResult) -> wire.Message:
    """Return the answer that a client gets about a finished scan."""
    from usidstreamd.scan import missing_tables
    from usidstreamd.session import result_message

    return result_message(SCAN_ID, result.file, result.status, missing_tables(result))


def spool_files(directory: Path) -> Case:
    layout = layout_of(main_of("Raw", n=8), n_positions=48)
    form = SpooledForm([MainShape("Raw", 48, 8, np.dtype("<f4"))])
    folder = SpoolFolder(directory / SCAN_ID)
    folder.describe(SpooledScan(SCAN_ID, layout, "x", "tcp://127.0.0.1:1"))
    header = folder.folder / "scan"
    segment = storage_segment(folder, form)
    folder.close(remove=False)
    samples = {path: path.read_bytes() for path in (header, segment)}

    def spoil(chance: Random, payload: bytes) -> bytes:
        try:
            return pack(mutation.spoil_value(chance, unpack(payload)))
        except FramingError:
            return mutation.spoil_bytes(chance, payload)

    def read() -> str:
        read_header(folder.folder)
        again = SpoolFolder(folder.folder)
        try:
            found = again.leftovers(form)
            for left in found.segments:
                _read_segment(again, left, form)
            return "told" if found.damage or found.torn else "taken"
        finally:
            again.close(remove=False)

    def case(chance: Random) -> str:
        path = chance.choice((header, segment))
        how = spoil if path == header else mutation.spoil_bytes
        path.write_bytes(mutation.spoil_records(chance, samples[path], how))
        told, outcome = attempt(read)
        for left in folder.folder.glob("blocks-*"):
            left.unlink()
        for each, content in samples.items():
            each.write_bytes(content)
        return told if outcome == "taken" else outcome

    return case


def storage_segment(folder: SpoolFolder, form: SpooledForm) -> Path:
    """Write a segment of a spool with blocks of every form in it."""
    from usidstream.delivery import Segment

    data = np.arange(24, dtype="<f4").tobytes()
    numbers = memoryview(np.array([3, 1, 9], "<u8").tobytes())
    contents = [
        Payload("Raw", 0, 3, 0, 8, memoryview(data), None, wholes=((0, 3),)),
        Payload("Raw", 0, 3, 0, 8, memoryview(data), numbers),
        {"drift": 1.5, "who": "x"},
    ]
    segment = Segment(1, 1)
    _start, segment.nbytes = folder.append(segment, [form.encode(part) for part in contents])
    return folder.path(segment)


def _read_segment(folder: SpoolFolder, segment: Any, form: SpooledForm) -> None:
    for _offset, _nbytes, record in folder.read(
        segment, segment.waiting_at, segment.waiting, 1 << 20
    ):
        if record is not None:
            try:
                form.decode(record)
            except FramingError:
                continue  # it is told as damage


def superblocks(directory: Path) -> Case:
    scan = make_scan(directory)
    content = scan.path.read_bytes()
    found = Superblock.from_bytes(content)

    def case(chance: Random) -> str:
        head = mutation.spoil_bytes(chance, content[:64])
        if chance.random() < 0.5:  # a lie under a checksum that is right
            end = chance.choice(mutation.NUMBERS) % (1 << 40)
            head = Superblock(3, chance.randrange(256), found.extension, end, found.root).to_bytes()
        scan.path.write_bytes(head + content[len(head) :])

        def read() -> None:
            consistency_flags(scan.path)
            with RepairedView(scan.path) as view:
                view.read(VIEWED_BYTES)
            attempt(lambda: require_closed(scan.path))

        outcome = attempt(read)[1]
        if os.path.getsize(scan.path) == len(content) and outcome == "taken" and end_of(scan.path):
            outcome = attempt(lambda: repair(scan.path))[1]
            assert consistency_flags(scan.path) == 0
        return outcome

    return case


def end_of(path: Path) -> bool:
    """Whether a repair leaves a file of a size that a test can have."""
    return Superblock.from_bytes(path.read_bytes()).end < 1 << 24


TARGETS: dict[str, Target] = {
    "client-messages": _messages(wire.CLIENT_MESSAGES, wire.decode_client),
    "daemon-messages": _messages(wire.DAEMON_MESSAGES, wire.decode_daemon),
    "telemetry-messages": telemetry_messages,
    "layouts": layout_from_dict,
    "layout-files": layout_from_toml,
    "configuration": configuration,
    "ledgers": ledgers,
    "row-segments": row_segments,
    "open-records": open_record,
    "finished-results": finished_results,
    "spools": spool_files,
    "superblocks": superblocks,
}
