"""A running session keeps other intervals and time-outs from the moment it is given them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from support.sessions import JOINER, OPENER, Stage
from usidstreamd.session import State


def adjust(stage: Stage, **limits: Any) -> None:
    stage.session.adjust(replace(stage.session.limits, **limits))


def test_the_commit_interval_counts_for_what_waits_already() -> None:
    stage = Stage.acquiring(commit_interval_s=50.0)
    stage.send(1)
    stage.settle()
    stage.tick(10.0)
    assert not stage.commits
    adjust(stage, commit_interval_s=5.0)
    stage.tick(10.0)
    assert len(stage.commits) == 1


def test_the_time_for_joiners_counts_from_the_next_finish() -> None:
    stage = Stage.acquiring(JOINER, join_timeout_s=60.0)
    adjust(stage, join_timeout_s=10.0)
    stage.finish(0)
    stage.tick(9.0)
    assert stage.session.state is State.FINISHING
    stage.tick(10.0)
    assert stage.session.state is not State.FINISHING


def test_the_time_for_absent_clients_counts_from_when_they_went() -> None:
    stage = Stage.acquiring(resume_timeout_s=100.0)
    stage.lose(OPENER)
    stage.tick(20.0)
    assert not stage.ends
    adjust(stage, resume_timeout_s=10.0)
    stage.tick(20.0)
    assert len(stage.ends) == 1
