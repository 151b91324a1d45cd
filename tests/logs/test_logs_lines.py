"""Lines for people and for programs: the same facts, one event a line, whoever named what."""

from __future__ import annotations

import io
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from structlog.contextvars import bound_contextvars

from support.daemon import wait_for
from usidstreamd.logs import LineHandler, LogFormat, get_logger
from usidstreamd.logs import handler as handler_module
from usidstreamd.logs.rendering import MAX_VALUE_CHARS, console_formatter, json_formatter
from usidstreamd.logs.setup import LOGGER_NAME, set_up
from usidstreamd.threads import start_thread

SCAN = "0123456789abcdef" * 2
log = get_logger()


@pytest.fixture(autouse=True)
def _logger_as_before() -> Iterator[None]:
    logger, root = logging.getLogger(LOGGER_NAME), logging.getLogger()
    level, handlers = logger.level, list(root.handlers)
    yield
    logger.setLevel(level)
    root.handlers[:] = handlers
    logging.captureWarnings(False)


def written(form: LogFormat, write: Callable[[], object], level: Any = "info") -> str:
    """Return what a log holds after something was logged."""
    stream = io.StringIO()
    handler = set_up(form, level, stream)
    write()
    handler.close()
    return stream.getvalue()


def test_json_has_time_level_event_and_scan_first() -> None:
    text = written("json", lambda: log.info("scan_opened", positions=5, scan=SCAN, code="x"))
    assert text.endswith("\n")
    line = json.loads(text)
    assert list(line) == ["time", "level", "event", "scan", "positions", "code"]
    assert (line["level"], line["event"], line["scan"]) == ("info", "scan_opened", SCAN)
    assert line["time"].endswith("Z")


def test_a_terminal_gets_words_in_columns_and_short_scan_ids() -> None:
    text = written("console", lambda: log.warning("disk_short", scan=SCAN, problem="no room"))
    assert text.split()[2:4] == ["warning", "disk_short"]
    assert "scan=01234567 problem='no room'\n" in text
    assert "\x1b" not in text


def test_a_terminal_gets_lists_and_maps_without_their_brackets() -> None:
    facts = {"mains": ["Height", "Phase"], "ports": {"data": 5755, "metrics": None}, "x": ["a\nb"]}
    text = written("console", lambda: log.info("scan_opened", **facts))
    assert text.endswith("mains=Height,Phase ports=data:5755,metrics:None x='a\\nb'\n")


def test_auto_is_json_where_no_terminal_is() -> None:
    assert json.loads(written("auto", lambda: log.info("daemon_stopped")))


@pytest.mark.parametrize(
    "evil", ["\x1b[2J", "a\nERROR forged", "\u202egnp.exe", "\ud800", "a b='c"]
)
@pytest.mark.parametrize("form", ["console", "json"])
def test_no_name_breaks_a_line_or_commands_a_terminal(form: LogFormat, evil: str) -> None:
    text = written(form, lambda: log.info("client_silent", client=evil, scan=evil))
    (line,) = text.splitlines()
    assert line.isprintable()
    assert text == line + "\n"
    text.encode("utf-8")


def test_a_value_is_bounded() -> None:
    text = written("json", lambda: log.info("message_refused", problem="x" * 10_000))
    assert len(json.loads(text)["problem"]) == MAX_VALUE_CHARS + 3


def test_an_exception_is_one_line_of_json_and_lines_of_its_own_on_a_terminal() -> None:
    def fail() -> None:
        try:
            raise ValueError("why")
        except ValueError:
            log.exception("thread_died")

    line = json.loads(written("json", fail))
    assert line["level"] == "error"
    assert line["exception"].endswith("ValueError: why")
    first, *rest = written("console", fail).splitlines()
    assert "thread_died" in first
    assert rest[-1] == "ValueError: why"


def test_the_standard_library_and_foreign_loggers_are_rendered_alike() -> None:
    def write() -> None:
        told = {"file": "a.h5", "problem": "lost"}
        logging.getLogger("usidstreamd").error("rows_uncertain", extra=told)
        logging.getLogger("elsewhere").warning("%d things", 3)
        logging.getLogger("elsewhere").info("nobody asked")

    ours, foreign = map(json.loads, written("json", write).splitlines())
    assert (ours["event"], ours["file"], ours["problem"]) == ("rows_uncertain", "a.h5", "lost")
    assert (foreign["level"], foreign["event"]) == ("warning", "3 things")


def test_a_thread_tells_the_scan_that_it_was_started_for() -> None:
    def write() -> None:
        with bound_contextvars(scan=SCAN):
            thread = start_thread(lambda: logging.getLogger(LOGGER_NAME).error("x"), "worker")
        thread.join()
        log.info("daemon_stopped")

    of_thread, other = map(json.loads, written("json", write).splitlines())
    assert of_thread["scan"] == SCAN
    assert "scan" not in other


@pytest.mark.parametrize("level", ["debug", "info", "warning", "error"])
def test_nothing_below_the_level_is_told(level: str) -> None:
    def write() -> None:
        for name in ("debug", "info", "warning", "error"):
            getattr(log, name)("x")

    lines = [json.loads(line)["level"] for line in written("json", write, level).splitlines()]
    order = ["debug", "info", "warning", "error"]
    assert lines == order[order.index(level) :]


def flood(count: int, event: str = "message_refused") -> str:
    def write() -> None:
        for _ in range(count):
            log.warning(event, code="bad_shape", scan=SCAN)

    return written("json", write)


def test_a_flood_is_a_few_lines_and_its_count() -> None:
    *lines, more = map(json.loads, flood(10_000).splitlines())
    assert len(lines) == 5
    facts = more["event"], more["of"], more["code"], more["about"], more["level"]
    assert facts == ("and_more", "message_refused", "bad_shape", SCAN, "warning")
    assert len(lines) + more["count"] == 10_000


def test_errors_about_lost_data_are_never_left_out() -> None:
    assert len(flood(1000, "rows_uncertain").splitlines()) == 1000


def test_what_was_left_out_is_told_when_its_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("usidstreamd.logs.repeats.WINDOW_S", 0.2)
    stream = io.StringIO()
    handler = set_up("json", "info", stream)
    for _ in range(100):
        log.info("client_silent", client="x")
    wait_for(lambda: "and_more" in stream.getvalue(), "the count, with nothing else to be logged")
    handler.close()
    (more,) = (json.loads(line) for line in stream.getvalue().splitlines() if "and_more" in line)
    assert more["count"] == 95


class _Stopped(io.StringIO):
    """A terminal after Ctrl-S."""

    def __init__(self) -> None:
        super().__init__()
        self.goes_on = threading.Event()

    def write(self, text: str) -> int:
        self.goes_on.wait()
        return super().write(text)


def test_nobody_waits_for_a_terminal_that_was_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handler_module, "MAX_WAITING_LINES_COUNT", 100)
    stream = _Stopped()
    handler = LineHandler(stream, json_formatter())
    for number in range(500):
        record = logging.makeLogRecord({"msg": "rows_uncertain", "number": number})
        handler.handle(record)
    stream.goes_on.set()
    wait_for(lambda: "lines_lost" in stream.getvalue(), "the loss to be told")
    handler.close()
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    lost = sum(line["count"] for line in lines if line["event"] == "lines_lost")
    assert lost + sum(line["event"] == "rows_uncertain" for line in lines) == 500
    assert 0 < lost <= 400


def test_what_was_lost_before_the_first_line_was_written_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(handler_module, "MAX_WAITING_LINES_COUNT", 100)
    stream = io.StringIO()
    with monkeypatch.context() as late:
        late.setattr(threading.Thread, "start", lambda _thread: None)
        handler = LineHandler(stream, json_formatter())
    for number in range(500):
        handler.handle(logging.makeLogRecord({"msg": "rows_uncertain", "number": number}))
    handler._thread.start()
    wait_for(lambda: "lines_lost" in stream.getvalue(), "the loss to be told")
    handler.close()
    (told,) = (json.loads(line) for line in stream.getvalue().splitlines() if "lost" in line)
    assert told["count"] == 400


def test_the_end_waits_for_a_stopped_terminal_but_not_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(handler_module, "CLOSE_TIMEOUT_S", 0.1)
    stream = _Stopped()
    handler = LineHandler(stream, json_formatter())
    handler.handle(logging.makeLogRecord({"msg": "x"}))
    began = time.monotonic()
    handler.close()
    assert time.monotonic() - began < handler_module.MAX_WAITING_LINES_COUNT
    assert handler._thread.is_alive()
    stream.goes_on.set()
    handler._thread.join(20.0)
    assert not handler._thread.is_alive()


def test_a_reader_that_is_gone_stops_nothing() -> None:
    class Gone(io.StringIO):
        is_back = False

        def write(self, text: str) -> int:
            if not self.is_back:
                raise BrokenPipeError
            return super().write(text)

    stream = Gone()
    handler = LineHandler(stream, console_formatter(colors=True))
    record = logging.makeLogRecord({"msg": "x", "levelno": 30, "levelname": "WARNING"})
    for _ in range(3):
        handler.handle(record)
    wait_for(lambda: handler._lost == 3, "the lines to be counted")
    stream.is_back = True
    handler.handle(record)
    wait_for(lambda: "lines_lost" in stream.getvalue(), "the loss to be told")
    handler.close()
    assert "count=\x1b[0m3" in stream.getvalue() or "=3" in stream.getvalue()
    assert not handler._thread.is_alive()
