"""A command for ``on_event`` that writes what it was told, and the wait for a line of it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from .daemon import wait_for

PROGRAM = """
import json, sys
told = json.load(sys.stdin)
with open(sys.argv[1], "a") as file:
    file.write(json.dumps(told) + "\\n")
"""


class Teller:
    """The command and its lines.

    Attributes
    ----------
    command : list of str
        For the option ``on_event``.
    """

    def __init__(self, directory: Path) -> None:
        self._told = directory / "told.jsonl"
        program = directory / "tell.py"
        program.write_text(PROGRAM)
        self.command = [sys.executable, str(program), str(self._told)]

    def events(self, event: str) -> list[Any]:
        """Return what was told of an event so far."""
        text = self._told.read_text() if self._told.exists() else ""
        whole = [line for line in text.splitlines(keepends=True) if line.endswith("\n")]
        lines = [json.loads(line) for line in whole]
        return [line for line in lines if line["event"] == event]

    def expect(self, event: str, **facts: object) -> Any:
        """Wait for an event with these facts; return the latest of its kind."""

        def found() -> list[Any]:
            return [told for told in self.events(event) if facts.items() <= told.items()]

        wait_for(found, f"the event {event!r} with {facts}")
        return found()[-1]
