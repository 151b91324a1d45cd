"""Reads a daemon's metrics as Prometheus would."""

from __future__ import annotations

import urllib.request
from collections.abc import Mapping

from prometheus_client.parser import text_string_to_metric_families

from support.rawpeer import RawPeer

TIMEOUT_S = 20.0
Labels = tuple[tuple[str, str], ...]


class Scrape(dict[str, dict[Labels, float]]):
    """Samples by name, then by sorted labels."""

    def value(self, name: str, **labels: str) -> float:
        return self["usidstream_" + name][tuple(sorted(labels.items()))]

    def total(self, name: str) -> float:
        return sum(self["usidstream_" + name].values())


def scrape(port: int, headers: Mapping[str, str] | None = None, path: str = "/metrics") -> Scrape:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=dict(headers or {}))
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
        text = answer.read().decode()
    found = Scrape()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = tuple(sorted(sample.labels.items()))
            found.setdefault(sample.name, {})[labels] = sample.value
    return found


def metrics_port(endpoint: str) -> int:
    with RawPeer(endpoint) as peer:
        port = peer.welcome.ports["metrics"]
    assert port is not None
    return port
