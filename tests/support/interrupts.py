"""An interrupt at each place where the interpreter would deliver one, one place at a time.

CPython looks for signals where a function begins, where a call has returned and where a loop turns
back. A trace function counts those places in the code under test, and raises at the chosen one: so
a program that is run once for each of them has been interrupted everywhere.
"""

from __future__ import annotations

import dis
import sys
from contextlib import suppress
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self

_LOOKS_FOR_SIGNALS = frozenset(
    dis.opmap[name]
    for name in ("CALL", "CALL_KW", "CALL_FUNCTION_EX", "JUMP_BACKWARD")
    if name in dis.opmap
)


class Interrupt:
    """Raises KeyboardInterrupt once, at the ``at``-th place within some folders' code.

    Attributes
    ----------
    places
        How many there were so far.
    is_paused
        Whether what runs now is no part of the code under test.
    where
        Where it was raised; empty before.
    """

    def __init__(self, at: int, *folders: Path) -> None:
        self.places = 0
        self.is_paused = False
        self.where = ""
        self._at = at
        self._folders = tuple(map(str, folders))
        self._before: dict[FrameType, int] = {}

    def __enter__(self) -> Self:
        sys.settrace(self._on_call)
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        sys.settrace(None)
        self._before.clear()

    def _on_call(self, frame: FrameType, _event: str, _arg: Any) -> Any:
        if self.where or not frame.f_code.co_filename.startswith(self._folders):
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        self._pass(frame)
        return self._on_event

    def _on_event(self, frame: FrameType, event: str, _arg: Any) -> Any:
        if event == "opcode":
            before = self._before.get(frame, -1)
            self._before[frame] = frame.f_code.co_code[frame.f_lasti]
            if before in _LOOKS_FOR_SIGNALS:
                self._pass(frame)
        elif event == "return":
            self._before.pop(frame, None)
        return self._on_event

    def _pass(self, frame: FrameType) -> None:
        if self.is_paused or self.where:
            return
        self.places += 1
        if self.places == self._at:
            self.where = f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"
            raise KeyboardInterrupt


def interrupted(call: Any, *arguments: Any) -> bool:
    """Call something; tell whether an interrupt ended it."""
    with suppress(KeyboardInterrupt):
        call(*arguments)
        return False
    return True
