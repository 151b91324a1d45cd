"""Which port a service wants, and what is told if it does not get it."""

from __future__ import annotations

import pytest

from usidstreamd.conditions import Warnings
from usidstreamd.ports import note_taken, wanted_port


@pytest.mark.parametrize(
    ("option", "bind", "offset", "port"),
    [
        ("auto", "tcp://127.0.0.1:5755", 1, 5756),
        ("auto", "tcp://127.0.0.1:5755", 2, 5757),
        ("auto", "tcp://127.0.0.1:0", 1, 0),
        ("auto", "tcp://127.0.0.1:65535", 1, 0),
        ("auto", "tcp://127.0.0.1:65534", 2, 0),
        ("auto", "tcp://127.0.0.1:65533", 2, 65535),
        ("off", "tcp://127.0.0.1:5755", 1, None),
        (7000, "tcp://127.0.0.1:5755", 2, 7000),
        (0, "tcp://127.0.0.1:5755", 1, 0),
    ],
)
def test_the_port_that_is_wanted(
    option: int | str, bind: str, offset: int, port: int | None
) -> None:
    assert wanted_port(option, bind, offset) == port


def test_two_services_whose_ports_are_taken_are_one_warning_that_names_both() -> None:
    warnings = Warnings()
    note_taken("telemetry", 5756, 40001, warnings)
    note_taken("metrics", 5757, 40002, warnings)
    (held,) = warnings.current()
    assert held.code == "port_taken"
    for part in ("telemetry", "5756", "40001", "metrics", "5757", "40002"):
        assert part in held.text
