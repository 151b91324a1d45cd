"""A real daemon watched over its telemetry socket, by viewers of every kind."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil
import pytest
import zmq

from support.daemon import Daemon, command, wait_for
from support.keys import Keys
from support.watching import Watcher
from usidstream import Dimension, MainLayout, ScanLayout, UsidstreamError, connect, live, wire

OPERATING = Path(__file__).resolve().parents[2] / "docs" / "operating.md"
ROWS, COLS = 600, 16
DATA = np.random.default_rng(5).normal(size=(ROWS, COLS)).astype(np.float32)


def layout(n_positions: int = ROWS, n_cols: int = COLS, **options: Any) -> ScanLayout:
    spectrum = [Dimension("Bias", "V", n_cols)]
    return ScanLayout(
        positions=[Dimension("X", "um", n_positions)],
        mains=[MainLayout("Raw", "Current", "nA", "float32", spectrum, **options)],
    )


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with Daemon(tmp_path / "data") as running:
        yield running


def telemetry_of(daemon: Daemon) -> str:
    with connect(daemon.endpoint) as client:
        return f"tcp://127.0.0.1:{client.ports['telemetry']}"


def test_a_scan_is_seen_from_its_opening_to_its_end(daemon: Daemon) -> None:
    topics = (live.SCAN_TOPICS, "layout/")
    with Watcher(daemon.endpoint, topics=topics) as watcher, connect(daemon.endpoint) as client:
        beat = watcher.until(live.Heartbeat)
        assert beat.scans == {}
        assert beat.endpoint == daemon.endpoint
        assert beat.data_dir == str(daemon.data_dir)
        with client.open_scan(layout(), file="seen") as scan:
            opened = watcher.until(live.ScanOpened)
            assert (opened.scan, opened.file, opened.mains) == (scan.scan_id, scan.file, ["Raw"])
            told = watcher.until(live.LayoutTold, lambda event: event.file)
            assert told.layout == scan.layout
            scan.write_block(0, DATA[:100])
            scan.write_block(200, DATA[200:500])
            scan.wait_durable()
            progress = watcher.until(live.Progress, lambda event: event.positions_durable == 400)
            assert progress.missing == {"Raw": 100}
            assert progress.state == "acquiring"
            assert progress.lag_rows == 0
            assert progress.rate_per_s > 0.0
            assert progress.left_s is not None
            assert watcher.until(live.Heartbeat).scans == {scan.scan_id: "acquiring"}
        closed = watcher.until(live.ScanClosed)
    assert (closed.scan, closed.state, closed.status) == (scan.scan_id, "ended", "incomplete")
    assert closed.missing == {"Raw": 200}
    assert closed.positions_durable == 400
    ranges = wire.unpack_ranges(closed.ranges["Raw"], closed.frames, 2)
    assert ranges == [(100, 200), (500, 600)]


def test_a_scan_written_by_columns_comes_as_far_as_its_bytes(daemon: Daemon) -> None:
    half = COLS // 2
    with (
        Watcher(daemon.endpoint) as watcher,
        connect(daemon.endpoint) as client,
        client.open_scan(layout(order="columns")) as scan,
    ):
        for col in range(half):
            scan.write_block(0, DATA[:, col : col + 1], col=col)
        scan.wait_durable()
        told = watcher.until(live.Progress, lambda event: event.received_bytes == DATA.nbytes // 2)
        assert (told.positions_received, told.total_bytes) == (0, DATA.nbytes)
        assert told.left_s is not None
        status = command("usidstream", "status", "--json", "--to", daemon.endpoint)
        (entry,) = json.loads(status.stdout)["scans"]
        assert (entry["received_bytes"], entry["total_bytes"]) == (DATA.nbytes // 2, DATA.nbytes)
        assert (entry["positions_received"], entry["left_s"] is None) == (0, False)
        shown = command("usidstream", "status", "--to", daemon.endpoint)
        assert f"0 of {ROWS}  50.0 % received" in shown.stdout
        scan.write_block(0, DATA[:, half:], col=half)
        scan.wait_durable()
        whole = watcher.until(live.Progress, lambda event: event.positions_durable == ROWS)
        assert (whole.received_bytes, whole.left_s) == (DATA.nbytes, 0.0)


def test_a_late_viewer_learns_all_that_it_needs(daemon: Daemon) -> None:
    topics = (live.SCAN_TOPICS, "layout/")
    with connect(daemon.endpoint) as client, client.open_scan(layout()) as scan:
        scan.write_block(0, DATA[:50])
        scan.wait_durable()
        with Watcher(daemon.endpoint, topics=topics) as watcher:
            progress = watcher.until(live.Progress)
            assert progress.positions_durable == 50
            told = [*watcher.of(live.LayoutTold), watcher.until(live.LayoutTold, fresh=False)]
            assert told[0].layout == scan.layout
        scan.write_block(50, DATA[50:])
    with Watcher(daemon.endpoint) as watcher:  # and that a scan has ended
        closed = watcher.until(live.ScanClosed)
        assert (closed.scan, closed.status) == (scan.scan_id, "complete")
        with Watcher(daemon.endpoint) as another:  # what it is told, the first one hears again
            another.until(live.ScanClosed)
        watcher.until(live.Heartbeat)
        assert len(watcher.of(live.ScanClosed)) == 1


def test_a_scan_at_rest_is_told_to_whoever_comes_after_the_heartbeat(daemon: Daemon) -> None:
    """Nothing of it changes any more; a plain SUB socket learns how it stands all the same."""
    with connect(daemon.endpoint) as client, client.open_scan(layout()) as scan:
        scan.write_block(0, DATA)
        scan.wait_durable()
        with _listening(daemon, "daemon", "scan/") as first:
            _await_rest(first)
            for topics in (["scan/", "daemon"], ["daemon", wire.scan_topic(scan.scan_id)], [""]):
                with _listening(daemon, *topics) as late:
                    told = _until_progress(late)
                assert (told[-1].scan, told[-1].positions_durable) == (scan.scan_id, ROWS)
                assert any(isinstance(message, wire.Heartbeat) for message in told), topics


@contextmanager
def _listening(daemon: Daemon, *topics: str) -> Iterator[zmq.Socket[bytes]]:
    socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.SUB)
    for topic in topics:
        socket.subscribe(topic)
    socket.connect(telemetry_of(daemon))
    try:
        yield socket
    finally:
        socket.close(linger=0)


def _heard(socket: zmq.Socket[bytes]) -> wire.Message:
    assert socket.poll(30_000), "nothing is told"
    return wire.decode_telemetry(socket.recv_multipart())[1]


def _await_rest(socket: zmq.Socket[bytes]) -> None:
    """Listen until nothing but three heartbeats has come."""
    kinds: list[type] = []
    while kinds[-3:] != [wire.Heartbeat] * 3:
        kinds.append(type(_heard(socket)))


def _until_progress(socket: zmq.Socket[bytes]) -> list[Any]:
    told = [_heard(socket)]
    while not isinstance(told[-1], wire.Progress):
        told.append(_heard(socket))
    return told


def test_previews_are_the_data_long_before_any_chunk_is_complete(daemon: Daemon) -> None:
    with connect(daemon.endpoint) as client, client.open_scan(layout()) as scan:
        names = ("mean", "max", "at:0", "at:15")
        topics = [wire.preview_topic(scan.scan_id, 0, name) for name in (*names, "newest")]
        with Watcher(daemon.endpoint, topics=[*topics, live.SCAN_TOPICS]) as watcher:
            watcher.until(live.Progress)  # all that it subscribed to before is heeded
            order = np.random.default_rng(0).permutation(300)
            scan.write_at(order, DATA[order])
            scan.write_block(300, DATA[300:301])
            maps = {name: live.LiveMap(ROWS) for name in names}
            expected = _expected()

            def take(event: live.PreviewRows) -> bool:
                maps[event.reduction].add(event)
                return all(np.isfinite(found.values[:301]).all() for found in maps.values())

            watcher.until(live.PreviewRows, take)
            for name, found in maps.items():
                np.testing.assert_allclose(found.values[:301], expected[name][:301], rtol=1e-5)
                assert np.isnan(found.values[301:]).all()
                assert found.is_exact
            newest = watcher.until(live.PreviewNewest, lambda e: e.row == 300, fresh=False)
            np.testing.assert_array_equal(newest.values, DATA[300])
            assert {event.n_cols for event in watcher.of(live.PreviewRows)} == {COLS}
        scan.finish()


def _expected() -> dict[str, npt.NDArray[np.float32]]:
    return {
        "mean": DATA.mean(axis=1),
        "max": DATA.max(axis=1),
        "at:0": DATA[:, 0],
        "at:15": DATA[:, 15],
    }


def test_images_that_come_column_by_column_are_put_together(daemon: Daemon) -> None:
    columns = layout(order="columns")
    with connect(daemon.endpoint) as client, client.open_scan(columns) as scan:
        topic = wire.preview_topic(scan.scan_id, 0, "mean")
        with Watcher(daemon.endpoint, topics=[topic, live.SCAN_TOPICS]) as watcher:
            watcher.until(live.Progress)
            found = live.LiveMap(ROWS)

            def take(event: live.PreviewRows) -> bool:
                found.add(event)
                return bool(found.cols.min() == COLS)

            for col in range(COLS):
                scan.write_block(0, DATA[:, col : col + 1], col=col)
            watcher.until(live.PreviewRows, take)
        np.testing.assert_allclose(found.values, DATA.mean(axis=1), rtol=1e-4, atol=1e-6)
        scan.finish()


# ---------------------------------------------------------------- nobody listens


def test_nothing_is_computed_for_nobody(daemon: Daemon) -> None:
    """The thread of telemetry takes no processor time while data flows and nobody watches."""
    with connect(daemon.endpoint) as client, client.open_scan(layout(20_000, 256)) as scan:
        before = _cpu_of_telemetry(daemon)
        for start in range(0, 20_000, 500):
            scan.write_block(start, np.ones((500, 256), np.float32))
        scan.finish()
        assert _cpu_of_telemetry(daemon) - before <= 0.01
        with _listening(daemon, "scan/") as raw:
            topic, message = wire.decode_telemetry(raw.recv_multipart())
    assert topic == wire.scan_topic(scan.scan_id)
    assert isinstance(message, wire.ScanClosed)


def _cpu_of_telemetry(daemon: Daemon) -> float:
    process = psutil.Process(daemon.pid)
    for thread in process.threads():
        name = Path(f"/proc/{daemon.pid}/task/{thread.id}/comm").read_text().strip()
        if name == "telemetry":
            return float(thread.user_time + thread.system_time)
    raise AssertionError("the daemon has no telemetry thread")


# ---------------------------------------------------------------- slow, broken and hostile viewers


def test_a_viewer_that_never_reads_holds_nothing_up(daemon: Daemon) -> None:
    """It subscribes to everything of a whole scan and takes nothing; others see all of it."""
    with connect(daemon.endpoint) as client, client.open_scan(layout(4000, 256)) as scan:
        deaf = zmq.Context.instance().socket(zmq.SUB)
        deaf.setsockopt(zmq.RCVHWM, 1)
        deaf.setsockopt(zmq.RCVBUF, 4096)
        deaf.connect(telemetry_of(daemon))
        deaf.subscribe("")
        for name in ("mean", "max", "newest"):
            deaf.subscribe(wire.preview_topic(scan.scan_id, 0, name))
        try:
            with Watcher(daemon.endpoint) as watcher:
                watcher.until(live.Progress)
                for start in range(0, 4000, 8):
                    scan.write_block(start, np.ones((8, 256), np.float32))
                result = scan.finish()
                closed = watcher.until(live.ScanClosed)
        finally:
            deaf.close(linger=0)
    assert result.status == closed.status == "complete"


@pytest.mark.parametrize("rubbish", [b"\xff" * 100, b"GET / HTTP/1.1\r\n\r\n", b"\0" * 5000])
def test_what_speaks_no_zeromq_harms_nobody(daemon: Daemon, rubbish: bytes) -> None:
    host, port = telemetry_of(daemon).removeprefix("tcp://").split(":")
    with socket.create_connection((host, int(port))) as stranger:
        stranger.sendall(rubbish)
    with Watcher(daemon.endpoint) as watcher:
        watcher.until(live.Heartbeat)


def test_a_flood_of_subscriptions_is_not_heeded_for_ever(daemon: Daemon) -> None:
    flood = zmq.Context.instance().socket(zmq.SUB)
    flood.setsockopt(zmq.SNDHWM, 0)
    flood.connect(telemetry_of(daemon))
    try:
        for number in range(wire.MAX_SUBSCRIPTIONS_COUNT + 500):
            flood.subscribe(f"nothing/{number}")
        flood.subscribe("x" * 900)
        with connect(daemon.endpoint) as client, client.open_scan(layout()) as scan:
            scan.write_block(0, DATA)
            assert scan.finish().status == "complete"
    finally:
        flood.close(linger=0)
    with Watcher(daemon.endpoint) as watcher:  # once it is gone there is room again
        watcher.until(live.Heartbeat)


def test_more_reductions_than_are_served_are_a_warning(daemon: Daemon) -> None:
    with connect(daemon.endpoint) as client, client.open_scan(layout()) as scan:
        topics = [wire.preview_topic(scan.scan_id, 0, f"at:{column}") for column in range(9)]
        with Watcher(daemon.endpoint) as watcher:
            watcher.until(live.Progress)
            with Watcher(daemon.endpoint, topics=topics) as greedy:
                greedy.until(live.Heartbeat)
                warned = watcher.until(live.WarningTold)
                assert (warned.code, warned.scan, warned.over) == (
                    "previews_crowded",
                    scan.scan_id,
                    False,
                )
                assert client.status()["daemon"]["warnings"][0]["code"] == "previews_crowded"
            assert watcher.until(live.WarningTold).over
        scan.abort("done")


# ---------------------------------------------------------------- ports, restarts, silence


def test_a_taken_port_is_a_warning_and_another_port(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with Daemon(tmp_path / "data", telemetry=port) as daemon:
            with connect(daemon.endpoint) as client:
                told = client.status()["daemon"]
            assert told["ports"]["telemetry"] not in (port, None)
            (warning,) = told["warnings"]
            assert warning["code"] == "port_taken"
            assert str(port) in warning["text"]
            wait_for(lambda: "port_taken" in daemon.log, "a word in the log")
            with Watcher(daemon.endpoint) as watcher:
                beat = watcher.until(live.Heartbeat)
                assert [held["code"] for held in beat.warnings] == ["port_taken"]


def test_telemetry_can_be_off(tmp_path: Path) -> None:
    with Daemon(tmp_path / "data", telemetry="off") as daemon:
        with connect(daemon.endpoint) as client:
            assert client.ports["telemetry"] is None
            with client.open_scan(layout()) as scan:
                scan.write_block(0, DATA)
                scan.wait_durable()
                (entry,) = client.status()["scans"]
                assert entry["positions_received"] == ROWS
        with Watcher(daemon.endpoint) as watcher:
            lost = watcher.until(live.Disconnected)
            assert "switched off" in lost.reason
            assert not watcher.watch.is_connected


@pytest.fixture(params=["asked", "direct"])
def found(request: pytest.FixtureRequest, daemon: Daemon, free_port: int) -> dict[str, Any]:
    """How a watch finds a daemon, which has a telemetry port of its own in the direct case."""
    if request.param == "asked":
        return {"endpoint": daemon.endpoint}
    daemon.stop()
    with daemon.config.open("a") as config:
        config.write(f"telemetry = {free_port}\n")
    daemon.start()
    return {"endpoint": None, "telemetry": f"tcp://127.0.0.1:{free_port}"}


@pytest.fixture
def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


def test_a_restart_is_seen_and_the_watch_goes_on(daemon: Daemon, found: dict[str, Any]) -> None:
    with Watcher(**found, silence_timeout_s=1.5) as watcher:
        first = watcher.until(live.Connected)
        with connect(daemon.endpoint) as client:
            scan = client.open_scan(layout())
            scan.write_block(0, DATA[:10])
            scan.wait_durable()
            watcher.until(live.Progress)
            daemon.stop()
            closed = watcher.until(live.ScanClosed)
            assert (closed.state, closed.status) == ("suspended", "")
            assert watcher.until(live.Disconnected).reason
            daemon.start()
            second = watcher.until(live.Connected)
            assert second.instance != first.instance
            # a viewer forgot what it knew when it met another instance; the scan is at rest
            progress = watcher.until(live.Progress, lambda event: event.state == "acquiring")
            assert (progress.scan, progress.positions_durable) == (scan.scan_id, 10)
            scan.abort("done")
            watcher.until(live.ScanClosed, lambda event: event.state == "ended")


def test_a_daemon_that_hangs_is_silent_and_heard_again(daemon: Daemon) -> None:
    with Watcher(daemon.endpoint, silence_timeout_s=1.5) as watcher:
        watcher.until(live.Connected)
        psutil.Process(daemon.pid).suspend()
        try:
            lost = watcher.until(live.Disconnected)
            assert "silent" in lost.reason
        finally:
            psutil.Process(daemon.pid).resume()
        watcher.until(live.Connected)


def test_nobody_there_is_told_and_looked_for(tmp_path: Path) -> None:
    with Watcher("tcp://127.0.0.1:9", topics=()) as watcher:
        lost = watcher.until(live.Disconnected)
        assert "no daemon answered at tcp://127.0.0.1:9" in lost.reason
        assert watcher.watch.next_event(0.1) is None


@pytest.mark.parametrize("endpoint", ["", "127.0.0.1:5755", "tcp://host", "ipc://x", "tcp://a b:1"])
def test_what_is_no_endpoint_is_refused_at_once(endpoint: str) -> None:
    with pytest.raises(ValueError, match="endpoint"):
        live.watch(endpoint)


def test_a_viewer_that_was_busy_does_not_take_that_for_silence(daemon: Daemon) -> None:
    with Watcher(daemon.endpoint, silence_timeout_s=1.2) as watcher:
        watcher.until(live.Heartbeat)
        time.sleep(1.5)
        watcher.until(live.Heartbeat)
        assert watcher.of(live.Disconnected) == []


def test_only_viewers_with_known_keys_see_anything(tmp_path: Path) -> None:
    keys = Keys(tmp_path / "keys", "watcher")
    strangers = Keys(tmp_path / "others", "stranger")
    stranger = keys.of("watcher") | {"key_file": strangers.of("stranger")["key_file"]}
    options = {"server_key_file": keys.server_key_file, "client_keys_dir": keys.listed}
    with Daemon(tmp_path / "data", **options) as daemon:
        with Watcher(daemon.endpoint, **keys.of("watcher")) as watcher:
            watcher.until(live.Heartbeat)
            with connect(daemon.endpoint, **keys.of("watcher")) as client:
                telemetry = f"tcp://127.0.0.1:{client.ports['telemetry']}"
        for others in ({}, stranger):
            with Watcher(None, telemetry=telemetry, silence_timeout_s=1.0, **others) as watcher:
                assert "silent" in watcher.until(live.Disconnected).reason
                assert watcher.of(live.Connected) == []
            with Watcher(daemon.endpoint, **others) as watcher:
                assert "key" in watcher.until(live.Disconnected).reason


def test_keys_that_cannot_be_read_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(UsidstreamError, match="server_key is missing"):
        live.watch("tcp://127.0.0.1:5755", key_file=tmp_path / "x.key_secret")


def test_asyncio_sees_the_same(daemon: Daemon) -> None:
    async def look() -> list[type]:
        kinds: list[type] = []
        async with live.watch_async(daemon.endpoint) as events:
            async for event in events:
                kinds.append(type(event))
                if isinstance(event, live.ScanClosed):
                    return kinds
        return kinds

    async def both() -> list[type]:
        looking = asyncio.create_task(look())
        await asyncio.sleep(0.5)
        await asyncio.to_thread(_scan_once, daemon.endpoint)
        return await asyncio.wait_for(looking, 30.0)

    kinds = asyncio.run(both())
    assert kinds[0] is live.Connected
    assert {live.Heartbeat, live.ScanOpened, live.Progress, live.ScanClosed} <= set(kinds)


def _scan_once(endpoint: str) -> None:
    with connect(endpoint) as client, client.open_scan(layout()) as scan:
        scan.write_block(0, DATA)


def test_a_disk_that_is_short_of_room_is_a_warning(tmp_path: Path) -> None:
    with (
        Daemon(tmp_path / "data", disk_reserve_mb=1 << 30) as daemon,
        Watcher(daemon.endpoint) as watcher,
    ):
        beat = watcher.until(live.Heartbeat, lambda event: event.warnings)
        (warning,) = beat.warnings
        assert (warning["code"], warning["scan"]) == ("disk_short", "")
        daemon.config.write_text("disk_reserve_mb = 1\n")
        daemon.send(signal.SIGHUP)
        over = watcher.until(live.WarningTold)
        assert (over.code, over.over, over.since_s) == ("disk_short", True, warning["since_s"])
        watcher.until(live.Heartbeat, lambda event: not event.warnings)


def test_the_shortest_scan_is_told_of_from_its_opening(daemon: Daemon) -> None:
    with Watcher(daemon.endpoint) as watcher, connect(daemon.endpoint) as client:
        watcher.until(live.Heartbeat)
        for _ in range(5):
            client.open_scan(layout(1, 1)).abort("at once")
            watcher.until(live.ScanClosed)
        kinds = [type(e) for e in watcher.seen if isinstance(e, live.ScanOpened | live.ScanClosed)]
    assert kinds == [live.ScanOpened, live.ScanClosed] * 5


def test_that_a_scan_was_opened_long_ago_is_no_news(daemon: Daemon) -> None:
    with connect(daemon.endpoint) as client, client.open_scan(layout()) as scan:
        time.sleep(0.3)
        with Watcher(daemon.endpoint) as watcher:
            watcher.until(live.Progress)
            watcher.until(live.Heartbeat)
            watcher.until(live.Heartbeat)
            assert watcher.of(live.ScanOpened) == []
        scan.abort("done")


class _UntilClosed(live.Watch):
    """A watch that ends with the first scan."""

    is_over = False

    def __next__(self) -> live.Event:
        if self.is_over:
            raise StopIteration
        event = super().__next__()
        self.is_over = isinstance(event, live.ScanClosed)
        return event


def test_the_example_in_the_operators_guide_runs(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = OPERATING.read_text(encoding="utf-8").partition("## Watching")[2]
    code = text.partition("```python\n")[2].partition("```")[0]
    assert "tcp://127.0.0.1:5755" in code
    real = live.watch(daemon.endpoint)
    real.__class__ = _UntilClosed
    monkeypatch.setattr(live, "watch", lambda _: real)
    names: dict[str, Any] = {}

    def scan_when_watched() -> None:
        wait_for(lambda: real.is_connected, "the example")
        with connect(daemon.endpoint) as client, client.open_scan(layout()) as scan:
            wait_for(lambda: names.get("maps"), "the example's map")
            wait_for(lambda: len(real.topics) > 2, "the example's subscription")
            time.sleep(0.5)  # the daemon learns of it within its next turns
            scan.write_block(0, DATA)

    sender = threading.Thread(target=scan_when_watched)
    sender.start()
    exec(code, names)  # noqa: S102 - the guide's own words
    sender.join()
    assert capsys.readouterr().out.startswith("complete /")
    (found,) = names["maps"].values()
    np.testing.assert_allclose(found.values, DATA.mean(axis=1), rtol=1e-4, atol=1e-6)
