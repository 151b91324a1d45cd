"""Bad weather on the line, with daemons that die in it: the client notices nothing but time."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.acquisition import Acquisition
from support.autopsy import recoveries_told
from support.census import Tally
from support.daemon import Daemon, wait_for
from support.proxy import Proxy, Way
from support.rowscan import N_ROWS, lost_rows, ordered, require_only
from usidstream.delivery import link

PEER_SILENCE_S = 0.6
DEAD_AFTER_S = 0.6
STORM_CUTS, STORM_PAUSE_S = 15, 0.02
TROUBLES_PER_SCAN = 18
SECONDS_PER_TROUBLE = 0.5
KILL_EVERY_TROUBLES = 3


def cut(proxy: Proxy, _chance: random.Random) -> None:
    proxy.cut()


def cut_in_a_message(proxy: Proxy, chance: random.Random) -> None:
    proxy.cut_after(chance.randint(1, 5000), Way.UP)


def cut_in_an_answer(proxy: Proxy, chance: random.Random) -> None:
    proxy.cut_after(chance.randint(1, 200), Way.DOWN)


def swallow(proxy: Proxy, _chance: random.Random) -> None:
    proxy.swallow()


def half_open_up(proxy: Proxy, _chance: random.Random) -> None:
    proxy.swallow(Way.UP)


def half_open_down(proxy: Proxy, _chance: random.Random) -> None:
    proxy.swallow(Way.DOWN)


def repeat(proxy: Proxy, _chance: random.Random) -> None:
    """Send the whole conversation again, over a second connection of the same instance."""
    proxy.repeat()


def storm(proxy: Proxy, _chance: random.Random) -> None:
    for _ in range(STORM_CUTS):
        proxy.cut()
        time.sleep(STORM_PAUSE_S)


def delay(proxy: Proxy, chance: random.Random) -> None:
    proxy.delay_s = chance.choice([0.0, 0.001, 0.03])


TROUBLES: list[Callable[[Proxy, random.Random], None]] = [
    cut, cut_in_a_message, cut_in_an_answer, swallow, half_open_up, half_open_down, repeat, storm,
    delay,
]  # fmt: skip


@pytest.fixture(autouse=True)
def _short_timeouts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "DEAD_AFTER_S", DEAD_AFTER_S)
    monkeypatch.setattr(link, "HEARTBEAT_INTERVAL_S", DEAD_AFTER_S / 4)
    monkeypatch.setattr(link, "GREETING_TIMEOUT_S", 2.0)


def test_a_bad_line_and_kills(tmp_path: Path, kills: int, tally: Tally) -> None:
    chance = random.Random("weather")
    rows = ordered("random", 2)
    troubles = kills * KILL_EVERY_TROUBLES
    with (
        Daemon(
            tmp_path / "data",
            flush_interval_s=0.1,
            memory_budget_mb=1,
            peer_silence_s=PEER_SILENCE_S,
        ) as daemon,
        Proxy(daemon.endpoint) as proxy,
    ):
        while troubles:
            some = min(troubles, TROUBLES_PER_SCAN)
            troubles -= some
            proxy.delay_s, proxy.records = 0.0, True
            acquisition = Acquisition(proxy.endpoint, rows, some * SECONDS_PER_TROUBLE / N_ROWS)
            waiting = random.Random(troubles).sample(TROUBLES * 2, some)
            for number, trouble in enumerate(waiting):
                acquisition.done.wait(chance.uniform(0.0, SECONDS_PER_TROUBLE))
                trouble(proxy, chance)
                tally.broken_connections += 1
                if number % KILL_EVERY_TROUBLES == 0:
                    daemon.restart(signal.SIGKILL)
                    tally.killed("acquiring")
            proxy.delay_s = 0.0
            result = acquisition.result()
            proxy.cut()
            assert result.status == "complete"
            tally.judge(rows, lost_rows(result.file, rows))
            require_only(result.file, rows)
        tally.recoveries += recoveries_told(daemon.log)
        assert "Traceback" not in daemon.log


@pytest.fixture(scope="module")
def steady(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon that nobody kills."""
    data_dir = tmp_path_factory.mktemp("steady") / "data"
    with Daemon(data_dir, flush_interval_s=0.1, peer_silence_s=PEER_SILENCE_S) as daemon:
        yield daemon
    assert "Traceback" not in daemon.log


@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda trouble: trouble.__name__)
def test_one_trouble_in_mid_scan(
    steady: Daemon, tally: Tally, trouble: Callable[[Proxy, random.Random], None]
) -> None:
    rows = ordered("raster")
    with Proxy(steady.endpoint) as proxy:
        proxy.records = True
        acquisition = Acquisition(proxy.endpoint, rows, 1.0 / N_ROWS)
        wait_for(lambda: proxy.bytes_up > 30_000, "the middle of the scan")
        trouble(proxy, random.Random(trouble.__name__))
        result = acquisition.result()
        assert (proxy.connections > 1) == (trouble is not delay)
    tally.broken_connections += 1
    assert result.status == "complete"
    tally.judge(rows, lost_rows(result.file, rows))
