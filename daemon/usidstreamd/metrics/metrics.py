"""The metrics of one daemon, put together: a registry of its own, the collector, the endpoint."""

from __future__ import annotations

from pathlib import Path

from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.process_collector import ProcessCollector

from usidstream.endpoints import host_of

from ..conditions import Warnings
from ..ports import note_taken, wanted_port
from ..security import read_token
from .collector import DaemonCollector, Sources
from .endpoint import Endpoint
from .names import METRICS, PREFIX, SYNC_BUCKETS_S

PORT_OFFSET = 2
LOOPBACK = "127.0.0.1"


class Metrics:
    """Counts from construction on; listens from `listen` on.

    Attributes
    ----------
    port
        Where it listens, None if it is off.
    """

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        spec = METRICS["sync_seconds"]
        self._syncs = Histogram(
            PREFIX + "sync_seconds",
            spec.help,
            spec.labels,
            registry=self._registry,
            buckets=SYNC_BUCKETS_S,
        )
        self._by_file = {file: self._syncs.labels(file=file) for file in ("journal", "hdf5")}
        self._endpoint: Endpoint | None = None
        self.port: int | None = None

    def note_sync(self, file: str, seconds: float) -> None:
        """Count a sync, from any thread."""
        self._by_file[file].observe(seconds)

    def listen(
        self, sources: Sources, option: int | str, bind: str, token_file: Path | None
    ) -> None:
        """Answer scrapes from now on, unless it is off.

        Parameters
        ----------
        option
            The configuration's ``metrics``.
        bind
            Where data comes in. With a token metrics are told on the same host, else only to this
            machine.
        token_file
            Whoever asks must know what stands in it; None for this machine only.

        Raises
        ------
        UsidstreamError
            The token cannot be read, or the host cannot be listened at.
        """
        self._registry.register(DaemonCollector(sources))
        wanted = wanted_port(option, bind, PORT_OFFSET)
        if wanted is None:
            return
        token = None if token_file is None else read_token(token_file)
        host = LOOPBACK if token is None else _listened_host(bind)
        self._endpoint = Endpoint(self._registry, host, wanted, token)
        self.port = self._endpoint.port
        _tell_if_other(wanted, self.port, sources.warnings)

    def close(self) -> None:
        """Answer no more."""
        if self._endpoint is not None:
            self._endpoint.close()


def _tell_if_other(wanted: int, found: int, warnings: Warnings) -> None:
    if wanted not in (0, found):
        note_taken("metrics", wanted, found, warnings)


def _listened_host(bind: str) -> str:
    host = host_of(bind)
    return "" if host == "*" else host
