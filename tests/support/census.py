"""What a run of fault trials has done and found, counted, and told in a table.

Pure: it knows no process and no file. Whoever kills says at which moment, as the disk showed it
afterwards or, where the disk cannot show it, as the trial was aimed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

MOMENTS = ("acquiring", "checkpoint", "finalise", "ended", "recovery")
IN_PLACE, REBUILT = "in place", "rebuilt"


@dataclass
class Tally:
    """One trial's counts.

    Parameters
    ----------
    moments
        Kills of the daemon, by `MOMENTS`.
    client_kills, stops, broken_connections
        Kills of the client; SIGSTOPs of either; connections cut, muted or repeated.
    recoveries
        By `IN_PLACE` and `REBUILT`.
    compared, lost
        Acknowledged rows that were compared with the file, and those that were not in it.
    """

    moments: Counter[str] = field(default_factory=Counter)
    client_kills: int = 0
    stops: int = 0
    broken_connections: int = 0
    recoveries: Counter[str] = field(default_factory=Counter)
    compared: int = 0
    lost: int = 0

    def killed(self, moment: str) -> None:
        assert moment in MOMENTS, moment
        self.moments[moment] += 1

    def judge(self, acked: Iterable[int], lost: Iterable[int]) -> None:
        """Count rows that were compared, and fail if any is lost."""
        missing = sorted(lost)
        self.compared += len(list(acked))
        self.lost += len(missing)
        assert not missing, f"{len(missing)} acknowledged rows are lost: {missing[:10]}"

    def cells(self) -> list[int]:
        return [
            sum(self.moments.values()),
            *(self.moments[moment] for moment in MOMENTS),
            self.client_kills,
            self.stops,
            self.broken_connections,
            self.recoveries[IN_PLACE],
            self.recoveries[REBUILT],
            self.compared,
            self.lost,
        ]


HEADINGS = (
    "daemon kills", *MOMENTS, "client kills", "stops", "broken connections",
    "repaired in place", "rebuilt", "acked rows compared", "lost",
)  # fmt: skip


class Census:
    """The tallies of all trials of a run."""

    def __init__(self) -> None:
        self._tallies: dict[str, list[Tally]] = {}

    def tally(self, trial: str) -> Tally:
        """Begin to count a trial; those of one name share a line of the table."""
        tally = Tally()
        self._tallies.setdefault(trial, []).append(tally)
        return tally

    def table(self) -> list[str]:
        """Return a Markdown table, the total last; empty where nothing was counted."""
        rows = {
            trial: _sums(tally.cells() for tally in tallies)
            for trial, tallies in self._tallies.items()
        }
        if not rows:
            return []
        rows["**all**"] = _sums(rows.values())
        return [
            f"| trial | {' | '.join(HEADINGS)} |",
            f"| --- |{' ---: |' * len(HEADINGS)}",
            *(f"| {trial} | {' | '.join(map(str, cells))} |" for trial, cells in rows.items()),
        ]


def _sums(rows: Iterable[list[int]]) -> list[int]:
    return [sum(column) for column in zip(*rows, strict=True)]
