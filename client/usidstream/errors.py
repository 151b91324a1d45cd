"""Every error that a peer can meet: code, meaning, hint, and whether a retry can help.

The table below is the contract of ``docs/protocol.md``: a code never changes its meaning, so that a
program in any language can act on it. This module knows no sockets, no files and no layout; it only
names what went wrong. The daemon raises and sends these, the client receives and raises them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any


@dataclass(frozen=True)
class ErrorSpec:
    """What a code stands for.

    Parameters
    ----------
    meaning
        One sentence for the protocol's table.
    hint
        What the caller can do, if a message brings no better hint of its own.
    retryable
        The same request may succeed later, unchanged.
    fatal
        The scan cannot be used any more through this client: every later call raises it.
    """

    meaning: str
    hint: str
    retryable: bool = False
    fatal: bool = False


ERRORS: Mapping[str, ErrorSpec] = MappingProxyType(
    {
        # the connection
        "no_session": ErrorSpec("A message came before hello.", "Send hello first.", True),
        "bad_message": ErrorSpec(
            "Frame 0 is not a msgpack map, or a field is missing, of the wrong kind, or names a "
            "frame that does not fit.",
            "Compare the message with docs/protocol.md.",
        ),
        "unknown_type": ErrorSpec(
            "The message type does not exist in this version.",
            "The features in welcome tell what this daemon understands.",
        ),
        "message_too_large": ErrorSpec(
            "A frame or a message is over its limit.",
            "Send smaller blocks; welcome tells the limits.",
        ),
        "unsupported_version": ErrorSpec(
            "No common protocol version.", "Update the older of client and daemon."
        ),
        "too_many_clients": ErrorSpec(
            "The daemon serves max_clients already.", "Close a client or raise max_clients.", True
        ),
        "overloading": ErrorSpec(
            "The client asks for more of the daemon's time than its share.",
            "Open scans and send attributes less often; blocks are taken as before.",
            True,
        ),
        "access_denied": ErrorSpec(
            "The client's key is not, or no longer, among those that the daemon admits.",
            "Ask the daemon's operator to add the key.",
        ),
        "bad_keys": ErrorSpec(
            "A key file, or a directory of them, cannot be used.", "The message names the file."
        ),
        # opening
        "bad_layout": ErrorSpec("The layout is not valid.", "The message names the field."),
        "bad_name": ErrorSpec(
            "A name cannot stand in a file.",
            "Use 1 to 255 bytes without '/', '-', NUL or control characters.",
        ),
        "bad_attribute": ErrorSpec(
            "An attribute cannot be stored, or its name is the daemon's own.",
            "Attributes are strings, numbers, booleans, or lists of one kind of these.",
        ),
        "layout_too_large": ErrorSpec(
            "The layout's arrays, or the tables that its file gets, are over max_layout_bytes.",
            "Give dimensions as start, step and size.",
        ),
        "unsupported_feature": ErrorSpec(
            "The layout asks for what this daemon cannot do yet.", "Leave the named key out."
        ),
        "layout_differs": ErrorSpec(
            "The scan id is known with another layout.",
            "Resume with the layout it was opened with, or choose a new scan id.",
        ),
        "too_many_scans": ErrorSpec(
            "The daemon holds max_scans open already.", "Finish a scan or raise max_scans.", True
        ),
        "recovering": ErrorSpec(
            "The scan's file is being opened, closed or repaired.", "Ask again in a moment.", True
        ),
        "file_damaged": ErrorSpec(
            "The scan's file was left by a daemon that died, and cannot be continued as it is.",
            "Keep file and journal directory; finish the scan under a new id.",
        ),
        # addressing a scan
        "unknown_scan": ErrorSpec(
            "The daemon knows no such scan.", "Open it, or check the scan id.", fatal=True
        ),
        "unknown_main": ErrorSpec("The layout has no such main.", "Use a name of the layout."),
        "superseded": ErrorSpec(
            "Another connection resumed this scan.", "Only one opener holds a scan.", fatal=True
        ),
        "scan_finished": ErrorSpec(
            "The scan is finished.", "Open a new scan for further data.", fatal=True
        ),
        "not_opener": ErrorSpec(
            "Only the opener finishes or aborts a scan.", "A joined client sends leave."
        ),
        "not_joined": ErrorSpec(
            "This connection has neither opened nor joined the scan.", "Send open or join.", True
        ),
        "already_joined": ErrorSpec(
            "This connection takes part in the scan already.", "Go on; there is nothing to join."
        ),
        "not_joiner": ErrorSpec(
            "Only a joined client leaves a scan.",
            "The opener sends finish or abort; bye leaves the scan resumable.",
        ),
        # blocks
        "bad_shape": ErrorSpec(
            "The payload's length or shape does not fit the rows and columns it claims.",
            "Send rows x cols elements in C order.",
        ),
        "bad_dtype": ErrorSpec(
            "The data's type cannot be stored in the main without changing it.",
            "Convert the data to the main's dtype first.",
        ),
        "out_of_bounds": ErrorSpec(
            "The block reaches outside the main.", "Rows and columns count from 0."
        ),
        "bad_checksum": ErrorSpec(
            "The block's checksum differs from its address and payload.", "Send it again.", True
        ),
        "already_covered": ErrorSpec(
            "The block touches elements that were stored before.",
            "Nothing of it was stored; send only what is missing.",
        ),
        "bad_sequence": ErrorSpec(
            "A seq is 0, or the one in finish or leave is below what has arrived already.",
            "Blocks and annotations count from 1; finish and leave name the last.",
        ),
        "credit_exceeded": ErrorSpec(
            "More bytes were sent than the daemon had granted.", "Wait for an ack's credit.", True
        ),
        # finishing
        "joiners_busy": ErrorSpec(
            "Joined clients did not leave within join_timeout_s.",
            "Let them leave, then finish again.",
            True,
        ),
        # the machine
        "no_space_for_rebuild": ErrorSpec(
            "There is no room to make a damaged file anew; nothing was changed.",
            "Free space and open the scan again, or use usidstreamd recover --into DIR.",
            True,
        ),
        "no_space": ErrorSpec("The disk is full.", "Free space; the scan goes on by itself.", True),
        "storage_failed": ErrorSpec(
            "The file could not be written.",
            "See the daemon's log; what was acknowledged as durable is safe.",
            fatal=True,
        ),
        "shutting_down": ErrorSpec(
            "The daemon is stopping.", "It keeps the scan; reconnect after its restart.", True
        ),
        "internal_error": ErrorSpec("The daemon met a fault of its own.", "Please report it."),
        # met by the client alone
        "timeout": ErrorSpec("It took longer than the caller allowed.", "Call again.", True),
        "not_finished": ErrorSpec(
            "A result was asked for before the scan had ended.", "Call finish first."
        ),
        "bad_source": ErrorSpec(
            "A file cannot be replayed.", "The message says what is wrong with it."
        ),
        "not_mergeable": ErrorSpec(
            "A file cannot be merged into a session.", "The message says why; nothing was changed."
        ),
        "bad_config": ErrorSpec(
            "The daemon's configuration cannot be used.",
            "usidstreamd check-config FILE tells all that is wrong.",
        ),
        "spool_full": ErrorSpec(
            "The client's spool is full, or its disk is, and so is memory.",
            "Free space or raise spool_limit_mb; what was taken is kept, and the call can be made "
            "again.",
            True,
        ),
        "spool_busy": ErrorSpec(
            "Another client has the scan's spool.",
            "Close that one, or give each client a spool_dir of its own.",
            True,
        ),
        "spool_damaged": ErrorSpec(
            "A part of the spool cannot be read back.",
            "What is whole is sent; write again what the scan's result names as missing.",
        ),
        "spool_failed": ErrorSpec(
            "The spool's directory cannot be read or written.",
            "Check the disk and the permissions; what the spool holds already stays there.",
        ),
        "closed": ErrorSpec("The client is closed.", "Connect again.", fatal=True),
        "delivery_failed": ErrorSpec(
            "The client's own delivery stopped.", "Open the scan again with its id.", fatal=True
        ),
    }
)


class UsidstreamError(Exception):
    """The base of every error of this project.

    Parameters
    ----------
    message
        What happened and where.
    code
        A key of `ERRORS`.
    hint
        What to do; the code's own hint if empty.
    details
        Further plain facts, such as the ranges that were covered already.
    """

    def __init__(
        self,
        message: str,
        *,
        code: str = "internal_error",
        hint: str = "",
        details: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.spec = ERRORS.get(code, ERRORS["internal_error"])
        self.code = code
        self.message = message
        self.hint = hint or self.spec.hint
        self.details: dict[str, Any] = dict(details or {})

    @property
    def retryable(self) -> bool:
        """Whether the same request may succeed later."""
        return bool(self.details.get("retryable", self.spec.retryable))

    @property
    def fatal(self) -> bool:
        """Whether the scan is lost to this client."""
        return self.spec.fatal

    def __str__(self) -> str:
        return f"{self.message} [{self.code}] {self.hint}"


class LayoutError(UsidstreamError, ValueError):
    """A layout that cannot be: names the field and the fix.

    Parameters
    ----------
    message
        What is wrong with the field's value.
    field
        The path of the field, such as ``mains[1].spectroscopic[0].values``.
    hint
        The fix.
    code
        ``bad_layout``, ``bad_name``, ``bad_attribute`` or ``unsupported_feature``.
    """

    def __init__(
        self, message: str, *, field: str, hint: str = "", code: str = "bad_layout"
    ) -> None:
        super().__init__(f"{field}: {message}", code=code, hint=hint, details={"field": field})
        self.field = field


class BlockError(UsidstreamError, ValueError):
    """A block was refused; the scan stays usable. ``details`` names main, row, rows, col, cols."""


class ScanError(UsidstreamError):
    """The daemon refused a request about a scan."""


class DeliveryError(UsidstreamError, ConnectionError):
    """Delivery cannot go on; the scan can be resumed by its id."""


class DeliveryTimeoutError(DeliveryError, TimeoutError):
    """A call waited longer than it was allowed to; what it was given was not taken."""

    def __init__(self, message: str, *, hint: str = "", code: str = "timeout") -> None:
        super().__init__(message, code=code, hint=hint)


_BLOCK_CODES = frozenset(
    {
        *("bad_shape", "bad_dtype", "out_of_bounds", "bad_checksum", "already_covered"),
        *("unknown_main", "spool_damaged"),
    }
)
_DELIVERY_CODES = frozenset(
    {
        *("superseded", "storage_failed", "shutting_down", "closed", "delivery_failed"),
        *("no_space", "spool_full", "spool_busy", "spool_failed", "access_denied"),
    }
)


def error_for(
    code: str, message: str, *, hint: str = "", details: Mapping[str, Any] | None = None
) -> UsidstreamError:
    """Make the exception that fits a code received from a peer.

    Unknown codes, from a newer peer, become a `ScanError` that keeps the code.
    """
    kind: type[UsidstreamError] = ScanError
    if code in _BLOCK_CODES:
        kind = BlockError
    elif code in _DELIVERY_CODES:
        kind = DeliveryError
    return kind(message, code=code, hint=hint, details=details)
