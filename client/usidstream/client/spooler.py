"""The thread between one scan's delivery and its spool's folder.

It alone touches the files, never while it holds the channel's lock, so that no disk holds up a
caller or the socket. `delivery.spool` says what is to be written, read and removed; this module
does it and tells what came of it. A block leaves memory when it is synced: after a failed sync
nothing of its batch counts, and it is written again to another segment.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ..delivery import Coverage, Entry, Payload, Segment, Spool, SpooledForm
from ..delivery.spooled import Content
from ..disk import NO_SPACE_NUMBERS
from ..errors import DeliveryError, UsidstreamError, error_for
from ..framing import HEADER, FramingError, Parts
from .result import read_result
from .spool_files import SpoolFolder, damage, spool_failed

if TYPE_CHECKING:
    from .channel import Channel

SAVE_INTERVAL_S = 0.2
"""Between batches while there is no hurry: a slow scan must not sync for every block."""
RETRY_S = 1.0
"""Until a disk that was full, or refused, is tried again."""
SAVE_TIMEOUT_S = 60.0
"""What the end of a scan waits for its blocks to reach the disk."""

Job = Callable[[], None]


@dataclass(frozen=True)
class Spooled:
    """What a scan has on the client's disk.

    Parameters
    ----------
    blocks
        Those that are not known to be durable.
    nbytes
        The size of the files.
    """

    blocks: int = 0
    nbytes: int = 0


class Spooler:
    """The spool of one scan, and its thread.

    Parameters
    ----------
    channel
        The scan's; its delivery has a `Spool`.
    spool
        That spool.
    folder
        Where the files are; closed by the thread's end.
    form
        How blocks stand in them.

    Attributes
    ----------
    trouble
        Why the disk takes nothing more for now.
    """

    def __init__(
        self, channel: Channel, spool: Spool, folder: SpoolFolder, form: SpooledForm
    ) -> None:
        self.folder = folder
        self.trouble: UsidstreamError | None = None
        self._channel = channel
        self._spool = spool
        self._form = form
        self._lock = channel.lock
        self._woken = threading.Condition(channel.lock)
        self._not_before = 0.0
        self._has_given_up = False
        self._thread = threading.Thread(target=self._run, name="usidstream-spool", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    @property
    def path(self) -> Path:
        """Where the spool is."""
        return self.folder.folder

    @property
    def hint(self) -> str:
        """What to do about blocks that do not become durable."""
        return (
            f"Call again; or end the program: {self.path} keeps the rest, to be sent by"
            f" 'usidstream drain {self.path.parent}', or when the scan is opened again by its id"
            " with the same spool_dir."
        )

    @property
    def spooled(self) -> Spooled:
        """What is on the disk now; under the lock."""
        return Spooled(self._spool.live, self._spool.nbytes)

    def wake(self) -> None:
        """Look for something to do, if there may be; under the lock."""
        spool, delivery = self._spool, self._channel.delivery
        if spool.pending or spool.segments or spool.is_stranded or not delivery.is_open:
            self._woken.notify()

    def join(self) -> str:
        """Wait until all is on the disk, or the folder is gone; return what went wrong."""
        if threading.current_thread() is not self._thread:
            self._thread.join(SAVE_TIMEOUT_S)
        with self._lock:
            if not self._spool.pending:
                return ""
            reason = self.trouble or f"it takes longer than {SAVE_TIMEOUT_S:g} s"
            nbytes = self._spool.pending_bytes
            return f"{nbytes} bytes could not be kept in {self.path}: {reason}"

    # ------------------------------------------------------------ the thread

    def _run(self) -> None:
        is_gone = False
        try:
            while (job := self._next_job()) is not None:
                job()
            with self._lock:
                is_gone = self._may_go()
        except BaseException as error:  # noqa: BLE001 - whatever it was reaches every caller
            self.trouble = _as_failure(error)
            self._channel.fail(self.trouble)
        finally:
            self.folder.close(remove=is_gone)

    def _may_go(self) -> bool:
        """Whether nothing of the spool is needed any more."""
        spool = self._spool
        if spool.is_stranded:
            return not spool.live and not spool.pending
        for segment in spool.segments:
            self._remove([segment])
        return True

    def _next_job(self) -> Job | None:
        """Wait for something to do outside of the lock; return None at the end."""
        with self._lock:
            while True:
                job = self._job()
                if job is not None or self._is_over():
                    return job
                self._woken.wait(self._patience())

    def _job(self) -> Job | None:
        spool, delivery = self._spool, self._channel.delivery
        dead = spool.dead()
        if dead:
            return partial(self._remove, dead)
        if delivery.ended and not spool.idle and not spool.is_stranded:
            return partial(self._judge_ended, list(spool.segments))
        if delivery.ended and not spool.is_stranded:
            return None
        is_urgent = spool.is_crowded or spool.is_stranded
        return (self._saving() if is_urgent else None) or self._loading() or self._saving()

    def _is_over(self) -> bool:
        if self._has_given_up:
            return True
        spool = self._spool
        return not spool.pending if spool.is_stranded else self._channel.delivery.ended

    def _patience(self) -> float | None:
        """Return how long to wait for something to do, None for ever."""
        spool, delivery = self._spool, self._channel.delivery
        if not spool.to_write(delivery.kept, away=not delivery.is_open):
            return None
        return max(0.0, self._not_before - time.monotonic())

    # ------------------------------------------------------------ to the disk

    def _saving(self) -> Job | None:
        spool, delivery = self._spool, self._channel.delivery
        in_hurry = (spool.is_crowded or spool.is_stranded) and self.trouble is None
        if not in_hurry and time.monotonic() < self._not_before:
            return None
        entries = spool.to_write(delivery.kept, away=not delivery.is_open)
        contents = [entry.content for entry in entries if entry.content is not None]
        return partial(self._save, entries, contents) if entries else None

    def _save(self, entries: Sequence[Entry], contents: Sequence[Content]) -> None:
        records = [self._form.encode(content) for content in contents]
        with self._lock:
            records = self._within_limit(records)
            segment = self._spool.place(entries)
        if not records:
            limit_mb = self._spool.limit_bytes / 1e6
            self._fail_to_save(error_for("spool_full", f"{self.path} holds its {limit_mb:g} MB"))
            return
        try:
            starts, nbytes = self.folder.append(segment, records)
        except OSError as error:
            self._fail_to_save(_disk_trouble(self.folder, error))
            return
        with self._lock:
            self._spool.written(entries[: len(records)], segment, starts, nbytes)
            self.trouble = None
            self._not_before = time.monotonic() + SAVE_INTERVAL_S
            self._channel.moved()

    def _within_limit(self, records: Sequence[Parts]) -> list[Parts]:
        """Return the first records, as far as the limit has room."""
        room = self._spool.room_bytes
        taken: list[Parts] = []
        for parts in records:
            room -= HEADER.size + sum(memoryview(part).nbytes for part in parts)
            if room < 0:
                break
            taken.append(parts)
        return taken

    def _fail_to_save(self, trouble: UsidstreamError) -> None:
        with self._lock:
            self._spool.end_segment()
            self.trouble = trouble
            self._not_before = time.monotonic() + RETRY_S
            self._has_given_up = self._spool.is_stranded

    # ------------------------------------------------------------ from the disk

    def _loading(self) -> Job | None:
        spool, delivery = self._spool, self._channel.delivery
        if spool.is_stranded or not delivery.is_open:
            return None
        if spool.advance(delivery.kept):
            self._channel.moved()
        segment = spool.to_load(delivery.kept)
        if segment is None:
            return None
        return partial(self._load, segment, segment.waiting_at, segment.waiting)

    def _load(self, segment: Segment, offset: int, waiting: int) -> None:
        path = self.folder.path(segment)
        found: list[Content | UsidstreamError] = []
        try:
            for start, nbytes, record in self.folder.read(
                segment, offset, waiting, self._spool.load_bytes
            ):
                found.append(self._decode(record) or damage(path, start, nbytes))
                offset = start + nbytes
        except OSError as error:
            raise spool_failed("read", path, error) from error
        # A damaged length hides what stands behind it.
        count = len(found) if offset < segment.nbytes else waiting
        with self._lock:
            if not self._is_given_up(segment, count):
                self._take_back(segment, self._spool.loaded(segment, offset, count), found)

    def _is_given_up(self, segment: Segment, count: int) -> bool:
        """Whether blocks that were being read are not to be sent any more."""
        return self._spool.is_stranded or segment.waiting < count

    def _decode(self, record: bytes | None) -> Content | None:
        if record is None:
            return None
        try:
            return self._form.decode(record)
        except FramingError:  # of another layout, or written by something else
            return None

    def _take_back(
        self, segment: Segment, tickets: range, found: Sequence[Content | UsidstreamError]
    ) -> None:
        channel = self._channel
        segment.live -= len(tickets) - len(found)
        for ticket, content in zip(tickets, found, strict=False):
            if isinstance(content, UsidstreamError):
                segment.live -= 1
                segment.is_damaged = True
                channel.delivery.remember(content)
            else:
                channel.skipped += channel.delivery.take_back(content, ticket, segment)
        channel.moved()

    def _remove(self, segments: Sequence[Segment]) -> None:
        for segment in segments:
            self.folder.remove(segment)

    # ------------------------------------------------------------ the end

    def _judge_ended(self, segments: Sequence[Segment]) -> None:
        """A scan has ended with blocks in its spool: they go if its file has them."""
        lacking = [name for segment in segments if (name := self._lacking(segment))]
        with self._lock:
            lacking += [name for e in self._spool.pending if (name := self._lack(e.content))]
            if not lacking:
                self._spool.clear()
                return
            self._spool.strand(self._channel.delivery.kept)
            self._channel.delivery.remember(
                error_for(
                    "scan_finished",
                    f"scan {self._channel.delivery.scan} has ended without {lacking[0]}, which "
                    f"{self.path} holds",
                    hint="The spool stays until you remove it; the data can go into a new scan.",
                )
            )

    def _lacking(self, segment: Segment) -> str:
        """Return the first block of those waiting that the scan's file does not have."""
        records = self.folder.read(segment, segment.waiting_at, segment.waiting, segment.nbytes)
        for _, _, record in records:
            content = self._decode(record)
            lack = f"a damaged block of {self.folder.path(segment)}"
            if content is None or (lack := self._lack(content)):
                return lack
        return ""

    def _lack(self, content: Content | None) -> str:
        message = self._channel.delivery.result
        if message is None or not isinstance(content, Payload):
            return ""
        result = read_result(message)
        n_rows = self._channel.mains.get(content.main).n_rows
        held = Coverage.all_but(result.missing.get(content.main, []), n_rows)
        return "" if content.held_by(held) else content.describe()


def _disk_trouble(folder: SpoolFolder, error: OSError) -> UsidstreamError:
    if error.errno in NO_SPACE_NUMBERS:
        return error_for("spool_full", f"the disk of {folder.folder} is full: {error}")
    return spool_failed("write", folder.folder, error)


def _as_failure(error: BaseException) -> UsidstreamError:
    if isinstance(error, UsidstreamError):
        return error
    failure = DeliveryError(
        f"the spool's thread died: {type(error).__name__}: {error}", code="delivery_failed"
    )
    failure.__cause__ = error
    return failure
