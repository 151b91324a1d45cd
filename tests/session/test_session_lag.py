"""How old the oldest data is that is not durable: what operators see as the durable lag."""

from __future__ import annotations

from support.sessions import Stage


def test_data_ages_from_its_arrival_until_its_commit_is_done() -> None:
    stage = Stage.acquiring()
    assert stage.session.lag_s(1.0) == 0.0
    stage.now = 1.0
    stage.send(1, row=0)
    assert stage.session.lag_s(1.5) == 0.5, "it waits for memory"
    stage.now = 2.0
    stage.settle()
    assert stage.session.lag_s(2.0) == 1.0
    stage.tick(3.0)
    assert stage.session.lag_s(3.5) == 2.5, "its commit is under way"
    stage.commit(positions=1)
    assert stage.session.lag_s(9.0) == 0.0


def test_what_comes_during_a_commit_waits_for_the_next() -> None:
    stage = Stage.acquiring()
    stage.now = 1.0
    stage.send(1, row=0)
    stage.settle()
    stage.tick(2.0)
    stage.now = 3.0
    stage.send(2, row=1)
    stage.settle()
    assert stage.session.lag_s(4.0) == 3.0
    stage.commit(positions=1)
    assert stage.session.lag_s(4.0) == 1.0
    stage.tick(5.0)
    stage.commit(positions=2)
    assert stage.session.lag_s(6.0) == 0.0
