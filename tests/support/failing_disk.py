"""A disk that fails or hangs on demand, for a daemon of its own; see ``preload/failing_disk.c``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from . import preload


class FailingDisk:
    """The rules by which calls fail or hang, from now on.

    Attributes
    ----------
    environment : dict
        What the process needs that is to feel them.
    """

    def __init__(self, rules: Path) -> None:
        self._rules = rules
        self._set([])
        library = preload.build("failing_disk")
        self.environment = {"LD_PRELOAD": str(library), "FAILING_DISK": str(rules)}

    @contextmanager
    def rule(self, operation: str, what: str, path_part: object) -> Iterator[None]:
        """Let an operation (write, sync, close) fail with EIO or ENOSPC, or hold.

        Parameters
        ----------
        path_part
            Which files: those whose paths hold this, or end with it if a ``$`` stands behind it.
        """
        self._set([f"{operation} {what} {path_part}"])
        try:
            yield
        finally:
            self._set([])

    def _set(self, lines: list[str]) -> None:
        temporary = self._rules.with_suffix(".new")
        temporary.write_text("\n".join(lines))
        temporary.replace(self._rules)
