"""The loop: one thread that gives every part of the daemon its turn.

`Server.run` sleeps until something comes or is due, and turns. It knows in which order the parts
have their turns, decides nothing that a part could decide, and waits for no file.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict

from usidstream import __version__

from ..config import Config
from ..logs import get_logger
from ..reload import Reloads
from ..service import Service
from .parts import Parts
from .stopping import STOP_MARGIN_S, Stop
from .waking import Waking

log = get_logger()

MIB = 1 << 20
CLOSE_TIMEOUT_S = 1.0
"""The threads of scans that are closed, or hang, are waited for at least so long."""
CHORES_INTERVAL_S = 0.05
"""What is due by the clock alone, and not to a moment, is seen to no oftener, however often the
loop turns."""
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
    config
        As it holds now.
    endpoint, ports
        Where data comes in, and where everything listens.
    warnings
        What needs an operator.
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
        self.has_hanging_threads = False
        self._service = service or Service()
        self._reloads = Reloads(read_config or (lambda: config))
        self._stop = Stop(config.shutdown_timeout_s)
        self._turned_s = time.monotonic()
        self._chores_due_s = self._turned_s
        self._parts = Parts(config, lambda: self._turned_s)
        self.endpoint, self.ports = self._parts.endpoint, self._parts.ports
        self.warnings = self._parts.warnings
        self._waking = Waking(self._parts.mailbox, self._parts.gate, self._parts.router)
        self._look_at_left()

    def _look_at_left(self) -> None:
        """Find the scans that an earlier daemon left, and go on with them."""
        now = time.monotonic()
        for number, found in enumerate(self._parts.directory.waiting()):
            self._service.starting(f"{number} scans looked at", LOOK_TIMEOUT_S)
            self._parts.scans.take_left(found, now)
        self._parts.scans.resume_left()

    # -- from any thread

    def stop(self) -> None:
        """End `run` soon, from any thread or a signal handler."""
        self._stop.request()

    def reload(self) -> None:
        """Read configuration and keys again soon, and take up what may change; as in `stop`."""
        self._reloads.request()
        self._parts.gate.reload()

    # -- the loop

    def run(self) -> None:
        """Serve until `stop`; then close every scan so that it can be resumed."""
        self._parts.supervisor.start()
        self._service.ready()
        try:
            log.info(
                "daemon_ready",
                version=__version__,
                endpoint=self.endpoint,
                data_dir=str(self.config.data_dir),
                ports=asdict(self.ports),
                waiting_scans=self._parts.waiting.count_states().total(),
            )
            while not self._is_done():
                scans = self._parts.scans.opened.values()
                dues_s = (scan.session.commit_due_s for scan in scans)
                has_messages = self._waking.sleep(self._parts.restraint.over_s, dues_s)
                with self._parts.supervisor.loop.at("the loop that serves clients"):
                    self._turn(has_messages)
        finally:
            self._close()

    def _turn(self, has_messages: bool) -> None:
        parts = self._parts
        now = self._turned_s = time.monotonic()
        self._watch_space(now)
        parts.gate.answer(now)
        if now >= self._chores_due_s:
            self._chores_due_s = now + CHORES_INTERVAL_S
            self._do_chores(now)
        if has_messages:
            parts.reception.receive()
            now = time.monotonic()
        if self._stop.begins(now):
            self._begin_stop(now)
        self._turn_scans(now)

    def _do_chores(self, now: float) -> None:
        parts = self._parts
        self._take_up(self._reloads.take(self.config))
        self._take_up_keys(now)
        bytes_per_s = self.config.client_rate_mb_per_s * MIB
        parts.holdings.fill(now, bytes_per_s, parts.clients.owners())
        parts.presence.forget_silent(now)
        parts.scans.open_overdue(now)
        parts.supervisor.look(now, parts.scans.opened.values())
        parts.telemetry.tick(now)
        self._service.beat(now)
        if self._service.wants_status(now):
            self._service.tell_status(parts.standing.line(), now)

    def _turn_scans(self, now: float) -> None:
        parts, send_all = self._parts, self._parts.answers.send_all
        for scan, outcome in parts.mailbox.drain():
            send_all(scan.on_outcome(outcome, now))
        for scan in list(parts.scans.opened.values()):
            send_all(scan.turn(now))
            parts.scans.retire_if_over(scan, now)

    def _take_up(self, config: Config | None) -> None:
        if config is not None:
            self.config = config
            self._stop.timeout_s = config.shutdown_timeout_s
            self._parts.adjust(config)

    def _watch_space(self, now: float) -> None:
        """Hold all credit while the disk is short of what may have to be written."""
        parts = self._parts
        if parts.disk.is_due(now) and parts.disk.look(now, parts.scans.promised_bytes):
            shortage = parts.disk.shortage
            parts.warnings.note("disk_short", None if shortage is None else shortage.message)
            parts.supervisor.note_space(shortage)
            parts.answers.send_all(parts.scans.note_shortage(shortage))

    def _take_up_keys(self, now: float) -> None:
        """Let clients go whose keys are admitted no more."""
        parts = self._parts
        if parts.gate.take_up():
            parts.presence.forget_shut_out(parts.gate, now)
            parts.telemetry.renew_connections()

    # -- the end

    def _begin_stop(self, now: float) -> None:
        self._service.stopping(self.config.shutdown_timeout_s + STOP_MARGIN_S)
        log.info("daemon_stopping", open_scans=len(self._parts.scans.opened))
        self._parts.answers.send_all(self._parts.scans.suspend(now))

    def _is_done(self) -> bool:
        if not self._stop.has_begun:
            return False
        if not self._parts.scans.opened:
            return True
        now = time.monotonic()
        is_late = now >= self._stop.deadline_s(now)
        if is_late:
            log.error(
                "stop_late",
                after_s=self.config.shutdown_timeout_s,
                open_scans=", ".join(self._parts.scans.opened),
            )
        return is_late

    def _close(self) -> None:
        now = time.monotonic()
        # Those that hang had all the time there is; those that end need a moment to do so.
        deadline_s = max(self._stop.deadline_s(now), now + CLOSE_TIMEOUT_S)
        self.has_hanging_threads = self._parts.close(deadline_s)
        log.info("daemon_stopped")


def _warn_if_open(config: Config) -> None:
    if config.is_open_to_all:
        log.warning(
            "open_to_all",
            endpoint=config.bind,
            problem="whoever reaches it can read and write scans; usidstreamd keygen makes keys",
        )
