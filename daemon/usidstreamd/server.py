"""The ZeroMQ socket, the clients behind it, and the loop that everything else hangs on.

One thread runs `Server.run`: it sleeps on the ROUTER socket and the mailbox, hands messages to the
scans they concern, and sends what comes back. It decides who may speak (hello first, limits kept)
and which scan is meant; what a scan does is its session's affair, and nothing here touches a file
or waits for one. A message that cannot be read costs its sender an error, never the daemon.
"""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime
from types import MappingProxyType
from typing import Any

import zmq

from usidstream import __version__, wire
from usidstream.errors import UsidstreamError
from usidstream.layout import ScanLayout

from . import storage
from .allowance import (
    MAX_REFUSED_BYTES_PER_TURN,
    NONSENSE_FACTOR,
    OPEN_COST_PER_MAIN_S,
    REFUSING_PAUSE_S,
    Allowances,
)
from .assembly import BufferPool
from .clients import Clients, Identity, check_version
from .conditions import Warnings
from .config import Config
from .disk import Disk
from .holdings import Holdings
from .logs import get_logger, set_level
from .mailbox import Mailbox
from .metrics import Books, Metrics, Sources
from .pipeline import UNDERWAY_BYTES_PER_ENCODER, read_attrs, read_reason
from .rates import Durations
from .refusals import Refusals
from .reload import Reloads
from .router import Router
from .scan import Scan, Sends, Shop, missing_tables
from .security import open_gate
from .service import Service
from .session import SessionLimits, State, error_message, events, result_message
from .statusline import standing_line
from .supervision import Supervisor
from .telemetry import Daemon, Telemetry
from .threads import show_thread_name
from .waiting import WaitingScans

log = get_logger()

MIB = 1 << 20
IDLE_TICK_MS = 100
BUSY_TICK_MS = 20
MAX_HELLO_BYTES = 4096
"""Nothing longer is read of who has not said hello."""
MAX_CHEAP_HEADER_BYTES = 1024
MAX_RECEIVING_S = 0.01
"""What receiving may take of a turn, so that one client's messages do not delay others' acks."""
MAX_NAMES_TOLD_COUNT = 256
TABLE_BYTES_PER_LAYOUT_BYTE = 4
"""Tables are made of few values, in pieces, and shrink to a hundredth: a grid of 4096 x 4096 has
256 MiB of them, and opens in a second."""
CLOSE_TIMEOUT_S = 1.0
"""The threads of scans that are closed, or hang, are waited for at least so long."""
STOP_MARGIN_S = 15.0
"""What a stop may take beside closing scans, before a service manager kills the daemon."""
LOOK_TIMEOUT_S = 30.0
"""What looking at one scan that was left may take at the start."""


class Server:
    """A daemon: binds on construction, serves in `run`.

    Parameters
    ----------
    config
        Every limit and path.
    read_config
        Returns the configuration as a start would have it now, for `reload`; None if it cannot
        change.
    service
        Who started the daemon, and wants to hear how it is; None: nobody.

    Raises
    ------
    ConfigError
        The address may not be bound without being asked to explicitly.
    UsidstreamError
        The address is taken, or the data directory cannot be used.

    Attributes
    ----------
    has_hanging_threads
        After `run`: whether any scan hangs on its disk, so that the process must not wait for it.
    """

    def __init__(
        self,
        config: Config,
        read_config: Callable[[], Config] | None = None,
        service: Service | None = None,
    ) -> None:
        config.require_safe_bind()
        _warn_if_open(config)
        self.config = config
        self._service = service or Service()
        self._reloads = Reloads(read_config or (lambda: config))
        self.instance = secrets.token_hex(8)
        self._directory = storage.DataDirectory(config.data_dir)
        try:
            self._gate = open_gate(config.server_key_file, config.keys_dir)
            try:
                self._router = Router(config, self._gate)
            except BaseException:
                self._gate.close()
                raise
        except BaseException:
            self._directory.close()
            raise
        self.warnings = Warnings()
        self.endpoint = self._router.endpoint
        self._allowances = Allowances()
        self._refused_bytes = 0
        self._receive_due_s = 0.0
        self._holdings = Holdings()
        self._supervisor = Supervisor(config, self.warnings)
        self._mailbox = Mailbox()
        self.refusals = Refusals()
        self._clients = Clients()
        self._scans: dict[str, Scan] = {}
        self._books = Books()
        self._metrics = Metrics()
        self._turned_s = time.monotonic()
        self._retired: list[Scan] = []
        self._waiting = WaitingScans(config.resume_timeout_s)
        self._must_stop = False
        self.has_hanging_threads = False
        self.dashboard_port: int | None = None  # set by whoever runs it beside this daemon
        self._stopping_since_s: float | None = None
        self._disk = Disk(config.data_dir, config.disk_reserve_mb * MIB)
        self._encoders = ThreadPoolExecutor(
            config.codec_threads, "codec", initializer=show_thread_name
        )
        self._finished = storage.FinishedScans(config.data_dir)
        self._shop = Shop(
            data_dir=config.data_dir,
            finished=self._finished,
            pool=BufferPool(config.memory_budget_mb * MIB),
            encoders=self._encoders,
            limits=_session_limits(config),
            flush_interval_s=config.flush_interval_s,
            segment_bytes=config.row_segment_mb * MIB,
            underway_bytes=UNDERWAY_BYTES_PER_ENCODER * config.codec_threads,
            post=self._mailbox.post,
            warnings=self.warnings,
            commit_times=Durations(),
            note_sync=self._metrics.note_sync,
            io_watch=self._supervisor.io_watch,
        )
        self._telemetry = self._make_telemetry()
        self._publish_metrics()
        self._find_waiting_scans(time.monotonic())

    @property
    def telemetry_port(self) -> int | None:
        """Where viewers watch; None if that is off."""
        return self._telemetry.port

    # -- the loop

    def run(self) -> None:
        """Serve until `stop`; then close every scan so that it can be resumed."""
        pausing, listening = zmq.Poller(), zmq.Poller()
        for poller in (pausing, listening):
            poller.register(self._mailbox.fileno(), zmq.POLLIN)
            self._gate.register(poller)
        self._router.register(listening)
        self._supervisor.start()
        self._service.ready()
        try:
            log.info(
                "daemon_ready",
                version=__version__,
                endpoint=self.endpoint,
                data_dir=str(self.config.data_dir),
                ports=self._ports(),
                waiting_scans=self._waiting.count_states().total(),
            )
            while not self._is_done():
                pause_ms = (self._receive_due_s - time.monotonic()) * 1000.0
                if pause_ms > 0.0:
                    pausing.poll(math.ceil(pause_ms))
                else:
                    listening.poll(self._tick_ms())
                with self._supervisor.loop.at("the loop that serves clients"):
                    self._turn()
        finally:
            self._close()

    def _tick_ms(self) -> int:
        """Return how long to sleep at most: no longer than until a commit is due."""
        dues = [scan.session.commit_due_s for scan in self._scans.values()]
        due_s = min((due for due in dues if due is not None), default=None)
        if due_s is None:
            return IDLE_TICK_MS
        return min(BUSY_TICK_MS, max(0, math.ceil(1000 * (due_s - time.monotonic()))))

    def stop(self) -> None:
        """End `run` within `TICK_MS`, from any thread or a signal handler.

        A flag and no post: a handler may interrupt this very thread while it holds the mailbox.
        """
        self._must_stop = True

    def reload(self) -> None:
        """Read configuration and keys again soon, and take up what may change; as in `stop`."""
        self._reloads.request()
        self._gate.reload()

    def _turn(self) -> None:
        self._take_up(self._reloads.take(self.config))
        now = self._turned_s = time.monotonic()
        self._watch_space(now)
        self._watch_gate(now)
        self._receive()
        now = time.monotonic()
        if self._must_stop:
            self._begin_stop(now)
        for scan, outcome in self._mailbox.drain():
            self._send_all(scan.on_outcome(outcome, now))
        self._holdings.fill(now, self.config.client_rate_mb_per_s * MIB, self._clients.owners())
        for scan in list(self._scans.values()):
            self._send_all(scan.advance(now))
            self._send_all(scan.tick(now))
            self._send_all(scan.take_acks(now))
            self._retire_if_over(scan, now)
        self._forget_silent(now)
        self._open_overdue(now)
        self._supervisor.look(now, self._scans.values())
        self._telemetry.tick(now)
        self._service.beat(now)
        if self._service.wants_status(now):
            self._service.tell_status(self._standing(), now)

    def _make_telemetry(self) -> Telemetry:
        daemon = Daemon(
            scans=self._scans,
            describe=self._describe,
            count_waiting=self._waiting.count_states,
            warnings=self.warnings,
            commit_times=self._shop.commit_times,
        )
        return Telemetry(
            self.config.telemetry, self.config.bind, self.endpoint, daemon, self._gate.socket
        )

    def _publish_metrics(self) -> None:
        sources = Sources(
            books=self._books,
            count_clients=lambda: len(self._clients),
            count_waiting=self._waiting.count_states,
            turned_s=lambda: self._turned_s,
            refusals=self.refusals.counts,
            warnings=self.warnings,
            pool=self._shop.pool,
            disk=self._disk,
        )
        config = self.config
        self._metrics.listen(sources, config.metrics, config.bind, config.metrics_token_file)

    def _take_up(self, config: Config | None) -> None:
        if config is None:
            return
        self.config = config
        set_level(config.log_level)
        self._disk.change_reserve(config.disk_reserve_mb * MIB)
        self._waiting.timeout_s = config.resume_timeout_s
        self._supervisor.adjust(config)
        self._shop = replace(
            self._shop,
            limits=_session_limits(config),
            flush_interval_s=config.flush_interval_s,
        )
        for scan in self._scans.values():
            scan.adjust(self._shop)

    def _begin_stop(self, now: float) -> None:
        if self._stopping_since_s is not None:
            return
        self._stopping_since_s = now
        self._service.stopping(self.config.shutdown_timeout_s + STOP_MARGIN_S)
        log.info("daemon_stopping", open_scans=len(self._scans))
        for scan in list(self._scans.values()):
            self._send_all(scan.receive(events.SuspendRequested(), now))

    def _is_done(self) -> bool:
        if self._stopping_since_s is None:
            return False
        if not self._scans:
            return True
        late = time.monotonic() >= self._stop_deadline_s
        if late:
            log.error(
                "stop_late",
                after_s=self.config.shutdown_timeout_s,
                open_scans=", ".join(self._scans),
            )
        return late

    @property
    def _stop_deadline_s(self) -> float:
        since_s = self._stopping_since_s
        return (time.monotonic() if since_s is None else since_s) + self.config.shutdown_timeout_s

    def _close(self) -> None:
        scans = [*self._scans.values(), *self._retired]
        for scan in scans:
            scan.close()
        # Those that hang had all the time there is; those that end need a moment to do so.
        deadline = max(self._stop_deadline_s, time.monotonic() + CLOSE_TIMEOUT_S)
        hanging = [scan for scan in scans if not scan.join(max(0.0, deadline - time.monotonic()))]
        self.has_hanging_threads = bool(hanging)
        for scan in hanging:
            log.error("scan_hangs", scan=scan.scan_id)
        # A codec thread may wait for a file that hangs; else it ends with what it is at.
        self._encoders.shutdown(wait=not hanging, cancel_futures=True)
        self._supervisor.close()
        self._telemetry.close()
        self._metrics.close()
        self._router.close()
        self._gate.close()
        if not hanging:  # they may post when they hang no more
            self._mailbox.close()
        self._directory.close()
        log.info("daemon_stopped")

    # -- the disk

    def _watch_space(self, now: float) -> None:
        """Hold all credit while the disk is short of what may have to be written."""
        if not self._disk.is_due(now):
            return
        scans = list(self._scans.values())
        promised = self._shop.pool.in_use_bytes + sum(scan.promised_bytes for scan in scans)
        if self._disk.look(now, promised):
            shortage = self._disk.shortage
            self.warnings.note("disk_short", None if shortage is None else shortage.message)
            self._supervisor.note_space(shortage)
            for scan in scans:
                self._send_all(scan.note_shortage("disk", self._disk.shortage))

    # -- scans

    def _find_waiting_scans(self, now: float) -> None:
        for number, found in enumerate(self._directory.waiting()):
            self._service.starting(f"{number} scans looked at", LOOK_TIMEOUT_S)
            if not isinstance(found, storage.OpenRecord):
                log.error("journal_unreadable", code=found.code, problem=str(found))
            elif self._finished.get(found.scan_id) is not None:
                storage.remove_journal(found.journal)  # its result was remembered, then we died
            else:
                self._waiting.add_found(found, now)
        for scan_id in self._waiting.resumable()[: self.config.max_scans]:
            self._resume(scan_id)

    def _open_overdue(self, now: float) -> None:
        """Open the scans whose clients have stayed away for too long: they then end themselves."""
        for scan_id in self._waiting.overdue(now):
            try:
                self._resume(scan_id)
            except UsidstreamError as error:  # no room for it now; it stays overdue
                log.debug("scan_not_resumed", scan=scan_id, code=error.code, problem=error.message)

    def _retire_if_over(self, scan: Scan, now: float) -> None:
        """Let go of a scan that is over; a failed one is kept for its error, if it was open."""
        session = scan.session
        if not session.is_over or scan.scan_id not in self._scans:
            return
        del self._scans[scan.scan_id]
        self._holdings.note_over(scan.scan_id)
        self._telemetry.let_go(scan)
        self._books.let_go(scan)
        self._supervisor.note_over(scan)
        self.warnings.forget_scan(scan.scan_id)
        scan.close()
        self._retired = [old for old in self._retired if not old.join(0.0)] + [scan]
        scan.tell_end()
        if session.state is State.FAILED:
            self._warn_of_failure(scan)
        if scan.record is not None and session.state is not State.ENDED:
            is_interrupted = session.state is State.INTERRUPTED
            self._waiting.add(
                scan.record, session.last_contact_s, now, is_interrupted=is_interrupted
            )

    def _warn_of_failure(self, scan: Scan) -> None:
        """Let the operator know of a scan that cannot go on; one that never was only failed."""
        if scan.record is not None:
            self.warnings.begin("scan_failed", str(scan.session.failure), scan.scan_id)

    def _resume(self, scan_id: str) -> None:
        self._check_takes_scans()
        retired = [old for old in self._retired if old.scan_id == scan_id]
        if not all(old.join(0.0) for old in retired):
            raise UsidstreamError(f"scan {scan_id} is still being closed", code="recovering")
        waiting = self._waiting.take(scan_id)
        log.info("scan_resumed", scan=scan_id, file=str(waiting.record.path))
        scan = self._add_scan(scan_id, waiting.record.layout, waiting.last_contact_s)
        scan.resume(waiting.record)

    def _add_scan(
        self, scan_id: str, layout: ScanLayout, last_contact_s: float | None = None
    ) -> Scan:
        scan = self._scans[scan_id] = Scan(scan_id, layout, self._shop, last_contact_s)
        self._books.add(scan)
        self.warnings.end("scan_failed", scan_id)
        self._telemetry.forget_end(scan_id)
        scan.note_shortage("disk", self._disk.shortage)  # nobody takes part yet who had to be told
        return scan

    def _check_takes_scans(self) -> None:
        if self._stopping_since_s is not None:
            raise UsidstreamError("the daemon is stopping", code="shutting_down")
        if len(self._scans) >= self.config.max_scans:
            raise UsidstreamError(
                f"{len(self._scans)} scans are open, max_scans is {self.config.max_scans}",
                code="too_many_scans",
            )

    # -- messages

    def _receive(self) -> None:
        turn_began_s = time.monotonic()
        if turn_began_s < self._receive_due_s:
            return
        for sender, frames in self._router.receive():
            peer, began_s = sender.bytes, time.thread_time()
            owner = ""  # of all who have no key and should
            try:
                who = self._gate.identify(sender)
                owner = self._clients.owner(peer, who)
                self._on_message(peer, who, owner, frames)
                factor = 1
            except UsidstreamError as error:
                self._send(peer, error_message(error, "read"))
                factor = NONSENSE_FACTOR
                self._refused_bytes += _nbytes(frames)
            took_s = factor * (time.thread_time() - began_s)
            now = time.monotonic()
            self._allowances.charge(owner, took_s, now, len(self._clients))
            if now - turn_began_s > MAX_RECEIVING_S:
                return  # acks are due, without which nobody sends
            if self._refused_bytes > MAX_REFUSED_BYTES_PER_TURN:
                self._refused_bytes = 0
                self._receive_due_s = now + REFUSING_PAUSE_S
                return

    def _on_message(
        self, peer: bytes, who: Identity, owner: str, frames: list[wire.Frame] | wire.WireError
    ) -> None:
        now = time.monotonic()
        if isinstance(frames, wire.WireError):
            raise frames
        n_header_bytes = len(frames[0]) if frames else 0
        if peer not in self._clients and n_header_bytes > MAX_HELLO_BYTES:
            raise UsidstreamError("this is no hello", code="no_session")
        is_spent = self._allowances.is_spent(owner, now, len(self._clients))
        if is_spent and n_header_bytes > MAX_CHEAP_HEADER_BYTES:
            self._refused_bytes += _nbytes(frames)
            self._refuse_costly(peer, owner)
            return
        message = wire.decode_client(frames)
        if is_spent and isinstance(message, _COSTLY):
            self._refused_bytes += _nbytes(frames)
            self._refuse_costly(peer, owner, message.type, message.scan)
            return
        try:
            self._clients.hear(peer, message, now, who.key)
            if isinstance(message, wire.Hello):
                self._on_hello(peer, who, message, now)
            else:
                _HANDLERS[type(message)](self, peer, message, now)
        except UsidstreamError as error:
            self._refused_bytes += _nbytes(frames)
            scan = getattr(message, "scan", "")
            seq = message.seq if isinstance(message, wire.Block | wire.Annotate) else 0
            self._send(peer, error_message(error, message.type, scan, seq))

    def _refuse_costly(
        self, peer: bytes, owner: str, operation: str = "read", scan: str = ""
    ) -> None:
        """Tell who asks for too much so; now and then, for an answer to each would cost as much."""
        if not self._allowances.has_to_be_told(owner, time.monotonic()):
            return
        log.warning("client_overloading", client=self._clients.describe(peer), operation=operation)
        error = UsidstreamError("this client asks for more than its share", code="overloading")
        self._send(peer, error_message(error, operation, scan))

    def _on_hello(self, peer: bytes, who: Identity, message: wire.Hello, now: float) -> None:
        check_version(message)
        for other in self._clients.earlier_connections(peer, message.instance, who.key):
            self._forget(other, now)
        limits = self.config.max_clients, self.config.max_connections_per_client
        self._clients.welcome(peer, message, now, limits, who)
        self._send(peer, self._welcome())

    def _welcome(self) -> wire.Welcome:
        config = self.config
        return wire.Welcome(
            version=wire.VERSION,
            daemon=f"usidstreamd {__version__}",
            instance=self.instance,
            features=list(wire.FEATURES),
            limits={
                "max_header_bytes": wire.MAX_HEADER_BYTES,
                "max_frames_count": wire.MAX_FRAMES_COUNT,
                "max_layout_bytes": config.max_layout_mb * MIB,
                "max_block_bytes": config.max_block_mb * MIB,
                "credit_window_bytes": config.credit_window_mb * MIB,
                "peer_silence_s": int(config.peer_silence_s) or 1,
            },
            ports=self._ports(),
        )

    def _ports(self) -> dict[str, int | None]:
        return {
            "data": int(self.endpoint.rpartition(":")[2]),
            "telemetry": self._telemetry.port,
            "metrics": self._metrics.port,
            "dashboard": self.dashboard_port,
        }

    def _on_open(self, peer: bytes, message: wire.Open, now: float) -> None:
        if self._answer_finished(peer, message.scan):
            return
        layout = self._read_layout(message)
        if message.scan in self._waiting:
            self._resume(message.scan)
        owner = self._clients[peer].owner
        scan = self._scans.get(message.scan) or self._create(message, layout, owner, now)
        event = events.OpenRequested(peer=peer, layout=layout, pace=self._holdings.pace(owner))
        self._send_all(scan.receive(event, now))
        if peer in scan.session.peers:
            self._holdings.note_opened(message.scan, owner)

    def _read_layout(self, message: wire.Open) -> ScanLayout:
        limit = self.config.max_layout_mb * MIB
        nbytes = sum(len(frame) for frame in message.frames)
        if nbytes > limit:
            raise UsidstreamError(
                f"the layout's arrays take {nbytes} bytes, over {limit}", code="layout_too_large"
            )
        layout = ScanLayout.from_dict(wire.unpack_layout(message.layout, message.frames))
        storage.refuse_reserved_in(layout)
        nbytes, limit = storage.ancillary_nbytes(layout), TABLE_BYTES_PER_LAYOUT_BYTE * limit
        if nbytes > limit:
            raise UsidstreamError(
                f"the tables of its {layout.n_positions} positions and of its spectroscopic points "
                f"would take {nbytes} bytes, over {limit}",
                code="layout_too_large",
                hint="Divide the scan into smaller ones, or raise the daemon's max_layout_mb.",
            )
        return layout

    def _create(self, message: wire.Open, layout: ScanLayout, owner: str, now: float) -> Scan:
        self._check_takes_scans()
        self._holdings.check_may_open(owner, self.config.max_scans_per_client)
        cost_s = OPEN_COST_PER_MAIN_S * len(layout.mains)
        self._allowances.charge(owner, cost_s, now, len(self._clients))
        name = storage.safe_name(message.file)
        if self._disk.shortage is not None:
            raise self._disk.shortage
        scan = self._add_scan(message.scan, layout)
        scan.create(name, datetime.now().astimezone(), message.shuffle)
        log.info(
            "scan_opened",
            scan=message.scan,
            name_asked=name,
            positions=layout.n_positions,
            mains=[main.name for main in layout.mains],
        )
        return scan

    def _on_join(self, peer: bytes, message: wire.Join, now: float) -> None:
        if message.scan in self._waiting:
            self._resume(message.scan)
        client = self._clients[peer]
        pace = self._holdings.pace(client.owner)
        event = events.JoinRequested(peer=peer, client=client.name, pace=pace)
        self._to_scan(message.scan, event, now)

    def _on_leave(self, peer: bytes, message: wire.Leave, now: float) -> None:
        event = events.LeaveRequested(peer=peer, seq=message.seq)
        self._to_scan(message.scan, event, now)

    def _on_block(self, peer: bytes, message: wire.Block, now: float) -> None:
        session = self._scans[message.scan].session if message.scan in self._scans else None
        refused = 0 if session is None else session.blocks_refused
        self._to_scan(message.scan, events.BlockArrived(peer=peer, block=message), now)
        if session is not None and session.blocks_refused > refused:
            self._refused_bytes += _nbytes(message.frames)

    def _on_annotate(self, peer: bytes, message: wire.Annotate, now: float) -> None:
        event = events.AnnotationArrived(peer=peer, annotation=message)
        self._to_scan(message.scan, event, now)

    def _on_finish(self, peer: bytes, message: wire.Finish, now: float) -> None:
        if self._answer_finished(peer, message.scan):
            return
        attrs = read_attrs(message)
        event = events.FinishRequested(peer=peer, seq=message.seq, attrs=attrs)
        self._to_scan(message.scan, event, now)

    def _on_abort(self, peer: bytes, message: wire.Abort, now: float) -> None:
        if self._answer_finished(peer, message.scan):
            return
        event = events.AbortRequested(peer=peer, reason=read_reason(message))
        self._to_scan(message.scan, event, now)

    def _on_ping(self, peer: bytes, message: wire.Ping, now: float) -> None:
        scan = self._scans.get(message.scan)
        if scan is not None:
            event = events.AckRequested(peer=peer, commit=message.commit)
            self._send_all(scan.receive(event, now))
        self._send(peer, wire.Pong(scan=message.scan))

    def _on_status(self, peer: bytes, message: wire.StatusRequest, now: float) -> None:
        if message.scan and message.coverage:
            self._to_scan(message.scan, events.CoverageRequested(peer=peer), now)
            return
        scans = [
            scan.session.describe() | self._telemetry.describe_scan(scan, now)
            for scan in self._scans.values()
        ]
        scans += self._waiting.describe()
        if message.scan:
            scans = [entry for entry in scans if entry["scan"] == message.scan]
        self._send(peer, wire.StatusReport(daemon=self._describe(), scans=scans))

    def _on_bye(self, peer: bytes, _message: wire.Bye, now: float) -> None:
        self._forget(peer, now)

    def _to_scan(self, scan_id: str, event: events.Event, now: float) -> None:
        scan = self._scans.get(scan_id)
        if scan is not None:
            self._send_all(scan.receive(event, now))
            return
        if scan_id in self._waiting:
            raise self._waiting.refusal(scan_id)
        if self._finished.get(scan_id) is not None:
            raise UsidstreamError(f"scan {scan_id} is finished", code="scan_finished")
        raise UsidstreamError(f"scan {scan_id} is not known here", code="unknown_scan")

    def _answer_finished(self, peer: bytes, scan_id: str) -> bool:
        if scan_id in self._scans or not scan_id:
            return False
        result = self._finished.get(scan_id)
        if result is None:
            return False
        missing = missing_tables(result)
        message = result_message(scan_id, result.file, result.status, missing)
        self._send(peer, message)
        return True

    # -- clients

    def _forget_silent(self, now: float) -> None:
        for peer in self._clients.silent(now, self.config.peer_silence_s):
            log.warning(
                "client_silent",
                client=self._clients.describe(peer),
                after_s=self.config.peer_silence_s,
            )
            self._forget(peer, now)

    def _watch_gate(self, now: float) -> None:
        """Let connections in, and clients go whose keys are admitted no more."""
        self._gate.answer(now)
        if self._gate.take_up():
            for peer in self._clients.without_key(self._gate.admits):
                self._forget(peer, now)
            self._telemetry.renew_connections()

    def _forget(self, peer: bytes, now: float) -> None:
        if not self._clients.forget(peer):
            return
        for scan in self._scans.values():
            self._send_all(scan.receive(events.PeerLost(peer=peer), now))

    def _standing(self) -> str:
        scans = [scan.standing() for scan in self._scans.values()]
        shortage = "" if self._disk.shortage is None else self._disk.shortage.message
        return standing_line(scans, len(self._waiting), self._disk.free_bytes, shortage)

    def _describe(self) -> dict[str, Any]:
        telemetry = self._telemetry.describe()
        per_s = telemetry["write_bytes_per_s"]
        return {
            "daemon": f"usidstreamd {__version__}",
            "instance": self.instance,
            "endpoint": self.endpoint,
            "data_dir": str(self.config.data_dir),
            "clients": len(self._clients),
            "client_names": self._clients.names()[:MAX_NAMES_TOLD_COUNT],
            "memory_in_use_bytes": self._shop.pool.in_use_bytes,
            "memory_budget_bytes": self._shop.pool.budget_bytes,
            "ports": self._ports(),
            "warnings": [condition.to_dict() for condition in self.warnings.current()],
            "ended": self._supervisor.ended(),
            "disk_left_s": self._disk.left_s(per_s),
            **telemetry,
            **self._disk.describe(),
        }

    def _send_all(self, sends: Sends) -> None:
        for send in sends:
            self._send(send.peer, send.message)

    def _send(self, peer: bytes, message: wire.Message) -> None:
        if isinstance(message, wire.Error):
            self.refusals.note(message, self._clients.describe(peer))
        try:
            frames = wire.encode(message)
        except wire.WireError as error:
            # Such as the layout of a scan for a joiner, if its names and attributes are huge.
            scan = getattr(message, "scan", "")
            frames = wire.encode(error_message(error, message.type, scan))
        if len(frames) > 1 and peer in self._clients:
            nbytes = sum(len(frame) for frame in frames)
            owner = self._clients[peer].owner
            self._allowances.charge_answer(owner, nbytes, time.monotonic(), len(self._clients))
        self._router.send(peer, frames)


def _nbytes(frames: Sequence[wire.Frame] | wire.WireError) -> int:
    return 0 if isinstance(frames, wire.WireError) else sum(map(len, frames))


def _session_limits(config: Config) -> SessionLimits:
    return SessionLimits(
        credit_window_bytes=config.credit_window_mb * MIB,
        max_block_bytes=config.max_block_mb * MIB,
        commit_interval_s=config.commit_interval_s,
        join_timeout_s=config.join_timeout_s,
        resume_timeout_s=config.resume_timeout_s,
    )


def _warn_if_open(config: Config) -> None:
    if config.is_open_to_all:
        log.warning(
            "open_to_all",
            endpoint=config.bind,
            problem="whoever reaches it can read and write scans; usidstreamd keygen makes keys",
        )


_COSTLY = (wire.Open, wire.Join, wire.Annotate, wire.StatusRequest)
"""What is refused to clients that have used up their allowance; all else that is short is cheap."""

_HANDLERS: Mapping[type[wire.Message], Callable[..., None]] = MappingProxyType(
    {
        wire.Open: Server._on_open,
        wire.Join: Server._on_join,
        wire.Leave: Server._on_leave,
        wire.Block: Server._on_block,
        wire.Annotate: Server._on_annotate,
        wire.Finish: Server._on_finish,
        wire.Abort: Server._on_abort,
        wire.StatusRequest: Server._on_status,
        wire.Ping: Server._on_ping,
        wire.Bye: Server._on_bye,
    }
)
