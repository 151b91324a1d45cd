"""Looks at the daemon when Prometheus asks, from the thread that answers it.

Every number read here is a plain one, kept by the socket thread for its own ends; containers are
copied in one step before they are walked through. So a scrape waits for nobody, least of all for a
loop that hangs: that is when it is wanted most.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from usidstream import __version__
from usidstream.errors import ERRORS

from ..assembly import BufferPool
from ..conditions import CONDITIONS, Warnings
from ..disk import Disk
from ..scan import Scan
from ..session import State
from .books import RECOVERED, Books
from .names import METRICS, PREFIX

STATES = (*(state.value for state in State), "waiting")
STATUSES = ("complete", "incomplete", "aborted", "interrupted", "suspended", "failed")


@dataclass(frozen=True, slots=True)
class Sources:
    """What is looked at; each may be read from any thread.

    Parameters
    ----------
    books
        The scans.
    count_clients
        Returns the number of connections.
    count_waiting
        Returns the number of scans that wait on the disk, by state.
    turned_s
        Returns when the loop turned last, on the monotonic clock.
    refusals
        Errors told to clients, by code.
    warnings, pool, disk
        The daemon's own.
    """

    books: Books
    count_clients: Callable[[], int]
    count_waiting: Callable[[], Mapping[str, int]]
    turned_s: Callable[[], float]
    refusals: Mapping[str, int]
    warnings: Warnings
    pool: BufferPool
    disk: Disk


Values = Iterable[tuple[tuple[str, ...], float]]


class DaemonCollector(Collector):
    """Everything but histograms, which keep themselves.

    Parameters
    ----------
    sources
        What is looked at.
    """

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._started_s = time.monotonic()

    def collect(self) -> Iterator[Metric]:
        """Yield every metric with its present values."""
        scans, total = self._sources.books.read()
        yield from self._daemon()
        yield from self._machine()
        counters = {
            "pixels_total": total.positions,
            "received_bytes_total": total.received_bytes,
            "written_bytes_total": total.written_bytes,
            "codec_seconds_total": total.encode_s,
            "codec_input_bytes_total": total.encoded_bytes,
            "blocks_refused_total": total.blocks_refused,
        }
        for name, value in counters.items():
            yield _family(name, [((), value)])
        yield _family("scans_ended_total", _by(STATUSES, total.ended))
        how = {name.replace(" ", "_"): total.recoveries[name] for name in RECOVERED}
        yield _family("recoveries_total", _by((), how))
        yield from self._scans(scans)

    def _daemon(self) -> Iterator[Metric]:
        sources, now = self._sources, time.monotonic()
        warnings = Counter(condition.code for condition in sources.warnings.current())
        yield _family("build_info", [((__version__,), 1)])
        yield _family("uptime_seconds", [((), now - self._started_s)])
        yield _family("loop_idle_seconds", [((), max(0.0, now - sources.turned_s()))])
        yield _family("clients", [((), sources.count_clients())])
        yield _family("errors_total", _by(tuple(ERRORS), dict(sources.refusals)))
        yield _family("warnings", _by(tuple(CONDITIONS), warnings))

    def _machine(self) -> Iterator[Metric]:
        pool, disk = self._sources.pool, self._sources.disk.describe()
        yield _family("buffer_bytes", [((), pool.in_use_bytes)])
        yield _family("buffer_budget_bytes", [((), pool.budget_bytes)])
        yield _family("disk_free_bytes", [((), disk["disk_free_bytes"])])
        yield _family("disk_needed_bytes", [((), disk["disk_needed_bytes"])])

    def _scans(self, scans: tuple[Scan, ...]) -> Iterator[Metric]:
        states = Counter(scan.session.state.value for scan in scans)
        yield _family("scans", _by(STATES, states + Counter(self._sources.count_waiting())))
        rows = [(scan, *_gauges(scan)) for scan in scans]
        gauges = {name: [((s.scan_id,), g[name]) for s, _info, g in rows] for name in _PER_SCAN}
        lags = [lag for _scan, lag in gauges["scan_durable_lag_seconds"]]
        credits = [credit for _scan, credit in gauges["scan_credit_bytes"]]
        yield _family("durable_lag_seconds", [((), max(lags, default=0.0))])
        yield _family("credit_bytes", [((), sum(credits))])
        yield _family("scan_info", [(info, 1) for _scan, info, _gauges in rows])
        for name, values in gauges.items():
            yield _family(name, values)


def _gauges(scan: Scan) -> tuple[tuple[str, ...], dict[str, float]]:
    """Return the labels of a scan's info, and its gauges by name."""
    session, flow = scan.session, scan.flow()
    durable = session.positions
    info = (scan.scan_id, session.layout.name, session.file, session.state.value)
    return info, {
        "scan_positions": session.layout.n_positions,
        "scan_positions_received": max(durable, flow.positions),
        "scan_positions_durable": durable,
        "scan_durable_lag_seconds": max(0.0, session.lag_s(time.monotonic())),
        "scan_credit_bytes": session.promised_nbytes,
        "scan_backlog_bytes": flow.backlog_bytes,
        "scan_underway_bytes": flow.underway_bytes,
        "scan_clients": len(session.peers),
    }


_PER_SCAN = tuple(name for name, spec in METRICS.items() if spec.labels == ("scan",))


def _by(names: tuple[str, ...], counts: Mapping[str, float]) -> Values:
    """Return a value for each name, 0 where nothing was counted, and for what else there is."""
    return [((name,), value) for name, value in (dict.fromkeys(names, 0) | dict(counts)).items()]


def _family(name: str, values: Values) -> Metric:
    spec = METRICS[name]
    kind = CounterMetricFamily if spec.kind == "counter" else GaugeMetricFamily
    family = kind(PREFIX + name, spec.help, labels=spec.labels)
    for labels, value in values:
        family.add_metric(labels, value)
    return family
