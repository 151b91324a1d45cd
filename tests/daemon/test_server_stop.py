"""A daemon is told to stop from anywhere: a signal handler, another thread, or after its end."""

from __future__ import annotations

import threading
from pathlib import Path

from usidstreamd import config
from usidstreamd.server import Server

ENOUGH_S = 20.0


def make_server(data_dir: Path) -> Server:
    return Server(config.load(None, data_dir=data_dir, bind="tcp://127.0.0.1:0"))


def test_stop_needs_no_lock_that_an_interrupted_loop_may_hold(tmp_path: Path) -> None:
    server = make_server(tmp_path / "data")
    caller = threading.Thread(target=server.stop, daemon=True)
    with server._parts.mailbox._lock:  # where a signal may find the loop
        caller.start()
        caller.join(ENOUGH_S)
        assert not caller.is_alive()
    loop = threading.Thread(target=server.run, daemon=True)
    loop.start()
    loop.join(ENOUGH_S)
    assert not loop.is_alive()


def test_stop_after_the_end_changes_nothing(tmp_path: Path) -> None:
    server = make_server(tmp_path / "data")
    server.stop()
    server.run()
    server.stop()
