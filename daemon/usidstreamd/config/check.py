"""The whole check of a configuration: what it says, and what a start with it would meet.

It puts together what `sources` and `prospects` find, and tells it in lines or as plain values.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .model import RELOADABLE, Config, show
from .prospects import foresee
from .sources import Gathered, Problem, gather


@dataclass(frozen=True, slots=True)
class ConfigReport:
    """What was found.

    Parameters
    ----------
    gathered
        Every option's value and source.
    problems
        Each keeps the daemon from starting.
    notes
        Each is allowed, and hardly meant.
    """

    gathered: Gathered
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]

    def lines(self) -> Iterator[str]:
        """Tell the problems, or else the values and then the notes."""
        config = self.gathered.config
        if self.problems or config is None:
            yield from (problem.message for problem in self.problems)
        else:
            for name, source in self.gathered.sources.items():
                yield f"{name} = {show(getattr(config, name))}  # {source}"
        yield from (f"note: {note}" for note in self.notes)

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values; without ``options`` where they cannot all be read."""
        config = self.gathered.config
        return {
            "ok": not self.problems,
            "options": {} if config is None else dict(_options(config, self.gathered.sources)),
            "problems": [
                {
                    "source": str(problem.source),
                    "kind": problem.source.kind,
                    "option": problem.option,
                    "message": problem.message,
                }
                for problem in self.problems
            ],
            "notes": list(self.notes),
        }


def check(path: Path | None, *, environ: Mapping[str, str] | None = None) -> ConfigReport:
    """Check a file with the environment over it, or the environment alone.

    Parameters
    ----------
    path, environ
        As `gather` takes them.
    """
    gathered = gather(path, environ=environ)
    if gathered.config is None:
        return ConfigReport(gathered, gathered.problems, ())
    prospects = foresee(gathered.config)
    problems = [
        Problem(source, option, f"{source.locate(option)}: {message}")
        for option, message in prospects.problems
        for source in [gathered.sources[option]]
    ]
    return ConfigReport(gathered, tuple(problems), prospects.notes)


def _options(config: Config, sources: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, value in config.model_dump(mode="json").items():
        yield (
            name,
            {
                "value": value,
                "source": str(sources[name]),
                "kind": sources[name].kind,
                "reloadable": name in RELOADABLE,
            },
        )
