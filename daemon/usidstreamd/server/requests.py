"""What each message of a client asks for: the scan it means is found and told.

The message was read and its sender may speak. Whatever cannot be done is raised, and answered by
whoever called. It knows neither sockets nor files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from usidstream import wire
from usidstream.layout import ScanLayout

from ..allowance import OPEN_COST_PER_MAIN_S, Allowances, Restraint
from ..clients import Clients
from ..config import Config
from ..holdings import Holdings
from ..pipeline import read_attrs, read_reason
from ..scan import Scan, missing_tables
from ..session import events, result_message
from .answers import Answers
from .opening import read_layout
from .presence import Presence
from .scans import Scans
from .standing import Standing

MIB = 1 << 20


class Requests:
    """What clients may ask for.

    Parameters
    ----------
    config
        How large a layout may be, and how many scans a client may have.
    scans, standing
        What is asked for and about.
    presence, clients
        Who asks.
    holdings, allowances, restraint
        What each has taken already.
    answers
        How they hear.

    Attributes
    ----------
    config
        May change at any time.
    """

    def __init__(
        self,
        config: Config,
        *,
        scans: Scans,
        standing: Standing,
        presence: Presence,
        clients: Clients,
        holdings: Holdings,
        allowances: Allowances,
        restraint: Restraint,
        answers: Answers,
    ) -> None:
        self.config = config
        self._scans = scans
        self._standing = standing
        self._presence = presence
        self._clients = clients
        self._holdings = holdings
        self._allowances = allowances
        self._restraint = restraint
        self._answers = answers

    def carry_out(self, peer: bytes, message: wire.Message, now: float) -> None:
        """Do what a message of a client asks for, any but hello.

        Raises
        ------
        UsidstreamError
            It cannot be done.
        """
        _HANDLERS[type(message)](self, peer, message, now)

    # -- taking part

    def _on_open(self, peer: bytes, message: wire.Open, now: float) -> None:
        if self._answer_finished(peer, message.scan):
            return
        layout = read_layout(message, self.config.max_layout_mb * MIB)
        self._scans.resume_if_waiting(message.scan)
        owner = self._clients[peer].owner
        scan = self._scans.opened.get(message.scan)
        scan = scan or self._create(message, layout, owner, now)
        event = events.OpenRequested(peer=peer, layout=layout, pace=self._holdings.pace(owner))
        self._answers.send_all(scan.receive(event, now))
        if peer in scan.session.peers:
            self._holdings.note_opened(message.scan, owner)

    def _create(self, message: wire.Open, layout: ScanLayout, owner: str, now: float) -> Scan:
        self._scans.check_takes_scans()
        self._holdings.check_may_open(owner, self.config.max_scans_per_client)
        cost_s = OPEN_COST_PER_MAIN_S * len(layout.mains)
        self._allowances.charge(owner, cost_s, now, len(self._clients))
        return self._scans.create(message.scan, layout, message.file, message.shuffle)

    def _on_join(self, peer: bytes, message: wire.Join, now: float) -> None:
        self._scans.resume_if_waiting(message.scan)
        client = self._clients[peer]
        pace = self._holdings.pace(client.owner)
        event = events.JoinRequested(peer=peer, client=client.name, pace=pace)
        self._tell(message.scan, event, now)

    def _on_leave(self, peer: bytes, message: wire.Leave, now: float) -> None:
        self._tell(message.scan, events.LeaveRequested(peer=peer, seq=message.seq), now)

    def _on_bye(self, peer: bytes, _message: wire.Bye, now: float) -> None:
        self._presence.forget(peer, now)

    # -- data

    def _on_block(self, peer: bytes, message: wire.Block, now: float) -> None:
        scan = self._scans.require(message.scan)
        refused = scan.session.blocks_refused
        event = events.BlockArrived(peer=peer, block=message)
        self._answers.send_all(scan.receive(event, now))
        if scan.session.blocks_refused > refused:
            self._restraint.note(sum(map(len, message.frames)))

    def _on_annotate(self, peer: bytes, message: wire.Annotate, now: float) -> None:
        self._tell(message.scan, events.AnnotationArrived(peer=peer, annotation=message), now)

    # -- the end

    def _on_finish(self, peer: bytes, message: wire.Finish, now: float) -> None:
        if self._answer_finished(peer, message.scan):
            return
        attrs = read_attrs(message)
        event = events.FinishRequested(peer=peer, seq=message.seq, attrs=attrs)
        self._tell(message.scan, event, now)

    def _on_abort(self, peer: bytes, message: wire.Abort, now: float) -> None:
        if self._answer_finished(peer, message.scan):
            return
        event = events.AbortRequested(peer=peer, reason=read_reason(message))
        self._tell(message.scan, event, now)

    def _answer_finished(self, peer: bytes, scan_id: str) -> bool:
        result = self._scans.result(scan_id)
        if result is None:
            return False
        missing = missing_tables(result)
        self._answers.send(peer, result_message(scan_id, result.file, result.status, missing))
        return True

    # -- questions

    def _on_ping(self, peer: bytes, message: wire.Ping, now: float) -> None:
        scan = self._scans.opened.get(message.scan)
        if scan is not None:
            event = events.AckRequested(peer=peer, commit=message.commit)
            self._answers.send_all(scan.receive(event, now))
        self._answers.send(peer, wire.Pong(scan=message.scan))

    def _on_status(self, peer: bytes, message: wire.StatusRequest, now: float) -> None:
        if message.scan and message.coverage:
            self._tell(message.scan, events.CoverageRequested(peer=peer), now)
            return
        scans = self._standing.describe_scans(now)
        if message.scan:
            scans = [entry for entry in scans if entry["scan"] == message.scan]
        self._answers.send(peer, wire.StatusReport(daemon=self._standing.describe(), scans=scans))

    def _tell(self, scan_id: str, event: events.Event, now: float) -> None:
        self._answers.send_all(self._scans.require(scan_id).receive(event, now))


_HANDLERS: Mapping[type[wire.Message], Callable[..., None]] = MappingProxyType(
    {
        wire.Open: Requests._on_open,
        wire.Join: Requests._on_join,
        wire.Leave: Requests._on_leave,
        wire.Block: Requests._on_block,
        wire.Annotate: Requests._on_annotate,
        wire.Finish: Requests._on_finish,
        wire.Abort: Requests._on_abort,
        wire.StatusRequest: Requests._on_status,
        wire.Ping: Requests._on_ping,
        wire.Bye: Requests._on_bye,
    }
)
