"""The thread that owns one scan's file: commands in, events out.

Everything that touches the file happens here, in the order of the commands, so that a commit covers
exactly the chunks that were handed in before it. An event is posted when its command is done. After
a failure every later command fails with it, and nothing is ever reported written, committed or
finalised that is not. A command that finds the disk full is no failure: it waits for room, and
those behind it with it, until a close comes. This module knows threads and order; what a command
does is `OpenScan`'s.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy.typing as npt

from usidstream.errors import UsidstreamError

from ..threads import start_thread
from .activity import Activity
from .chunktable import ChunkAddress
from .errors import StorageError
from .finished import FinishedScans
from .ledger_records import STATUS_INTERRUPTED
from .messages import (
    Close,
    Closed,
    Command,
    Commit,
    Committed,
    Create,
    Event,
    Finalise,
    Finalised,
    Ready,
    Resume,
    StorageFailed,
    TileWritten,
    WriteTile,
)
from .scan import OpenScan, let_journal_go
from .shortage import SPACE_RETRY_S, Shortage

MAX_QUEUED_BYTES = 32 << 20
"""Encoded chunks that wait for the disk; who brings more waits too."""
MAX_QUEUED_COMMANDS_COUNT = 10_000
"""Commands that wait; a caller with more of them does not wait for answers, which is a fault."""


@dataclass(frozen=True, slots=True)
class _Fetch:
    """A question whose answer is waited for, so that it needs no event."""

    rect: tuple[str, int, int, int, int]
    answer: Future[npt.NDArray[Any]]


_Queued: TypeAlias = Command | _Fetch
_AT: Mapping[type[_Queued], str] = MappingProxyType(
    {
        _Fetch: "reading the file",
        WriteTile: "writing chunks into the file",
        Commit: "flushing the file",
        Create: "creating the file",
        Finalise: "finalising the file",
        Close: "closing the file",
    }
)
"""What each command is, in an operator's words."""
_WAITING = (WriteTile, Commit, Finalise)
"""What waits for room on a full disk; opening a scan does not, and leaves nothing behind."""


class StorageThread:
    """Starts a thread for one scan's file.

    The first command is `Create` or `Resume`. The thread ends after `Finalised`, after `Close`
    (which also a failed scan needs), or when the first command failed, and leaves nothing open.

    Parameters
    ----------
    post
        Called on the storage thread with each event; must neither block nor raise.
    finished
        Where results are remembered.
    name
        The thread's name.

    Attributes
    ----------
    recovery : tuple of int
        Chunks that the recovery before `Ready` has looked at or rebuilt, and of how many; (0, 0)
        where there is none. May be read by any thread.
    activity : Activity
        What it is at with the disk; but for a recovery, which takes its time.
    """

    def __init__(
        self, post: Callable[[Event], None], finished: FinishedScans, name: str = "storage"
    ) -> None:
        self._post = post
        self._finished = finished
        self._queue = _CommandQueue()
        self._shortage = Shortage("file", post)
        self._written: list[ChunkAddress] = []
        self._scan: OpenScan | None = None
        self._failure: UsidstreamError | None = None
        self._ended = False
        self._remove_journal: Callable[[], None] | None = None
        self.recovery = (0, 0)
        self.activity = Activity()
        self._thread = start_thread(self._run, name)

    def submit(self, command: Command) -> None:
        """Queue a command, from any thread.

        Waits only with a `WriteTile`, while `MAX_QUEUED_BYTES` wait already. A command that comes
        after the thread's end is answered at once with `StorageFailed`, posted from here.
        """
        if not self._queue.put(command):
            self._refuse(command, _after_the_end())

    def fetch(self, main: str, row: int, rows: int, col: int, cols: int) -> npt.NDArray[Any]:
        """Read elements (rows, cols) of a main, from any thread but the storage thread; waits.

        Raises
        ------
        UsidstreamError
            The file could not be read, or is not open.
        """
        fetch = _Fetch((main, row, rows, col, cols), Future())
        if not self._queue.put(fetch):
            raise _after_the_end()
        return fetch.answer.result()

    def join(self, timeout_s: float | None = None) -> bool:
        """Wait for the thread's end; return whether it has ended."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    # ------------------------------------------------------------ on the storage thread

    def _run(self) -> None:
        reason: UsidstreamError = _after_the_end()
        try:
            while not self._ended:
                self._do(self._queue.get())
        except BaseException as error:
            reason = _as_error("run", error)
            raise
        finally:
            for command in self._queue.close():
                self._refuse(command, reason)
            self._clean_up()

    def _clean_up(self) -> None:
        """Remove the journal of a scan that has ended: the result is out, and nobody waits."""
        try:
            if self._remove_journal is not None:
                with self.activity.at("removing the journal"):
                    self._remove_journal()
        finally:
            self.activity.is_over = True

    def _do(self, command: _Queued) -> None:
        if self._failure is not None and not isinstance(command, Close):
            self._refuse(command, self._failure)
            return
        try:
            if isinstance(command, _Fetch):
                with self.activity.at(_AT[_Fetch]):
                    data = self._open_scan.read_rect(*command.rect)
                command.answer.set_result(data)
                return
            event = self._answer_with_room(command)
        except Exception as error:  # noqa: BLE001  # told to whoever gave the command
            self._fail(command, error)
        else:
            self._post(event)

    def _answer_with_room(self, command: Command) -> Event:
        """Execute a command; where the disk is full, as soon as there is room, or the end comes."""
        self._written = []
        while True:
            try:
                event = self._answer(command)
            except StorageError as error:
                if error.code != "no_space" or not isinstance(command, _WAITING):
                    raise
                self._shortage.begin(error)
                if self._queue.is_closing_after(SPACE_RETRY_S):
                    self._shortage.give_up()
                    raise
            else:
                self._shortage.end()
                return event

    def _answer(self, command: Command) -> Event:
        """Execute a command; what it raises is its failure."""
        if isinstance(command, Resume):
            return self._resume(command)
        with self.activity.at(_AT[type(command)]):
            return self._carry_out(command)

    def _carry_out(self, command: WriteTile | Commit | Create | Finalise | Close) -> Event:
        token = command.token
        match command:
            case WriteTile():
                chunks = self._open_scan.write(
                    command.main,
                    command.chunks,
                    is_complete=command.is_complete,
                    written=self._written,
                )
                return TileWritten(chunks=chunks, token=token)
            case Commit():
                self._open_scan.commit(command.updates, is_last=command.is_last)
                return Committed(token=token)
            case Create():
                return self._create(command)
            case Finalise():
                result = self._open_scan.finalise(
                    command.status, command.attrs, command.ended, self._finished
                )
                self._ended = True
                if result.status != STATUS_INTERRUPTED:
                    self._remove_journal = self._open_scan.let_go
                return Finalised(result=result, token=token)
            case Close():
                self._ended = True
                if self._scan is not None:
                    self._scan.close()
                return Closed(token=token)

    def _create(self, command: Create) -> Event:
        self._scan = OpenScan.create(
            command.data_dir,
            command.file,
            command.layout,
            command.plans,
            scan_id=command.scan_id,
            created=command.created,
            segment_bytes=command.segment_bytes,
        )
        return self._ready(command)

    def _resume(self, command: Resume) -> Event:
        # A file that looks final proves nothing: nobody has lived to see its last sync succeed.
        result = self._finished.get(command.record.scan_id)
        if result is not None:
            self._ended = True
            self._remove_journal = partial(let_journal_go, command.record)
            return Finalised(result=result, token=command.token)
        self._scan = OpenScan.resume(command.record, command.segment_bytes, self._note_recovery)
        return self._ready(command)

    def _note_recovery(self, done: int, total: int) -> None:
        self.recovery = (done, total)

    def _ready(self, command: Create | Resume) -> Ready:
        scan = self._open_scan
        try:
            return self._told_ready(scan, command)
        except BaseException:
            scan.journal.close(is_clean=False)  # nobody has taken it over, or will
            raise

    def _told_ready(self, scan: OpenScan, command: Create | Resume) -> Ready:
        state = scan.journal.state
        return Ready(
            record=scan.record,
            coverage=scan.coverage(),
            annotations=dict(state.annotations),
            replay=scan.replay(),
            decision=state.decision,
            journal=scan.journal,
            resumed=isinstance(command, Resume),
            recoveries=state.recoveries,
            recovery=scan.recovery,
            token=command.token,
        )

    @property
    def _open_scan(self) -> OpenScan:
        if self._scan is None:
            raise StorageError("no scan is open in this thread", code="internal_error")
        return self._scan

    def _fail(self, command: _Queued, error: Exception) -> None:
        failure = _as_error(_operation(command), error)
        if isinstance(command, Create | Resume):
            self._ended = self._scan is None
        if not isinstance(command, _Fetch):
            self._failure = self._failure or failure
        self._refuse(command, failure)

    def _refuse(self, command: _Queued, error: UsidstreamError) -> None:
        if isinstance(command, _Fetch):
            command.answer.set_exception(error)
        else:
            operation = _operation(command)
            self._post(StorageFailed(operation=operation, error=error, token=command.token))


class _CommandQueue:
    """Commands in order: any number of threads put, one gets."""

    def __init__(self) -> None:
        self._commands: deque[tuple[_Queued, int]] = deque()
        self._queued_bytes = 0
        self._closed = False
        self._changed = threading.Condition()

    def put(self, command: _Queued) -> bool:
        """Append a command; return whether it was taken, which it is not after `close`."""
        nbytes = _payload_nbytes(command)
        with self._changed:
            # One tile larger than the whole limit goes when it is alone.
            while nbytes and self._queued_bytes and self._is_full(nbytes) and not self._closed:
                self._changed.wait()
            if self._closed:
                return False
            if len(self._commands) >= MAX_QUEUED_COMMANDS_COUNT:
                raise RuntimeError(f"{MAX_QUEUED_COMMANDS_COUNT} storage commands wait already")
            self._commands.append((command, nbytes))
            self._queued_bytes += nbytes
            self._changed.notify_all()
            return True

    def get(self) -> _Queued:
        """Take the first command; waits for one."""
        with self._changed:
            while not self._commands:
                self._changed.wait()
            command, nbytes = self._commands.popleft()
            self._queued_bytes -= nbytes
            self._changed.notify_all()
            return command

    def is_closing_after(self, timeout_s: float) -> bool:
        """Wait; return whether a `Close` has come."""
        with self._changed:
            self._changed.wait_for(self._has_close, timeout_s)
            return self._has_close()

    def _has_close(self) -> bool:
        return any(isinstance(command, Close) for command, _nbytes in self._commands)

    def close(self) -> list[_Queued]:
        """Take no more; return what nobody will execute."""
        with self._changed:
            self._closed = True
            left = [command for command, _nbytes in self._commands]
            self._commands.clear()
            self._changed.notify_all()
            return left

    def _is_full(self, nbytes: int) -> bool:
        return self._queued_bytes + nbytes > MAX_QUEUED_BYTES


def _payload_nbytes(command: _Queued) -> int:
    if not isinstance(command, WriteTile):
        return 0
    return sum(len(payload) for _row, _col, payload in command.chunks)


def _operation(command: _Queued) -> str:
    return type(command).__name__.strip("_").lower()


def _after_the_end() -> StorageError:
    return StorageError("the scan's storage has ended", code="storage_failed")


def _as_error(operation: str, error: BaseException) -> UsidstreamError:
    if isinstance(error, UsidstreamError):
        return error
    return StorageError(
        f"storage: {operation}: {type(error).__name__}: {error}", code="internal_error"
    )
