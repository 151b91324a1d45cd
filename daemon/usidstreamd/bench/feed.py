"""The instrument's side of a run: the client that users use, and the clocks around it.

Runs in a process of its own. It knows a workload and an endpoint, not who listens there.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from usidstream import Scan, ScanLayout, connect
from usidstream.layout.main import Compression

from .figures import percentile
from .workloads import WORKLOADS, Data, Workload

LATENCY_POLL_S = 0.001
"""How often the durable count is looked at: the grain of a latency."""
TIMEOUT_S = 600.0


@dataclass
class Order:
    """What a feed is asked to do.

    Parameters
    ----------
    endpoint
        Of the daemon or reference.
    workload, scale
        What to send.
    repeats
        How often the data is sent, one behind the other, in one scan.
    compression, chunk_rows
        Of the mains; the layout's own by default. ``chunk_rows`` are of full width.
    stretch_units, stretch_s
        Send no more than so many, and none after so long.
    rate_per_s
        Units a second; as fast as it goes by default.
    with_latency
        Whether to measure how long each call's rows take to be durable.
    """

    endpoint: str
    workload: str
    scale: float
    repeats: int = 1
    compression: Compression = "gzip"
    chunk_rows: int | None = None
    stretch_units: int | None = None
    stretch_s: float | None = None
    rate_per_s: float | None = None
    with_latency: bool = False


def run_feed(spec: dict[str, Any], tell: Callable[..., None], wait: Callable[[], None]) -> None:
    """Open a scan, tell ``ready``, wait, send it, tell ``written``; finish, tell ``finished``."""
    order = Order(**spec)
    work = WORKLOADS[order.workload]
    units = work.units_at(order.scale)
    data = work.make_data(units)
    with connect(order.endpoint, timeout_s=TIMEOUT_S, write_timeout_s=TIMEOUT_S) as client:
        scan = client.open_scan(_layout(work, units * order.repeats, order), file=order.workload)
        watch = _DurableWatch(scan) if order.with_latency else None
        tell("ready", file=scan.file)
        wait()
        clock = _Clock()
        sent = _send(scan, order, data, watch)
        write_seconds = clock.seconds()
        tell("written")
        if watch is not None:
            scan.wait_durable(timeout_s=TIMEOUT_S)
            watch.stop()
        scan.finish(timeout_s=TIMEOUT_S)
        tell(
            "finished",
            units=sent,
            nbytes=_unit_nbytes(work, units) * sent,
            write_seconds=write_seconds,
            is_whole=sent == units * order.repeats,
            latency=watch.summary(sent) if watch is not None else None,
            **clock.spent(),
        )


def _layout(work: Workload, units: int, order: Order) -> ScanLayout:
    layout = work.make_layout(units)
    mains = [replace(main, compression=order.compression) for main in layout.mains]
    if order.chunk_rows is not None:
        mains = [replace(main, chunks=(order.chunk_rows, main.n_spectroscopic)) for main in mains]
    return replace(layout, mains=mains)


def _unit_nbytes(work: Workload, units: int) -> int:
    return work.make_layout(units).nbytes // units


class _Clock:
    """Wall time and CPU of this process from now on; the calling thread apart from the others."""

    def __init__(self) -> None:
        self._wall, self._process = time.perf_counter(), time.process_time()
        self._thread = time.thread_time()

    def seconds(self) -> float:
        return time.perf_counter() - self._wall

    def spent(self) -> dict[str, float]:
        caller = time.thread_time() - self._thread
        process = time.process_time() - self._process
        return {
            "seconds": self.seconds(),
            "client_cpu_s": caller,
            "client_io_cpu_s": max(0.0, process - caller),
        }


def _send(scan: Scan, order: Order, data: Data, watch: _DurableWatch | None) -> int:
    """Send units until all are sent or the stretch is over; return how many were sent."""
    work = WORKLOADS[order.workload]
    units = work.units_at(order.scale)
    pacer = _Pacer(order)
    is_timed_by_call = order.rate_per_s is not None or watch is not None
    step = work.call_units if is_timed_by_call else work.slice_units
    for first, part in _slices(units, order.repeats, step):
        if not pacer.wait_for(first):
            return first
        if watch is not None:
            watch.note(first)
        work.write(scan, data, part, first)
    return units * order.repeats


def _slices(units: int, repeats: int, step: int) -> Iterator[tuple[int, slice]]:
    for repeat in range(repeats):
        for start in range(0, units, step):
            yield repeat * units + start, slice(start, min(start + step, units))


class _Pacer:
    """Keeps a rate, and ends a stretch."""

    def __init__(self, order: Order) -> None:
        self._began = time.perf_counter()
        self._interval_s = 1 / order.rate_per_s if order.rate_per_s else 0.0
        self._stretch_s = order.stretch_s
        self._stretch_units = order.stretch_units
        self._pause = threading.Event()

    def wait_for(self, unit: int) -> bool:
        """Wait until a unit is due; return whether to send it."""
        elapsed = time.perf_counter() - self._began
        if self._stretch_units is not None and unit >= self._stretch_units:
            return False
        if self._stretch_s is not None and elapsed >= self._stretch_s:
            return False
        early_s = unit * self._interval_s - elapsed
        if early_s > 0:
            self._pause.wait(early_s)
        return True


@dataclass
class _DurableWatch:
    """Notes when units were written, and when they were told to be durable."""

    scan: Scan
    _writes: list[tuple[int, float]] = field(default_factory=list)
    _acks: list[tuple[int, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="durable watch")
        self._thread.start()

    def note(self, first: int) -> None:
        """Note that the write of unit ``first`` begins now."""
        self._writes.append((first, time.perf_counter()))

    def stop(self) -> None:
        """Look no more."""
        self._ended.set()
        self._thread.join()

    def summary(self, units: int) -> dict[str, float]:
        """Return p50 and p99 of the seconds from a call to its rows' durable ack."""
        ends = [first for first, _ in self._writes[1:]] + [units]
        told = [positions for positions, _ in self._acks]
        seconds = [
            self._acks[place][1] - began
            for end, (_, began) in zip(ends, self._writes, strict=True)
            if (place := bisect_left(told, end)) < len(told)
        ]
        return {
            "p50_s": percentile(seconds, 50),
            "p99_s": percentile(seconds, 99),
            "calls": len(seconds),
        }

    def _watch(self) -> None:
        known = 0
        is_last = False
        while not is_last:
            is_last = self._ended.wait(LATENCY_POLL_S)
            durable = self.scan.durable
            if durable > known:
                known = durable
                self._acks.append((known, time.perf_counter()))
