"""The thread that makes one scan's rows and chunks durable, beside the one that writes its file.

It never touches HDF5, so that a stall in one file delays nobody else's acks. Commits that wait
while another is synced are synced together. An event is posted when its command is done; after a
failure that leaves doubt every later command fails with it, and nothing is called durable any more.
A command that finds the disk full waits for room, and those behind it with it; only checkpoints,
which make room, pass it by, and a close ends the waiting.
This module knows threads and order; what is synced before what is `ScanJournal`'s.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from usidstream.errors import UsidstreamError

from ..threads import start_thread
from .chunktable import ChunkAddress
from .errors import StorageError
from .ledger_records import Finalise
from .messages import SpaceBack, SpaceShort, StorageFailed
from .scan_journal import ScanJournal
from .segments import JournalBlock
from .shortage import SPACE_RETRY_S, Shortage

MAX_WAITING_COMMANDS_COUNT = 10_000
"""Commands that wait; a caller with more of them does not wait for answers, which is a fault."""
MAX_GROUP_BYTES = 64 << 20
"""Blocks of commits that are synced together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalCommit:
    """Make chunks that the file has, blocks and attributes durable: `Journalled`.

    The blocks' buffers must keep their content until then.
    """

    blocks: Sequence[JournalBlock] = ()
    chunks: Sequence[ChunkAddress] = ()
    attrs: Mapping[str, Any] = field(default_factory=dict)
    token: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalCheckpoint:
    """Let go the row segments before one: `CheckpointDone`."""

    first_segment: int
    token: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalContact:
    """Note that a client took part in the scan until now: `ContactNoted`."""

    token: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalFinalise:
    """Record how the scan ends, before its file is finalised: `FinaliseRecorded`."""

    decision: Finalise
    token: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalClose:
    """Close the journal, after the file, and end the thread: `JournalClosed`.

    ``is_clean``: the file was closed and synced; ``is_done``: and finalised as recorded.
    """

    is_clean: bool
    is_done: bool = False
    token: Any = None


JournalCommand: TypeAlias = (
    JournalCommit | JournalCheckpoint | JournalContact | JournalFinalise | JournalClose
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Journalled:
    """A commit is durable; ``segment`` holds its blocks, None where it has none.

    ``seconds`` is how long it took to be written and synced, with those that were synced with it;
    0 where there was nothing to write.
    """

    segment: int | None
    seconds: float = field(default=0.0, compare=False)
    token: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointDone:
    """The segments are gone."""

    token: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class ContactNoted:
    """The contact is noted."""

    token: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class FinaliseRecorded:
    """The decision is durable."""

    token: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalClosed:
    """The journal is closed."""

    token: Any


JournalEvent: TypeAlias = (
    Journalled
    | CheckpointDone
    | ContactNoted
    | FinaliseRecorded
    | JournalClosed
    | StorageFailed
    | SpaceShort
    | SpaceBack
)


class JournalThread:
    """Starts a thread for one scan's journal; it ends after `JournalClose`.

    Parameters
    ----------
    journal
        Open; from now on the thread's alone.
    post
        Called on the journal thread with each event; must neither block nor raise.
    name
        The thread's name.

    Attributes
    ----------
    activity : Activity
        What it is at with the disk.
    """

    def __init__(
        self, journal: ScanJournal, post: Callable[[JournalEvent], None], name: str = "journal"
    ) -> None:
        self._journal = journal
        self.activity = journal.activity
        self._post = post
        self._shortage = Shortage("journal", post)
        self._commands: deque[tuple[JournalCommand, int]] = deque()
        self._changed = threading.Condition()
        self._ended: UsidstreamError | None = None
        self._thread = start_thread(self._run, name)

    def submit(self, command: JournalCommand) -> None:
        """Queue a command, from any thread; never waits.

        One that comes after the thread's end is answered at once with `StorageFailed`, posted from
        here.
        """
        nbytes = _nbytes(command)
        with self._changed:
            if self._ended is None:
                if len(self._commands) >= MAX_WAITING_COMMANDS_COUNT:
                    raise RuntimeError(f"{MAX_WAITING_COMMANDS_COUNT} journal commands wait")
                self._commands.append((command, nbytes))
                self._changed.notify()
                return
            ended = self._ended
        self._refuse(command, ended)

    def join(self, timeout_s: float | None = None) -> bool:
        """Wait for the thread's end; return whether it has ended."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    # ------------------------------------------------------------ on the journal thread

    def _run(self) -> None:
        reason: UsidstreamError = StorageError(
            "the scan's journal has ended", code="storage_failed"
        )
        group: list[JournalCommand] = []
        try:
            while not any(isinstance(command, JournalClose) for command in group):
                group = self._next_group()
                self._do(group)
        except BaseException as error:
            reason = _as_error(error)
            raise
        finally:
            self.activity.is_over = True
            self._end(reason)

    def _next_group(self) -> list[JournalCommand]:
        """Take the first command; if it is a commit, those right behind it as well."""
        with self._changed:
            while not self._commands:
                self._changed.wait()
            command, nbytes = self._commands.popleft()
            group = [command]
            while self._commands and isinstance(command, JournalCommit):
                following, more = self._commands[0]
                nbytes += more
                if not isinstance(following, JournalCommit) or nbytes > MAX_GROUP_BYTES:
                    break
                group.append(following)
                self._commands.popleft()
            return group

    def _do(self, group: list[JournalCommand]) -> None:
        try:
            events = self._answer_with_room(group)
        except Exception as error:  # noqa: BLE001  # told to whoever gave the commands
            failure = _as_error(error)
            for command in group:
                self._refuse(command, failure)
        else:
            for event in events:
                self._post(event)

    def _answer_with_room(self, group: list[JournalCommand]) -> list[JournalEvent]:
        """Answer commands; where the disk is full, as soon as there is room, or the end comes."""
        while True:
            try:
                events = self._answer(group)
            except StorageError as error:
                if error.code != "no_space" or isinstance(group[0], JournalClose):
                    raise
                self._shortage.begin(error)
                if self._is_closing_after(SPACE_RETRY_S):
                    self._shortage.give_up()
                    raise
                self._checkpoint_early()
            else:
                self._shortage.end()
                return events

    def _is_closing_after(self, timeout_s: float) -> bool:
        """Wait; return whether a close has come."""
        with self._changed:
            self._changed.wait_for(self._has_close, timeout_s)
            return self._has_close()

    def _has_close(self) -> bool:
        return any(isinstance(command, JournalClose) for command, _nbytes in self._commands)

    def _checkpoint_early(self) -> None:
        """Do the checkpoints that wait: what they let go is room for what waits before them."""
        with self._changed:
            early = [c for c, _nbytes in self._commands if isinstance(c, JournalCheckpoint)]
        for command in early:
            try:
                self._journal.checkpoint(command.first_segment)
            except StorageError as error:
                if error.code != "no_space":
                    raise
                return
            with self._changed:
                self._commands.remove((command, 0))
            self._post(CheckpointDone(token=command.token))

    def _answer(self, group: list[JournalCommand]) -> list[JournalEvent]:
        match group[0]:
            case JournalCommit():
                return self._commit([c for c in group if isinstance(c, JournalCommit)])
            case JournalCheckpoint(first_segment=first_segment, token=token):
                self._journal.checkpoint(first_segment)
                return [CheckpointDone(token=token)]
            case JournalContact(token=token):
                self._journal.note_contact()
                return [ContactNoted(token=token)]
            case JournalFinalise(decision=decision, token=token):
                self._journal.finalise(decision)
                return [FinaliseRecorded(token=token)]
            case JournalClose(is_clean=is_clean, is_done=is_done, token=token):
                self._journal.close(is_clean=is_clean, is_done=is_done)
                return [JournalClosed(token=token)]

    def _commit(self, commits: list[JournalCommit]) -> list[JournalEvent]:
        attrs: dict[str, Any] = {}
        for commit in commits:
            attrs |= commit.attrs
        chunks = [chunk for commit in commits for chunk in commit.chunks]
        blocks = [block for commit in commits for block in commit.blocks]
        begun_s = time.monotonic()
        segment = self._journal.commit(chunks, blocks, attrs)
        seconds = time.monotonic() - begun_s if chunks or blocks or attrs else 0.0
        return [
            Journalled(
                segment=segment if commit.blocks else None, seconds=seconds, token=commit.token
            )
            for commit in commits
        ]

    def _end(self, reason: UsidstreamError) -> None:
        with self._changed:
            self._ended = reason
            left = [command for command, _nbytes in self._commands]
            self._commands.clear()
        for command in left:
            self._refuse(command, reason)

    def _refuse(self, command: JournalCommand, error: UsidstreamError) -> None:
        operation = type(command).__name__.removeprefix("Journal").lower()
        self._post(StorageFailed(operation=operation, error=error, token=command.token))


def _nbytes(command: JournalCommand) -> int:
    if not isinstance(command, JournalCommit):
        return 0
    return sum(block.nbytes for block in command.blocks)


def _as_error(error: BaseException) -> UsidstreamError:
    if isinstance(error, UsidstreamError):
        return error
    return StorageError(f"journal: {type(error).__name__}: {error}", code="internal_error")
