"""What both commands share: exit codes, and one line on stderr for whatever goes wrong.

It knows errors and how a user reads them; what a command does, it must never know.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from .errors import BlockError, UsidstreamError

EXIT_FAULT = 1
EXIT_WRONG_USE = 2

_WRONG_USE_CODES = frozenset(
    {"bad_layout", "bad_name", "bad_attribute", "layout_too_large", "unsupported_feature"}
)
"""What a daemon refuses because of what the user asked for."""


def run_app(name: str, app: Callable[[], Any]) -> int:
    """Run a command line; return its exit code.

    Parameters
    ----------
    name
        The command's name, for errors.
    app
        Parses ``sys.argv`` and does it; leaves by `SystemExit` or an error of this project.
    """
    try:
        app()
    except UsidstreamError as error:
        wrong_use = is_wrong_use(error)
        line = f"{name}: {in_one_line(error, with_code=not wrong_use)}"
        print(line, file=sys.stderr)  # noqa: T201 - it is a command's output
        return EXIT_WRONG_USE if wrong_use else EXIT_FAULT
    return 0


def is_wrong_use(error: UsidstreamError) -> bool:
    """Tell whether the command was given what cannot be, rather than met a fault."""
    if isinstance(error, ValueError):
        return not isinstance(error, BlockError)
    return error.code in _WRONG_USE_CODES


def in_one_line(error: UsidstreamError, *, with_code: bool = True) -> str:
    """Say what happened and what to do; the code, to look it up or to report it, stands last."""
    words = " ".join(f"{error.message.rstrip('. ')}. {error.hint}".split())
    return f"{words} [{error.code}]" if with_code else words
