"""The dashboard and the alert rules that ship ask only for what a real daemon tells."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from support.daemon import Daemon
from support.rowscan import make_layout, values
from support.scraping import Scrape, metrics_port, scrape
from usidstream import connect
from usidstream.errors import ERRORS
from usidstreamd.conditions import CONDITIONS
from usidstreamd.logs import EVENTS
from usidstreamd.metrics.collector import STATES, STATUSES
from usidstreamd.metrics.names import METRICS, PREFIX

CONFIG = Path(__file__).resolve().parents[2] / "config"
RULES = CONFIG / "prometheus" / "alerts.yml"
DASHBOARD = json.loads((CONFIG / "grafana" / "usidstream.json").read_text("utf-8"))
PROMTOOL = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(
    PROMTOOL is None, reason="promtool is not here; it comes with Debian's package prometheus"
)
OF_PROMETHEUS = {"up"}
WORDS = {"by", "on", "or", "and", "group_left", "without", "offset", "unless"}


def alerts() -> list[dict[str, Any]]:
    groups = yaml.safe_load(RULES.read_text("utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def expressions() -> Iterator[str]:
    for rule in alerts():
        yield rule["expr"]
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            yield target["expr"]


def metrics_of(expression: str) -> set[str]:
    """Return the metrics that a PromQL expression names."""
    text = re.sub(r'"[^"]*"', "", expression)
    text = re.sub(r"\{[^}]*\}|\[[^]]*\]", " ", text)
    text = re.sub(r"\b(by|on|without|group_left)\s*\([^)]*\)", " ", text)
    names = re.findall(r"[a-zA-Z_:][\w:]*(?!\w*\s*\()", text)
    return {name for name in names if name not in WORDS and not name.isdigit()}


def matchers_of(expression: str, label: str) -> set[str]:
    """Return the values of a label that an expression asks for or excludes, by = or ~."""
    found = re.findall(label + r'\s*(?:=|!=|=~|!~)\s*"([^"]*)"', expression)
    return {value for text in found for value in text.split("|")}


@pytest.fixture(scope="module")
def scraped(tmp_path_factory: pytest.TempPathFactory) -> Scrape:
    with (
        Daemon(tmp_path_factory.mktemp("samples") / "data") as daemon,
        connect(daemon.endpoint) as client,
    ):
        scan = client.open_scan(make_layout(), file="s")
        scan.write_block(0, values(np.arange(64)))
        scan.wait_durable(20)
        found = scrape(metrics_port(daemon.endpoint))
        scan.abort()
    return found


def test_the_parser_finds_names_and_nothing_else() -> None:
    text = 'histogram_quantile(0.9, sum by (le) (rate(a_bucket{x=~"b|c"}[5m]))) > 1 or d_total < e'
    assert metrics_of(text) == {"a_bucket", "d_total", "e"}


@pytest.mark.parametrize("expression", list(expressions()))
def test_every_metric_that_is_asked_for_is_told(scraped: Scrape, expression: str) -> None:
    asked = metrics_of(expression) - OF_PROMETHEUS
    assert asked <= set(scraped), expression
    assert asked or "up{" in expression


@pytest.mark.parametrize("expression", list(expressions()))
def test_every_label_and_value_that_is_asked_for_exists(expression: str) -> None:
    known = {"code": set(ERRORS) | set(CONDITIONS), "state": set(STATES), "status": set(STATUSES)}
    for label, there_are in known.items():
        assert matchers_of(expression, label) <= there_are, expression
    labels = set(re.findall(r"[{,]\s*(\w+)\s*(?:=|!)", expression))
    ours = {label for spec in METRICS.values() for label in spec.labels}
    assert labels <= ours | {"instance", "job", "le"}


def test_every_metric_is_shown_or_watched() -> None:
    asked = set().union(*map(metrics_of, expressions()))
    not_shown = {"build_info", "uptime_seconds", "credit_bytes"}
    not_shown |= {"scan_positions_received", "scan_clients"}  # in status and watch
    for name in set(METRICS) - not_shown:
        assert any(metric.startswith(PREFIX + name) for metric in asked), name


def test_every_alert_says_what_is_the_matter_and_what_to_do() -> None:
    assert len({rule["alert"] for rule in alerts()}) == len(alerts())
    for rule in alerts():
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert rule["annotations"]["summary"].startswith("{{ $labels.instance }}: ")
        assert rule["annotations"]["description"].rstrip().endswith(".")
        for event in re.findall(r"\(event (\w+)\)|\((rows_\w+)\)", str(rule)):
            assert "".join(event) in EVENTS


def test_the_dashboard_can_be_imported() -> None:
    assert DASHBOARD["uid"] == "usidstream"
    assert "id" not in DASHBOARD, "an import would overwrite whatever has it"
    variables = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    assert variables == {"datasource", "instance"}
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        assert panel["title"]
        assert panel["datasource"]["uid"] == "${datasource}"
        assert panel["fieldConfig"]["defaults"]["unit"]
        for target in panel["targets"]:
            assert target["datasource"]["uid"] == "${datasource}"
            assert 'instance=~"$instance"' in target["expr"]
        ids = [target["refId"] for target in panel["targets"]]
        assert len(set(ids)) == len(ids) > 0


def test_no_panel_lies_on_another() -> None:
    cells: dict[tuple[int, int], str] = {}
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert x < 24
                assert cells.setdefault((x, y), panel["title"]) == panel["title"]


def test_the_scrape_configuration_finds_rules_and_port() -> None:
    file = CONFIG / "prometheus" / "prometheus.yml"
    config = yaml.safe_load(file.read_text("utf-8"))
    for rules in config["rule_files"]:
        assert (file.parent / rules).is_file()
    (job,) = config["scrape_configs"]
    assert job["job_name"] == "usidstream", "the alert on up names it"
    assert job["static_configs"] == [{"targets": ["127.0.0.1:5757"]}]


@needs_promtool
def test_promtool_takes_rules_configuration_and_every_expression(tmp_path: Path) -> None:
    variables = {"$__rate_interval": "1m", "$instance": ".*"}
    rules = []
    for number, expression in enumerate(expressions()):
        for name, value in variables.items():
            expression = expression.replace(name, value)
        rules.append({"record": f"test:{number}", "expr": expression})
    file = tmp_path / "all.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "all", "rules": rules}]}))
    for words in (["rules", file], ["rules", RULES], ["config", RULES.with_name("prometheus.yml")]):
        told = subprocess.run(
            [str(PROMTOOL), "check", *words], capture_output=True, text=True, check=False
        )
        assert told.returncode == 0, told.stderr


FIRES = {
    "UsidstreamDown": 'up{job="usidstream"} 0x20',
    "UsidstreamHangs": "usidstream_loop_idle_seconds 0+60x20",
    "UsidstreamDiskShort": 'usidstream_warnings{code="disk_short"} 1x20',
    "UsidstreamDiskFullSoon": "usidstream_disk_free_bytes 1000000-10000x60",
    "UsidstreamScanFailed": 'usidstream_scans_ended_total{status="failed"} 0x10 1x10',
    "UsidstreamDurableLag": "usidstream_durable_lag_seconds 6x20",
    "UsidstreamSlowSyncs": 'usidstream_sync_seconds_bucket{le="+Inf",file="hdf5"} 0+9x20',
    "UsidstreamRecovered": 'usidstream_recoveries_total{how="rebuilt"} 0x10 1x10',
    "UsidstreamIncompleteScans": 'usidstream_scans_ended_total{status="incomplete"} 0x10 1x10',
    "UsidstreamDamagedBlocks": 'usidstream_errors_total{code="bad_checksum"} 0x10 1x10',
    "UsidstreamBadClient": 'usidstream_errors_total{code="bad_shape"} 0+600x20',
    "UsidstreamFaultOfItsOwn": 'usidstream_errors_total{code="internal_error"} 0x10 1x10',
}
BESIDE = {
    "UsidstreamDiskFullSoon": ["usidstream_disk_needed_bytes 500000x60"],
    "UsidstreamSlowSyncs": [
        'usidstream_sync_seconds_bucket{le="0.5",file="hdf5"} 0+1x20',
        'usidstream_sync_seconds_bucket{le="1",file="hdf5"} 0+9x20',
    ],
}


@needs_promtool
def test_every_alert_fires_when_it_should_and_not_on_a_daemon_that_is_well(
    tmp_path: Path, scraped: Scrape
) -> None:
    assert FIRES.keys() == {rule["alert"] for rule in alerts()}
    tests = [_fires(alert, [line, *BESIDE.get(alert, [])]) for alert, line in FIRES.items()]
    tests.append(_well(scraped))
    file = tmp_path / "test.yml"
    told = {"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": tests}
    file.write_text(yaml.safe_dump(told))
    done = subprocess.run(
        [str(PROMTOOL), "test", "rules", file], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def _series(lines: list[str]) -> list[dict[str, str]]:
    return [dict(zip(("series", "values"), line.split(" ", 1), strict=True)) for line in lines]


def _fires(alert: str, lines: list[str]) -> dict[str, Any]:
    count = f'count(ALERTS{{alertname="{alert}",alertstate="firing"}})'
    expected = {"expr": count, "eval_time": "15m", "exp_samples": [{"labels": "{}", "value": 1}]}
    return {"interval": "1m", "input_series": _series(lines), "promql_expr_test": [expected]}


def _well(scraped: Scrape) -> dict[str, Any]:
    lines = ['up{job="usidstream"} 1x20']
    for name, samples in scraped.items():
        for labels, value in samples.items():
            text = ",".join(f'{key}="{text}"' for key, text in labels)
            lines.append(f"{name}{{{text}}} {value}x20")
    expected = {"expr": "ALERTS", "eval_time": "15m", "exp_samples": []}
    return {"interval": "1m", "input_series": _series(lines), "promql_expr_test": [expected]}
