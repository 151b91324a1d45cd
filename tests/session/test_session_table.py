"""Every state with every event: where it leads, or how it is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from support.sessions import JOINER, OPENER, OTHER, SCAN, Stage, block, coverage_of, layout_of, note
from usidstream import wire
from usidstream.errors import ERRORS, UsidstreamError
from usidstreamd.session import REFUSALS, TRANSITIONS, State, events, state_diagram


def opening() -> Stage:
    stage = Stage()
    stage.open()
    return stage


def acquiring() -> Stage:
    """A block is being placed, a commit is under way, a joiner takes part."""
    stage = Stage.acquiring(JOINER)
    stage.send(1)
    stage.settle()
    stage.send(2, row=1)
    stage.ping(commit=True)
    stage.ask_coverage()
    return stage


def finishing() -> Stage:
    """Like acquiring, and the opener has asked for the end, with a block still to come."""
    stage = acquiring()
    stage.finish(9)
    return stage


def sealed() -> Stage:
    stage = Stage.acquiring()
    stage.finish(0)
    return stage


def finalising() -> Stage:
    stage = sealed()
    stage.commit()
    return stage


def ended() -> Stage:
    stage = finalising()
    stage.finalised()
    return stage


def suspending() -> Stage:
    stage = acquiring()
    stage.suspend()
    return stage


def closing() -> Stage:
    stage = Stage.acquiring()
    stage.suspend()
    return stage


def suspended() -> Stage:
    stage = closing()
    stage.do(events.StoreClosed())
    return stage


def interrupted() -> Stage:
    stage = Stage.left()
    stage.do(events.StoreClosed())
    return stage


def failed() -> Stage:
    stage = acquiring()
    stage.fail()
    return stage


STAGES: dict[State, Callable[[], Stage]] = {
    State.OPENING: opening,
    State.ACQUIRING: acquiring,
    State.FINISHING: finishing,
    State.SEALED: sealed,
    State.FINALISING: finalising,
    State.ENDED: ended,
    State.SUSPENDING: suspending,
    State.CLOSING: closing,
    State.SUSPENDED: suspended,
    State.INTERRUPTING: Stage.left,
    State.INTERRUPTED: interrupted,
    State.FAILED: failed,
}


def event_of(kind: type[events.Event], stage: Stage) -> events.Event:
    """Return an event that a well-behaved peer or pipeline could send now."""
    makers: dict[type[events.Event], Callable[[], events.Event]] = {
        events.OpenRequested: lambda: events.OpenRequested(peer=OTHER, layout=layout_of()),
        events.JoinRequested: lambda: events.JoinRequested(peer=OTHER),
        events.LeaveRequested: lambda: events.LeaveRequested(peer=JOINER, seq=5),
        events.BlockArrived: lambda: events.BlockArrived(peer=OPENER, block=block(3, row=2)),
        events.AnnotationArrived: lambda: events.AnnotationArrived(peer=OPENER, annotation=note(3)),
        events.AckRequested: lambda: events.AckRequested(peer=OPENER, commit=True),
        events.CoverageRequested: lambda: events.CoverageRequested(peer=OTHER),
        events.FinishRequested: lambda: events.FinishRequested(peer=OPENER, seq=9),
        events.AbortRequested: lambda: events.AbortRequested(peer=OPENER, reason=""),
        events.PeerLost: lambda: events.PeerLost(peer=OTHER),
        events.StoreReady: lambda: events.StoreReady(
            file="/s.h5", positions=0, coverage=coverage_of()
        ),
        events.Settled: lambda: events.Settled(peer=OPENER, seq=2, nbytes=8),
        events.Committed: lambda: events.Committed(
            marker=stage.commits[0].marker if stage.commits else 99, positions=1
        ),
        events.Finalised: lambda: events.Finalised(
            file="/data/s.h5", status="complete", missing={}
        ),
        events.StoreFailed: lambda: events.StoreFailed(
            error=UsidstreamError("broken", code="storage_failed")
        ),
    }
    return makers[kind]() if kind in makers else kind()


EVENTS = sorted(
    (
        kind
        for kind in vars(events).values()
        if isinstance(kind, type)
        and issubclass(kind, events.Event)
        and kind not in (events.Event, events.Request)
    ),
    key=lambda kind: kind.__name__,
)
ALLOWED = [(state, kind) for state, row in TRANSITIONS.items() for kind in row]
REFUSED = [(state, kind) for state in State for kind in EVENTS if kind not in TRANSITIONS[state]]

# Where an event makes a further step possible, that step is taken at once.
GOES_ON = {
    (State.SEALED, events.Committed): State.FINALISING,
}


def name(value: Any) -> str:
    return value.value if isinstance(value, State) else value.__name__


@pytest.mark.parametrize(("state", "kind"), ALLOWED, ids=name)
def test_an_event_in_the_row_leads_where_the_table_says(
    state: State, kind: type[events.Event]
) -> None:
    stage = STAGES[state]()
    assert stage.session.state is state
    stage.do(event_of(kind, stage))
    assert stage.session.state is GOES_ON.get((state, kind), TRANSITIONS[state][kind])


@pytest.mark.parametrize(("state", "kind"), REFUSED, ids=name)
def test_an_event_outside_the_row_changes_nothing(state: State, kind: type[events.Event]) -> None:
    stage = STAGES[state]()
    event = event_of(kind, stage)
    stage.sent.clear()
    if not isinstance(event, events.Request):
        with pytest.raises(RuntimeError, match=f"{kind.__name__} in state {state.value}"):
            stage.do(event)
    else:
        stage.do(event)
        error = stage.error(event.peer)
        assert error.code == REFUSALS[state]
        assert error.operation
        assert error.scan == SCAN
        assert error.retryable == ERRORS[error.code].retryable
        assert not stage.sent
    assert stage.session.state is state


def test_the_table_and_the_refusals_name_every_state() -> None:
    assert set(TRANSITIONS) == set(State)
    requests = {kind for kind in EVENTS if issubclass(kind, events.Request)}
    assert set(REFUSALS) == {state for state in State if requests - set(TRANSITIONS[state])}
    assert set(REFUSALS.values()) <= set(ERRORS)


def test_every_state_is_reached_and_only_the_four_ends_are_ends() -> None:
    reached = {State.OPENING} | {target for row in TRANSITIONS.values() for target in row.values()}
    assert reached == set(State)
    for state, make in STAGES.items():
        is_end = set(TRANSITIONS[state].values()) <= {state}
        assert make().session.is_over == is_end


def test_a_peer_that_goes_is_noticed_in_every_state() -> None:
    for make in STAGES.values():
        stage = make()
        for peer in (OPENER, JOINER, OTHER):
            stage.lose(peer)
        assert stage.session.peers == {}


def test_the_diagram_holds_every_change_of_state() -> None:
    lines = state_diagram().splitlines()
    assert lines[0] == "stateDiagram-v2"
    for state, row in TRANSITIONS.items():
        for kind, target in row.items():
            start = f"    {state.value} --> {target.value}: "
            shown = any(kind.__name__ in line for line in lines if line.startswith(start))
            assert shown == (target is not state)


def test_status_describes_each_state_in_plain_values() -> None:
    for state, make in STAGES.items():
        described = make().session.describe()
        assert described["state"] == state.value
        report = wire.StatusReport(daemon={}, scans=[described])
        assert wire.decode_daemon(wire.encode(report)) == report
