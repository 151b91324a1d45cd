"""What hangs is told once, while it lasts, and once more when it is over."""

from __future__ import annotations

import threading
from queue import SimpleQueue
from typing import Any

from usidstreamd.storage import Activity
from usidstreamd.supervision.iowatch import IoWatch
from usidstreamd.supervision.operations import Doing, Hanging, Key, Operations, Returned

FILE, JOURNAL = ("scan", "file"), ("scan", "journal")
LIMIT_S = 10.0


def see(operations: Operations, now: float, **doing: Doing | None) -> list[Hanging | Returned]:
    at: dict[Key, Doing | None] = {("scan", which): what for which, what in doing.items()}
    return list(operations.see(now, at, LIMIT_S))


def test_it_is_told_once_and_once_more_at_its_end() -> None:
    operations = Operations()
    write = ("write", 100.0)
    assert see(operations, 109.9, file=write) == []
    assert see(operations, 110.0, file=write) == [Hanging(FILE, "write", 100.0, 10.0)]
    assert see(operations, 120.0, file=write) == []
    assert operations.hanging_of("scan") == ["write"]
    assert see(operations, 131.0, file=None) == [Returned(FILE, "write", 31.0)]
    assert operations.hanging_of("scan") == []
    assert see(operations, 500.0, file=None) == []


def test_the_next_operation_of_the_same_kind_is_another() -> None:
    operations = Operations()
    see(operations, 120.0, file=("write", 100.0))
    assert see(operations, 130.0, file=("write", 121.0)) == [Returned(FILE, "write", 30.0)]
    assert see(operations, 131.0, file=("write", 121.0)) == [Hanging(FILE, "write", 121.0, 10.0)]


def test_a_thread_that_is_gone_has_returned() -> None:
    operations = Operations()
    see(operations, 120.0, file=("write", 100.0), journal=("sync", 100.0))
    assert see(operations, 130.0, journal=("sync", 100.0)) == [Returned(FILE, "write", 30.0)]
    assert operations.hanging_of("scan") == ["sync"]


def test_the_watch_tells_while_a_thread_hangs() -> None:
    told: SimpleQueue[tuple[Any, list[str]]] = SimpleQueue()
    watch = IoWatch(0.05, lambda news, hanging: told.put((news, hanging)))
    activity, go_on = Activity(), threading.Event()
    watch.add(FILE, activity)
    watch.start()

    def hang() -> None:
        with activity.at("sync"):
            go_on.wait(30)
        activity.is_over = True

    thread = threading.Thread(target=hang)
    thread.start()
    news, hanging = told.get(timeout=30)
    assert (type(news), news.operation, hanging) == (Hanging, "sync", ["sync"])
    assert thread.is_alive()
    go_on.set()
    news, hanging = told.get(timeout=30)
    assert (type(news), news.operation, hanging) == (Returned, "sync", [])
    thread.join()
    watch.close()
    assert told.empty()


def test_a_watch_that_was_never_started_closes() -> None:
    IoWatch(1.0, lambda _news, _hanging: None).close()
