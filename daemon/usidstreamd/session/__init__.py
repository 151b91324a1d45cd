"""A scan's life as a pure state machine: an event in, actions out.

``events`` says what can happen and what is wanted, ``states`` holds the one transition table,
``machine`` carries it out, ``blocks`` checks what came over the wire.
"""

from . import events
from .blocks import block_error, check_block
from .machine import Session, SessionLimits
from .replies import error_message, pack_coverage, result_message
from .states import REFUSALS, TRANSITIONS, State

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
]
