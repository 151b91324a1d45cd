"""The parts of a daemon: made in the order in which they need each other, closed the other way.

It knows which part is given to which, and what each takes of the configuration; nothing of what
they do.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from contextlib import ExitStack

from .. import storage
from ..allowance import Allowances, Restraint
from ..clients import Clients
from ..conditions import Warnings
from ..config import Config
from ..disk import Disk
from ..holdings import Holdings
from ..logs import set_level
from ..mailbox import Mailbox
from ..metrics import Books, Metrics, Sources
from ..ports import Ports
from ..refusals import Refusals
from ..router import Router
from ..scan import Scan
from ..security import open_gate
from ..supervision import Supervisor
from ..telemetry import Daemon, Telemetry
from ..waiting import WaitingScans
from .answers import Answers
from .presence import Presence
from .reception import Reception
from .requests import Requests
from .scans import Scans, Watchers
from .shop import make_shop
from .standing import Standing

MIB = 1 << 20


class Parts:
    """The parts of one daemon, all bound and listening.

    Parameters
    ----------
    config
        Every limit and path.
    turned_s
        Returns when the loop turned last, on the monotonic clock; called from any thread.

    Raises
    ------
    UsidstreamError
        The address is taken, or the data directory cannot be used.
    """

    def __init__(self, config: Config, turned_s: Callable[[], float]) -> None:
        with ExitStack() as undo:
            self.directory = storage.DataDirectory(config.data_dir)
            undo.callback(self.directory.close)
            self.gate = open_gate(config.server_key_file, config.keys_dir)
            undo.callback(self.gate.close)
            self.router = Router(config, self.gate)
            undo.pop_all()
        self.endpoint = self.router.endpoint
        self.warnings = Warnings()
        self.mailbox = Mailbox()
        self.disk = Disk(config.data_dir, config.disk_reserve_mb * MIB)
        self.supervisor = Supervisor(config, self.warnings)
        self.metrics = Metrics()
        self.clients = Clients()
        self.holdings = Holdings()
        self._refusals = Refusals()
        self._hold_scans(config)
        self._publish_metrics(config, turned_s)
        self._tell_standing(config)
        self._serve_clients(config)

    def _hold_scans(self, config: Config) -> None:
        self.shop = make_shop(
            config,
            post=self.mailbox.post,
            warnings=self.warnings,
            note_sync=self.metrics.note_sync,
            io_watch=self.supervisor.io_watch,
        )
        self.waiting = WaitingScans(config.resume_timeout_s)
        opened: dict[str, Scan] = {}
        looked_at = Daemon(
            scans=opened,
            describe=lambda: self.standing.describe(),  # noqa: PLW0108 - it is made later
            count_waiting=self.waiting.count_states,
            warnings=self.warnings,
            commit_times=self.shop.commit_times,
        )
        self.telemetry = Telemetry(
            config.telemetry, config.bind, self.endpoint, looked_at, self.gate.socket
        )
        self._books = Books()
        watchers = Watchers(
            self.holdings, self.telemetry, self._books, self.supervisor, self.warnings
        )
        self.scans = Scans(
            opened,
            self.waiting,
            shop=self.shop,
            disk=self.disk,
            watchers=watchers,
            max_scans=config.max_scans,
        )

    def _tell_standing(self, config: Config) -> None:
        self.ports = Ports(
            data=int(self.endpoint.rpartition(":")[2]),
            telemetry=self.telemetry.port,
            metrics=self.metrics.port,
        )
        self.standing = Standing(
            instance=secrets.token_hex(8),
            endpoint=self.endpoint,
            data_dir=config.data_dir,
            ports=self.ports,
            clients=self.clients,
            scans=self.scans,
            waiting=self.waiting,
            pool=self.shop.pool,
            disk=self.disk,
            warnings=self.warnings,
            supervisor=self.supervisor,
            telemetry=self.telemetry,
        )

    def _serve_clients(self, config: Config) -> None:
        allowances = Allowances()
        self.restraint = Restraint()
        self.answers = Answers(self.router, self.clients, allowances, self._refusals)
        self.presence = Presence(config, self.standing, self.clients, self.scans, self.answers)
        self.requests = Requests(
            config,
            scans=self.scans,
            standing=self.standing,
            presence=self.presence,
            clients=self.clients,
            holdings=self.holdings,
            allowances=allowances,
            restraint=self.restraint,
            answers=self.answers,
        )
        self.reception = Reception(
            self.router,
            self.gate,
            clients=self.clients,
            presence=self.presence,
            requests=self.requests,
            allowances=allowances,
            restraint=self.restraint,
            answers=self.answers,
        )

    def _publish_metrics(self, config: Config, turned_s: Callable[[], float]) -> None:
        sources = Sources(
            books=self._books,
            count_clients=lambda: len(self.clients),
            count_waiting=self.waiting.count_states,
            turned_s=turned_s,
            refusals=self._refusals.counts,
            warnings=self.warnings,
            pool=self.shop.pool,
            disk=self.disk,
        )
        self.metrics.listen(sources, config.metrics, config.bind, config.metrics_token_file)

    def adjust(self, config: Config) -> None:
        """Keep other limits, intervals and time-outs from now on."""
        set_level(config.log_level)
        self.presence.config = self.requests.config = config
        self.disk.change_reserve(config.disk_reserve_mb * MIB)
        self.supervisor.adjust(config)
        self.scans.adjust(config)

    def close(self, deadline_s: float) -> bool:
        """Close everything; return whether threads of scans hang.

        Parameters
        ----------
        deadline_s
            How long the scans' threads are waited for, on the monotonic clock.
        """
        is_hanging = self.scans.close(deadline_s)
        self.supervisor.close()
        self.telemetry.close()
        self.metrics.close()
        self.router.close()
        self.gate.close()
        if not is_hanging:  # they may post when they hang no more
            self.mailbox.close()
        self.directory.close()
        return is_hanging
