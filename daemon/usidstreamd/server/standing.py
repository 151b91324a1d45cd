"""What the daemon tells of itself: to ``status``, to viewers, and to the service manager.

It looks at every part and changes none.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from usidstream import __version__

from ..assembly import BufferPool
from ..clients import Clients
from ..conditions import Warnings
from ..disk import Disk
from ..ports import Ports
from ..statusline import standing_line
from ..supervision import Supervisor
from ..telemetry import Telemetry
from ..waiting import WaitingScans
from .scans import Scans

MAX_NAMES_TOLD_COUNT = 256
PROGRAM = f"usidstreamd {__version__}"


@dataclass(frozen=True, slots=True)
class Standing:
    """The daemon as it stands.

    Parameters
    ----------
    instance
        Another one for each start of a daemon.
    endpoint
        Where data comes in.
    data_dir
        Where files are made.
    ports
        Of all that can be connected to.
    clients, scans, waiting, pool, disk, warnings, supervisor, telemetry
        What is looked at.
    """

    instance: str
    endpoint: str
    data_dir: Path
    ports: Ports
    clients: Clients
    scans: Scans
    waiting: WaitingScans
    pool: BufferPool
    disk: Disk
    warnings: Warnings
    supervisor: Supervisor
    telemetry: Telemetry

    def describe(self) -> dict[str, Any]:
        """Tell all but the scans, as plain values."""
        telemetry = self.telemetry.describe()
        per_s = telemetry["write_bytes_per_s"]
        return {
            "daemon": PROGRAM,
            "instance": self.instance,
            "endpoint": self.endpoint,
            "data_dir": str(self.data_dir),
            "clients": len(self.clients),
            "client_names": self.clients.names()[:MAX_NAMES_TOLD_COUNT],
            "memory_in_use_bytes": self.pool.in_use_bytes,
            "memory_budget_bytes": self.pool.budget_bytes,
            "ports": asdict(self.ports),
            "warnings": [condition.to_dict() for condition in self.warnings.current()],
            "ended": self.supervisor.ended(),
            "disk_left_s": self.disk.left_s(per_s),
            **telemetry,
            **self.disk.describe(),
        }

    def describe_scans(self, now: float) -> list[dict[str, Any]]:
        """Tell of each scan that is open or waits, as plain values."""
        opened = [
            scan.session.describe() | self.telemetry.describe_scan(scan, now)
            for scan in self.scans.opened.values()
        ]
        return opened + self.waiting.describe()

    def line(self) -> str:
        """Say it in one line."""
        scans = [scan.standing() for scan in self.scans.opened.values()]
        shortage = "" if self.disk.shortage is None else self.disk.shortage.message
        return standing_line(scans, len(self.waiting), self.disk.free_bytes, shortage)
