"""The events that the daemon logs: a name that never changes its meaning, a level, a sentence.

The levels are for somebody who has other things to do: ``info`` is what a day consists of, a page
at most; ``warning`` wants to be looked at some time, ``error`` now; ``debug`` is for a search. It
knows no logger; a test compares it with every call there is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class EventSpec:
    """What an event stands for.

    Parameters
    ----------
    level
        ``debug``, ``info``, ``warning``, ``error`` or ``critical``.
    meaning
        One sentence for the table of the docs.
    is_loss
        Data may be lost: no line of it is ever left out, however many there are.
    """

    level: str
    meaning: str
    is_loss: bool = False


EVENTS: Mapping[str, EventSpec] = MappingProxyType(
    {
        # the daemon
        "daemon_ready": EventSpec("info", "It serves: where, which files, and its other ports."),
        "daemon_stopping": EventSpec("info", "It was told to stop, and closes what is open."),
        "daemon_stopped": EventSpec("info", "All scans are closed."),
        "stop_late": EventSpec(
            "error", "Scans were still open after `shutdown_timeout_s`; they are recovered later."
        ),
        "config_changed": EventSpec(
            "info", "An option was taken up, from the old value to the new."
        ),
        "config_unchanged": EventSpec("info", "The configuration was read again and is the same."),
        "config_waits": EventSpec("warning", "A changed option waits for a restart."),
        "config_refused": EventSpec("error", "The configuration has faults; nothing has changed."),
        "thread_died": EventSpec(
            "critical", "A thread met a fault of the program; see `exception`."
        ),
        # scans
        "scan_opened": EventSpec("info", "A new scan was asked for."),
        "scan_resumed": EventSpec("info", "A scan that was left goes on."),
        "scan_ended": EventSpec("info", "A scan is over, with its `status` and file."),
        "scan_suspended": EventSpec("info", "A scan is closed because the daemon stops."),
        "scan_interrupted": EventSpec(
            "warning", "A scan's clients stayed away for `resume_timeout_s`; it is closed as it is."
        ),
        "scan_failed": EventSpec(
            "error", "A scan cannot go on; what was told as durable is safe.", is_loss=True
        ),
        "scan_not_resumed": EventSpec("debug", "A scan that is overdue could not be opened yet."),
        "file_recovered": EventSpec("warning", "A file was not closed, and was put right: `how`."),
        "file_disagrees": EventSpec(
            "error", "A closed file is not what was written; it is made anew.", is_loss=True
        ),
        "rows_uncertain": EventSpec(
            "error", "A recovery cannot vouch for rows, or found them lost.", is_loss=True
        ),
        "journal_left": EventSpec(
            "warning", "An ended scan's journal could not be removed; the next start does it."
        ),
        "journal_damaged": EventSpec("error", "A row journal has a damaged part.", is_loss=True),
        "journal_unreadable": EventSpec(
            "error", "A scan on the disk cannot be looked at; it stays as it is.", is_loss=True
        ),
        "rows_missing": EventSpec(
            "warning", "A scan was finished with gaps; `missing` tells which."
        ),
        # instruments
        "instrument_stalled": EventSpec(
            "warning", "Nothing has come for a scan for longer than its pace explains."
        ),
        "instrument_resumed": EventSpec("info", "Data comes again."),
        # the disk
        "io_stalled": EventSpec(
            "error", "A write, sync or flush has taken longer than `io_stall_s`, and still does."
        ),
        "loop_stalled": EventSpec("error", "So has the loop that serves clients."),
        "io_back": EventSpec("warning", "What had stalled has returned, after so many `seconds`."),
        "disk_short": EventSpec("warning", "The disk runs short; nothing more is taken."),
        "disk_has_room": EventSpec("info", "There is room again; scans go on."),
        "scan_waits_for_room": EventSpec(
            "warning", "A scan found no room for what it has to write."
        ),
        "scan_has_room": EventSpec("info", "The scan goes on."),
        "scan_hangs": EventSpec(
            "error", "A scan's disk does not answer; the stop leaves it, to be recovered later."
        ),
        # other services
        "port_taken": EventSpec("warning", "A service's port is taken; it listens on another one."),
        "previews_crowded": EventSpec("warning", "More previews of a main are watched than served"),
        "previews_served": EventSpec("info", "All previews that are watched are served again."),
        "telemetry_untold": EventSpec("warning", "A message of telemetry cannot be sent."),
        "telemetry_failed": EventSpec("error", "Telemetry has ended; scans go on without it."),
        "telemetry_hangs": EventSpec("error", "Telemetry does not end; the stop does not wait."),
        "scrape_failed": EventSpec("error", "Metrics could not be told this once."),
        "dashboard_ready": EventSpec("info", "The dashboard is served: at which address."),
        "telemetry_unheard": EventSpec("warning", "The dashboard cannot listen, and tries again."),
        "daemon_unreached": EventSpec("warning", "The dashboard finds no daemon that lets it in."),
        "page_failed": EventSpec("error", "A page of the dashboard could not be refreshed."),
        "dashboard_lacks_key": EventSpec(
            "info", "The daemon asks for keys, the dashboard has none: there is none beside it."
        ),
        "dashboard_ended": EventSpec("warning", "The dashboard has ended, and is started again."),
        "service_manager_deaf": EventSpec("warning", "The service manager cannot be told."),
        "hook_failed": EventSpec("warning", "The command of `on_event` failed, or was ended."),
        "hook_crowded": EventSpec("warning", "Too many commands wait; one was not run."),
        # keys
        "open_to_all": EventSpec("warning", "There are no keys: whoever reaches it can write."),
        "key_readable": EventSpec("warning", "Other users of this machine can read a secret key."),
        "keys_admitted": EventSpec("info", "These clients may connect from now on."),
        "keys_withdrawn": EventSpec("warning", "These clients may connect no more."),
        "keys_unchanged": EventSpec("info", "The keys were read again and are the same."),
        "keys_unreadable": EventSpec("error", "The keys cannot be read; nothing has changed."),
        "key_refused": EventSpec("error", "A key file has a fault; for its client all stays."),
        "connections_refused": EventSpec("warning", "Connections came with unknown keys."),
        # clients
        "client_overloading": EventSpec(
            "warning",
            "A client used up its share of the daemon's time: what is costly is refused to it "
            "for a while; see the threat model.",
        ),
        "client_silent": EventSpec("warning", "A client said nothing for `peer_silence_s`."),
        "message_refused": EventSpec(
            "warning", "A client sent what is wrong; its `code` says how."
        ),
        "answered_not_yet": EventSpec("debug", "A client was told to ask again later."),
        # the log itself
        "and_more": EventSpec("info", "So many further lines of an event were left out."),
        "lines_lost": EventSpec("error", "Whoever reads the log was too slow for so many lines."),
    }
)
"""Every event of the daemon. Names are stable; `docs/operating.md` has the same table."""


def markdown_table() -> str:
    """Return the events as a table for the docs."""
    rows = [f"| `{name}` | {spec.level} | {spec.meaning} |" for name, spec in EVENTS.items()]
    return "\n".join(["| event | level | what it means |", "| --- | --- | --- |", *rows]) + "\n"


LOSSES = frozenset(name for name, spec in EVENTS.items() if spec.is_loss)
"""The events of which no line is left out."""
