"""What a start with a valid configuration would meet on this machine, without starting.

It looks at the directory and its disk and leaves nothing behind. A taken port is not looked for:
most often it is the daemon itself, whose next configuration is being checked.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from usidstream.errors import UsidstreamError

from ..security import open_gate, read_token
from .model import Config

MIB = 1 << 20
KEPT_ANYWAY_MB = 32
"""What stays free beside all credit and memory; ``storage.space`` keeps it, a test compares."""


@dataclass(frozen=True, slots=True)
class Prospects:
    """What a start would meet.

    Parameters
    ----------
    problems
        Each keeps the daemon from starting, by option.
    notes
        Each is allowed, and hardly meant.
    """

    problems: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]


def foresee(config: Config) -> Prospects:
    """Look at what a start with these values would meet here."""
    refusal = _why_not_writable(config.data_dir)
    problems = [("data_dir", refusal)] if refusal else []
    problems += [*_key_problems(config), *_token_problems(config)]
    return Prospects(tuple(problems), tuple(_doubts(config)))


def _key_problems(config: Config) -> Iterator[tuple[str, str]]:
    try:
        open_gate(config.server_key_file, config.keys_dir).close()
    except UsidstreamError as error:
        yield "server_key_file", error.message


def _token_problems(config: Config) -> Iterator[tuple[str, str]]:
    try:
        if config.metrics_token_file is not None:
            read_token(config.metrics_token_file)
    except UsidstreamError as error:
        yield "metrics_token_file", error.message


def _why_not_writable(data_dir: Path) -> str:
    """Try to write where the directory is or would be made; return the reason if that fails."""
    ground = _existing(data_dir)
    try:
        with tempfile.TemporaryFile(dir=ground):
            return ""
    except NotADirectoryError:
        return f"{ground} is not a directory; choose another"
    except OSError as error:
        return (
            f"{data_dir} cannot be written: {error.strerror} in {ground}; "
            "choose another, or allow this user to write there"
        )


def _existing(path: Path) -> Path:
    path = path.absolute()
    while not os.path.lexists(path) and path != path.parent:
        path = path.parent
    return path


def _doubts(config: Config) -> Iterator[str]:
    floor_mb = KEPT_ANYWAY_MB + 2 * config.credit_window_mb
    if config.disk_reserve_mb < floor_mb:
        yield (
            f"disk_reserve_mb = {config.disk_reserve_mb} is less than is kept anyway once a "
            f"client has its credit: {floor_mb} MiB"
        )
    free_mb = _free_mb(config.data_dir)
    if free_mb is not None and free_mb < config.disk_reserve_mb:
        yield (
            f"only {free_mb} MiB are free for data_dir, less than disk_reserve_mb = "
            f"{config.disk_reserve_mb}: no scan will be opened until there is room"
        )
    if config.flush_interval_s < config.commit_interval_s:
        yield (
            f"flush_interval_s = {config.flush_interval_s:g} is shorter than commit_interval_s = "
            f"{config.commit_interval_s:g}: readers see rows before they are acknowledged"
        )
    if config.on_event and shutil.which(config.on_event[0]) is None:
        yield f"on_event: {config.on_event[0]} is no program that this user can run"
    if config.allow_insecure and config.server_key_file is None:
        yield f"allow_insecure = true: whoever reaches {config.bind} can write files here"
    if config.client_keys_dir is not None and config.server_key_file is None:
        yield "client_keys_dir has no effect without server_key_file"


def _free_mb(data_dir: Path) -> int | None:
    try:
        return shutil.disk_usage(_existing(data_dir)).free // MIB
    except OSError:  # what is wrong with the directory is told as a problem
        return None
