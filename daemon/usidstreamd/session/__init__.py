"""A scan's life as a pure state machine: an event in, actions out.

``events`` says what can happen and what is wanted, ``states`` holds the one transition table, and
``machine`` carries it out with its parts: ``intake`` (order, credit and acks of what peers send,
with ``blocks`` checking each), ``peers`` (who takes part), ``commits`` (what is durable),
``conclusion`` (how the scan is to end), ``absence`` (for how long nobody takes part) and ``steps``
(what all that makes possible). ``replies`` makes the messages.
"""

from . import events
from .blocks import block_error, check_block
from .intake import SessionLimits
from .machine import Session
from .replies import error_message, pack_coverage, result_message
from .states import REFUSALS, TRANSITIONS, State, state_diagram

__all__ = [
    "REFUSALS",
    "TRANSITIONS",
    "Session",
    "SessionLimits",
    "State",
    "block_error",
    "check_block",
    "error_message",
    "events",
    "pack_coverage",
    "result_message",
    "state_diagram",
]
