"""The states of a scan's delivery, as one literal table.

The state is about the present connection. The *goal* (finish, leave, abort) is the caller's and
outlives connections: whatever is lost with one is asked for again on the next. A message that has
no entry for the present state came too late and changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto
from types import MappingProxyType


class State(Enum):
    """Where the scan stands on the present connection."""

    DETACHED = auto()
    OPENING = auto()
    POSTPONED = auto()
    STREAMING = auto()
    FINISHING = auto()
    LEAVING = auto()
    ABORTING = auto()
    DONE = auto()
    FAILED = auto()


class Event(Enum):
    """What moves it."""

    LINK_UP = auto()
    LINK_DOWN = auto()
    OPENED = auto()
    NOT_NOW = auto()
    RETRY = auto()
    FINISH = auto()
    LEAVE = auto()
    ABORT = auto()
    DECLINED = auto()
    ENDED = auto()
    FAIL = auto()


TRANSITIONS: Mapping[tuple[State, Event], State] = MappingProxyType(
    {
        (State.DETACHED, Event.LINK_UP): State.OPENING,
        (State.DETACHED, Event.FAIL): State.FAILED,
        (State.OPENING, Event.OPENED): State.STREAMING,
        (State.OPENING, Event.NOT_NOW): State.POSTPONED,
        (State.OPENING, Event.ENDED): State.DONE,
        (State.OPENING, Event.LINK_DOWN): State.DETACHED,
        (State.OPENING, Event.FAIL): State.FAILED,
        (State.POSTPONED, Event.RETRY): State.OPENING,
        (State.POSTPONED, Event.LINK_DOWN): State.DETACHED,
        (State.POSTPONED, Event.FAIL): State.FAILED,
        (State.STREAMING, Event.FINISH): State.FINISHING,
        (State.STREAMING, Event.LEAVE): State.LEAVING,
        (State.STREAMING, Event.ABORT): State.ABORTING,
        (State.STREAMING, Event.ENDED): State.DONE,
        (State.STREAMING, Event.LINK_DOWN): State.DETACHED,
        (State.STREAMING, Event.FAIL): State.FAILED,
        (State.FINISHING, Event.ENDED): State.DONE,
        (State.FINISHING, Event.DECLINED): State.STREAMING,
        (State.FINISHING, Event.ABORT): State.ABORTING,
        (State.FINISHING, Event.LINK_DOWN): State.DETACHED,
        (State.FINISHING, Event.FAIL): State.FAILED,
        (State.LEAVING, Event.ENDED): State.DONE,
        (State.LEAVING, Event.DECLINED): State.STREAMING,
        (State.LEAVING, Event.LINK_DOWN): State.DETACHED,
        (State.LEAVING, Event.FAIL): State.FAILED,
        (State.ABORTING, Event.ENDED): State.DONE,
        (State.ABORTING, Event.DECLINED): State.STREAMING,
        (State.ABORTING, Event.LINK_DOWN): State.DETACHED,
        (State.ABORTING, Event.FAIL): State.FAILED,
    }
)

OPEN = frozenset({State.STREAMING, State.FINISHING, State.LEAVING})
"""States in which blocks may travel and acks are believed."""


class Goal(Enum):
    """What the caller wants in the end."""

    STREAM = auto()
    FINISH = auto()
    LEAVE = auto()
    ABORT = auto()


GOAL_EVENTS: Mapping[Goal, Event] = MappingProxyType(
    {Goal.FINISH: Event.FINISH, Goal.LEAVE: Event.LEAVE, Goal.ABORT: Event.ABORT}
)
