"""Four clients, one of them hostile: the others keep more than half of their fair share.

The fair share is what they do beside a fourth client that is as honest as they are. Work is counted
in the same run, by turns: the fourth is a process of its own, honest in one round and hostile in
the next, so that it takes as much of this machine in both.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

import usidstream
from support import hostile
from support.daemon import POLL_INTERVAL_S, Daemon, wait_for
from support.keys import Keys

N_OTHERS = 3
ROUND_POSITIONS = 1000
ROUND_S = 0.5
MAX_ROUND_S = 10.0
LEAST_SHARE = 0.5
LEAST_SHARE_IN_HASTE = 0.2
"""Of few rounds on a machine that runs other tests beside: what starves is far below."""
MEMORY_GROWTH_BYTES = 600 << 20
TOLD = "client_overloading"
COSTLY = ("garbage", "attributes")
ATTACKS = ["pings", "garbage", "oversize", "attributes", "blocks"]
"""Messages of thousands of frames are not among them: see the threat model."""


class Honest:
    """A client that writes as fast as it may, and counts what is durable."""

    def __init__(self, endpoint: str, keys: dict[str, Path]) -> None:
        self._client = usidstream.connect(endpoint, **keys)
        self._scan = self._client.open_scan(hostile.LAYOUT, "honest")
        self._stop = threading.Event()
        self.failure: BaseException | None = None
        self._thread = threading.Thread(target=self._write)
        self._thread.start()

    def _write(self) -> None:
        try:
            for row in range(0, hostile.LAYOUT.n_positions, len(hostile.ROWS)):
                if self._stop.is_set():
                    return
                self._scan.write_block(row, hostile.ROWS)
        except BaseException as error:  # noqa: BLE001 - raised by whoever looks
            self.failure = error

    @property
    def done(self) -> int:
        return self._scan.durable

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        self._scan.abort()
        self._client.close()
        if self.failure is not None:
            raise self.failure


@contextmanager
def fourth(daemon: Daemon, nature: str, keys: dict[str, Path]) -> Iterator[None]:
    words = [sys.executable, hostile.__file__, daemon.endpoint, nature, *map(str, keys.values())]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        try:
            yield
        finally:
            process.kill()


def rate(others: list[Honest]) -> float:
    """Let them work; return how many positions a second became durable.

    Until so many are, and not for a fixed time: a machine that does other things, too, is slow in
    jumps.
    """
    begun_s, before = time.monotonic(), sum(client.done for client in others)
    while True:
        time.sleep(POLL_INTERVAL_S)
        passed_s = time.monotonic() - begun_s
        done = sum(client.done for client in others) - before
        if (done >= ROUND_POSITIONS and passed_s > ROUND_S) or passed_s > MAX_ROUND_S:
            return done / passed_s


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return Keys(tmp_path_factory.mktemp("keys") / "k", "honest", "fourth", "hostile")


def share_left(
    data_dir: Path, keys: Keys | None, attack: str, rounds: int
) -> tuple[float, int, str]:
    """Return the part of their fair share that is left to others, and the daemon's growth."""
    options = {} if keys is None else {"server_key_file": keys.server_key_file}
    names = ("honest", "fourth", "hostile")
    its, fourths, hostiles = ({} if keys is None else keys.of(name) for name in names)
    fair, left = [], []
    with Daemon(data_dir, max_layout_mb=8, **options) as daemon:
        others = [Honest(daemon.endpoint, its) for _ in range(N_OTHERS)]
        try:
            rate(others)
            before_bytes = psutil.Process(daemon.pid).memory_info().rss
            for number in range(rounds):
                with fourth(daemon, "honest", fourths):
                    fair.append(rate(others))
                with fourth(daemon, attack, hostiles):
                    if attack in COSTLY and not number:  # until its allowance is spent
                        wait_for(lambda: TOLD in daemon.log, "the end of its allowance", 60.0)
                    rate(others)
                    left.append(rate(others))
            grown_bytes = psutil.Process(daemon.pid).memory_info().rss - before_bytes
        finally:
            for client in others:
                client.close()
    return statistics.median(left) / statistics.median(fair), grown_bytes, daemon.log


@pytest.mark.parametrize(
    ("attack", "has_keys"),
    [("garbage", True), ("attributes", False), ("blocks", False)],
)
def test_one_hostile_client_does_not_starve_the_others(
    tmp_path: Path, keys: Keys, attack: str, has_keys: bool
) -> None:
    share, grown_bytes, log = share_left(tmp_path / "d", keys if has_keys else None, attack, 2)
    assert share > LEAST_SHARE_IN_HASTE
    assert grown_bytes < MEMORY_GROWTH_BYTES
    assert "Traceback" not in log


@pytest.mark.slow
@pytest.mark.parametrize("has_keys", [False, True], ids=["open", "keys"])
@pytest.mark.parametrize("attack", ATTACKS)
def test_the_others_keep_more_than_half_of_their_fair_share(
    tmp_path: Path,
    keys: Keys,
    attack: str,
    has_keys: bool,
    record_property: Callable[[str, object], None],
) -> None:
    share, grown_bytes, _ = share_left(tmp_path / "d", keys if has_keys else None, attack, 6)
    record_property("share", f"{share:.2f}")
    record_property("grown_mb", f"{grown_bytes / 1e6:.0f}")
    assert share > LEAST_SHARE
