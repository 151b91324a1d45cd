"""What is durable, when a commit begins, and who is answered by it."""

from __future__ import annotations

import pytest

from support.sessions import JOINER, OPENER, OTHER, SCAN, WINDOW_BYTES, Stage
from usidstream import wire
from usidstreamd.session import State, events
from usidstreamd.session.commits import TRANSIT_S, Commits
from usidstreamd.session.intake import ACK_INTERVAL_S, PROMPT_CREDIT_PARTS
from usidstreamd.session.peers import Roster


def test_what_settled_when_a_commit_began_is_durable_when_it_ends() -> None:
    stage = Stage.acquiring()
    stage.send(1)
    stage.send(2, row=1)
    stage.settle()
    stage.tick(5.0)
    stage.settle()
    stage.now += ACK_INTERVAL_S
    assert stage.ack().durable == 0
    stage.commit(positions=1)
    ack = stage.ack()
    assert (ack.received, ack.durable, ack.positions) == (2, 1, 1)


def test_a_commit_comes_with_the_interval_and_only_when_there_is_something_to_commit() -> None:
    stage = Stage.acquiring(commit_interval_s=5.0)
    stage.tick(100.0)
    assert not stage.commits
    stage.send(1)
    stage.settle()
    stage.tick(100.0)
    assert len(stage.commits) == 1
    stage.commit()
    stage.send(2, row=1)
    stage.settle()
    stage.tick(104.9)
    assert not stage.commits
    stage.tick(105.0)
    assert len(stage.commits) == 1


def test_one_commit_is_under_way_at_a_time() -> None:
    stage = Stage.acquiring()
    for seq in (1, 2, 3):
        stage.send(seq, row=seq)
        stage.settle()
        stage.ping(commit=True)
    assert len(stage.commits) == 1
    stage.commit()
    assert stage.ack().durable == 1
    assert len(stage.commits) == 1, "the second covers both that came meanwhile"
    stage.commit()
    assert stage.ack().durable == 3
    assert not stage.commits


def test_a_commit_that_is_waited_for_begins_as_soon_as_all_sent_before_has_settled() -> None:
    stage = Stage.acquiring()
    stage.send(1)
    stage.send(2, row=1)
    stage.ping(commit=True)
    assert not stage.commits
    stage.settle()
    assert not stage.commits
    stage.settle()
    stage.commit()
    assert stage.ack().durable == 2


def test_a_commit_that_is_waited_for_follows_one_that_began_too_early() -> None:
    stage = Stage.acquiring()
    stage.send(1)
    stage.settle()
    stage.tick(5.0)
    stage.send(2, row=1)
    stage.ping(commit=True)
    stage.settle()
    stage.commit()
    assert stage.ack().durable == 1
    stage.commit()
    assert stage.ack().durable == 2


def test_waiting_for_what_is_durable_already_costs_no_commit() -> None:
    stage = Stage.acquiring()
    stage.ping(commit=True)
    stage.send(1)
    stage.settle()
    stage.ping(commit=True)
    stage.commit()
    stage.ping(commit=True)
    assert not stage.commits


def test_a_refused_block_is_passed_by_the_durable_count_too() -> None:
    stage = Stage.acquiring()
    stage.send(1, crc=0)
    stage.tick(5.0)
    stage.commit()
    assert stage.ack().durable == 1


def test_a_commit_that_was_not_begun_cannot_end() -> None:
    stage = Stage.acquiring()
    with pytest.raises(RuntimeError, match="commit 7"):
        stage.do(events.Committed(marker=7, positions=0))
    stage.send(1)
    stage.settle()
    stage.ping(commit=True)
    with pytest.raises(RuntimeError, match="commit 7"):
        stage.do(events.Committed(marker=7, positions=0))


def test_coverage_is_told_as_it_is_after_the_request() -> None:
    stage = Stage.acquiring()
    stage.send(1)
    stage.settle()
    stage.ping(commit=True)
    stage.ask_coverage(OTHER)
    assert not stage.commits[0].coverage
    stage.commit()
    assert not stage.has(OTHER, wire.StatusReport)
    assert stage.commits[0].coverage
    stage.commit((0, 1))
    report = stage.take(OTHER, wire.StatusReport)
    assert wire.unpack_ranges(report.coverage["Raw"]["complete"], report.frames, 2) == [(0, 1)]
    assert wire.unpack_ranges(report.coverage["Raw"]["partial"], report.frames, 4) == []
    assert report.scans[0]["scan"] == SCAN


def test_every_asker_gets_the_coverage_and_asking_without_end_holds_nobody_up() -> None:
    stage = Stage.acquiring(JOINER)
    for round_number in range(3):
        for _ in range(50):
            for peer in (OPENER, JOINER, OTHER):
                stage.ask_coverage(peer)
        stage.commit()
        stage.commit()
        for peer in (OPENER, JOINER, OTHER):
            reports = [send for send in stage.sent if send.peer == peer]
            assert len(reports) == 50, round_number
        stage.sent.clear()


def test_one_who_asked_and_went_is_not_answered() -> None:
    stage = Stage.acquiring()
    stage.ask_coverage(OTHER)
    stage.lose(OTHER)
    stage.commit()
    assert not stage.sent


def test_leaving_or_opening_again_does_not_take_an_answer_away() -> None:
    stage = Stage.acquiring(JOINER)
    stage.ask_coverage(JOINER)
    stage.leave(0)
    stage.ask_coverage(OPENER)
    stage.open()
    while stage.commits:
        stage.commit()
    stage.take(JOINER, wire.Finished)
    stage.take(JOINER, wire.StatusReport)
    stage.take(OPENER, wire.StatusReport)
    stage.take(OPENER, wire.Opened)


def test_positions_are_those_of_the_latest_commit_and_told_to_all() -> None:
    stage = Stage.acquiring(JOINER)
    stage.send(1)
    stage.settle()
    stage.ping(commit=True)
    stage.commit(positions=1)
    assert {ack.positions for ack in stage.acks().values()} == {1}
    assert stage.session.positions == 1


@pytest.mark.parametrize("begun_before", [True, False])
def test_a_failed_file_makes_nothing_durable_any_more(begun_before: bool) -> None:
    stage = Stage.acquiring()
    stage.send(1)
    stage.send(2, row=1)
    stage.settle()
    if begun_before:
        stage.tick(5.0)
    stage.acks()
    stage.fail()
    stage.settle()
    if begun_before:
        stage.commit(positions=5)
    assert stage.acks() == {}
    assert stage.session.positions == 0
    assert stage.session.state is State.FAILED
    stage.tick(1000.0)
    assert not stage.commits


def test_news_of_a_little_credit_waits_for_more_but_not_for_long() -> None:
    stage = Stage.acquiring()
    stage.send(1)
    stage.settle()
    assert stage.ack().received == 1
    start = stage.now
    stage.send(2, row=1)
    stage.settle()
    assert stage.session.take_acks(start) == [], "told a moment ago"
    assert len(stage.session.take_acks(start + ACK_INTERVAL_S)) == 1
    quarter_nbytes, sent_nbytes, seq = WINDOW_BYTES // PROMPT_CREDIT_PARTS, 0, 2
    while sent_nbytes < quarter_nbytes:
        seq += 1
        stage.send(seq, row=seq)
        sent_nbytes += sum(len(frame) for frame in stage.placing[-1].item.frames)
    stage.settle_all()
    assert len(stage.session.take_acks(start + ACK_INTERVAL_S)) == 1, "so much does not wait"


def test_news_of_what_is_durable_does_not_wait() -> None:
    stage = Stage.acquiring()
    stage.acks()
    start = stage.now
    stage.send(1)
    stage.settle()
    stage.ping(commit=True)
    stage.commit(positions=1)
    assert len(stage.session.take_acks(start)) == 1


def test_news_of_a_little_credit_comes_with_the_end_of_a_commit_that_has_just_begun() -> None:
    stage = Stage.acquiring()
    stage.send(1)
    stage.settle()
    stage.tick(5.0)
    assert len(stage.commits) == 1
    assert stage.session.take_acks(5.0) == []
    stage.commit()
    told = stage.session.take_acks(5.0)
    assert [(ack.message.received, ack.message.durable) for ack in told] == [(1, 1)]


def test_news_of_credit_does_not_wait_for_a_commit_that_takes_long() -> None:
    stage = Stage.acquiring()
    stage.send(1)
    stage.settle()
    stage.tick(5.0)
    told = stage.session.take_acks(5.0 + 2 * ACK_INTERVAL_S)
    assert [(ack.message.received, ack.message.durable) for ack in told] == [(1, 0)]


def after_a_commit(*, began_s: float, ended_s: float) -> Stage:
    """Return a scan of which something came while a commit was under way."""
    stage = Stage.acquiring(commit_interval_s=1.0)
    stage.send(1)
    stage.settle()
    stage.tick(began_s)
    stage.send(2, row=1)
    stage.settle()
    stage.now = ended_s
    stage.commit()
    return stage


def test_a_commit_begins_so_much_earlier_as_the_way_takes() -> None:
    commits = Commits(Roster(SCAN), commit_interval_s=1.0)
    commits.start(positions=0, now=10.0)
    assert commits.due_s is None, "nothing has settled"
    commits.is_dirty = True
    assert commits.due_s == pytest.approx(11.0 - TRANSIT_S)
    commits.interval_s = TRANSIT_S
    assert commits.due_s == pytest.approx(10.0 + TRANSIT_S / 2), "a pause there is"


def test_a_commit_begins_as_much_earlier_as_the_last_ones_took() -> None:
    stage = after_a_commit(began_s=10.0, ended_s=10.2)
    stage.tick(10.7)
    assert not stage.commits
    stage.tick(10.8)
    assert len(stage.commits) == 1, "what came at 10.0 is durable at 11.0"


def test_a_slow_disk_has_half_an_interval_between_commits() -> None:
    stage = after_a_commit(began_s=10.0, ended_s=15.0)
    stage.tick(15.4)
    assert not stage.commits
    stage.tick(15.5)
    assert len(stage.commits) == 1


def after_a_pause(until_s: float) -> Stage:
    """A stage where a commit ended at 11.0, and the next row came then."""
    stage = after_a_commit(began_s=10.0, ended_s=10.1)
    stage.tick(11.0)
    stage.commit()
    stage.now = until_s
    stage.send(3, row=2)
    stage.settle()
    return stage


def test_what_comes_alone_is_committed_at_once() -> None:
    stage = after_a_pause(until_s=11.5)
    stage.tick(11.5)
    assert len(stage.commits) == 1, "nothing had come for half an interval"


def test_what_comes_soon_after_a_commit_waits_for_more() -> None:
    stage = after_a_pause(until_s=11.4)
    stage.tick(11.5)
    assert not stage.commits
    stage.tick(12.0)
    assert len(stage.commits) == 1
