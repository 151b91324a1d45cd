"""Writes lines from a thread of its own, so that nobody waits for whoever reads the log.

A terminal that was stopped with Ctrl-S, or a pipe that is not read, holds up a write for ever; an
acquisition must not stand still for that. The thread that logs leaves the record in a bounded
queue, with what its context says (which scan it works for); what finds no room there is counted and
told later. What says the same too often is counted, too, and told as one line: see `repeats`.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from typing import TextIO

from structlog.contextvars import get_contextvars

from .events import LOSSES
from .repeats import WINDOW_S, Kind, Repeats

MAX_WAITING_LINES_COUNT = 10_000
CLOSE_TIMEOUT_S = 5.0
"""The end of the process waits no longer for whoever reads the log."""
SUBJECT_KEYS = ("scan", "option", "file", "service", "client", "clients")
"""What a line can be about: the first of them that it has."""
MAX_SUBJECT_CHARS = 64
"""Of what a client calls a scan; more is not told apart."""


class LineHandler(logging.Handler):
    """Writes records to a stream, one line each.

    Parameters
    ----------
    stream
        Where lines go; not closed.
    formatter
        Makes a line of a record.
    """

    def __init__(self, stream: TextIO, formatter: logging.Formatter) -> None:
        super().__init__()
        self.setFormatter(formatter)
        self._stream = stream
        self._repeats = Repeats()
        # Not the handler's own: `logging.shutdown` holds that one while it waits in `close`.
        self._mutex = threading.Lock()
        self._waiting: queue.Queue[logging.LogRecord | None] = queue.Queue(MAX_WAITING_LINES_COUNT)
        self._lost = 0
        self._is_read = True
        self._due_s: float | None = None
        self._is_closed = False
        self._thread = threading.Thread(target=self._write_lines, name="log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Leave a record to the writing thread, unless there were too many alike."""
        for key, value in get_contextvars().items():
            if not hasattr(record, key):
                setattr(record, key, value)
        with self._mutex:
            if record.msg in LOSSES or self._repeats.admit(_kind(record), time.monotonic()):
                self._leave(record)
            elif self._due_s is None:
                self._leave(None)

    def close(self) -> None:
        """Tell what was left out, and write what waits, as far as that is quick."""
        with self._mutex:
            if not self._is_closed:
                self._tell_left_out(self._repeats.take_all())
                self._is_closed = True
                self._leave(None)
        self._thread.join(CLOSE_TIMEOUT_S)
        super().close()

    def _leave(self, record: logging.LogRecord | None) -> None:
        """Put a record in the queue; None only wakes the writing thread."""
        try:
            self._waiting.put_nowait(record)
        except queue.Full:
            self._lost += _n_lines(record)

    def _tell_left_out(self, over: list[tuple[Kind, int]]) -> None:
        for kind, count in over:
            keys = {"of": kind.event, "code": kind.code, "about": kind.subject}
            told = {key: value for key, value in keys.items() if value}
            self._leave(_record(kind.level, "and_more", count=count, within_s=WINDOW_S, **told))

    # ------------------------------------------------------------ on the writing thread

    def _write_lines(self) -> None:
        while not (self._is_closed and self._waiting.empty()):
            try:
                record = self._waiting.get(timeout=self._patience_s())
            except queue.Empty:
                record = None
            if record is not None:
                self._write(record)

    def _patience_s(self) -> float | None:
        """Tell what is due, and return how long nothing else will be."""
        now = time.monotonic()
        with self._mutex:
            if self._lost and self._is_read:
                lost, self._lost = self._lost, 0  # all of it comes back where there is no room
                self._leave(_record(logging.ERROR, "lines_lost", count=lost))
            self._tell_left_out(self._repeats.take_over(now))
            self._due_s = self._repeats.due_s()
            return None if self._due_s is None else max(0.0, self._due_s - now)

    def _write(self, record: logging.LogRecord) -> None:
        try:
            self._stream.write(self.format(record) + "\n")
            self._stream.flush()
            self._is_read = True
        except (OSError, ValueError):  # whoever read the log is gone, and the acquisition goes on
            self._is_read = False
            with self._mutex:
                self._lost += _n_lines(record)


def _n_lines(record: logging.LogRecord | None) -> int:
    """Return how many lines are lost with a record: it may stand for others."""
    return 0 if record is None else getattr(record, "count", 1)


def _kind(record: logging.LogRecord) -> Kind:
    subject = next((str(getattr(record, k)) for k in SUBJECT_KEYS if hasattr(record, k)), "")
    return Kind(
        record.levelno,
        str(record.msg),
        str(getattr(record, "code", "")),
        subject[:MAX_SUBJECT_CHARS],
    )


def _record(level: int, event: str, **keys: object) -> logging.LogRecord:
    plain = {"name": "usidstreamd", "levelno": level, "levelname": logging.getLevelName(level)}
    return logging.makeLogRecord(plain | {"msg": event} | keys)
