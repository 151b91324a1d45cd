"""Sending what spools hold whose program does not come back.

It opens each scan as that program would, lets the spool drain, and ends it where that is certain: a
joined client leaves, and a scan that has all its data is finished. Any other stays open on the
daemon, to be resumed by its id.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import BlockError, UsidstreamError
from ..keys import ClientKeys
from .client import Client
from .options import Options
from .scan import Scan
from .spool_files import SpooledScan, read_header
from .spooling import spools


@dataclass(frozen=True)
class Drained:
    """What became of one spool.

    Parameters
    ----------
    folder
        The spool's.
    scan_id, file
        The scan, and its file on the daemon's machine; empty if they could not be known.
    status
        As `ScanResult.status`; ``acquiring`` for a scan that stays open; empty after an error.
    blocks
        How many were sent.
    error
        Why not all of it was; the spool keeps the rest.
    """

    folder: Path
    scan_id: str = ""
    file: str = ""
    status: str = ""
    blocks: int = 0
    error: UsidstreamError | None = None


def drain(
    spool_dir: str | Path,
    endpoint: str | None = None,
    *,
    server_key: str | Path | None = None,
    key_file: str | Path | None = None,
) -> Iterator[Drained]:
    """Send what every spool of a directory holds, one after the other.

    Parameters
    ----------
    spool_dir
        As given to `connect`.
    endpoint
        The daemon; by default, for each scan, the one that it was opened at.
    server_key, key_file
        As given to `connect`.

    Yields
    ------
    Drained
        For each spool, when it is done.
    """
    keys = ClientKeys.load(server_key, key_file)
    for folder in spools(Path(spool_dir)):
        try:
            yield _drain(folder, read_header(folder), endpoint, keys)
        except UsidstreamError as error:
            yield Drained(folder, error=error)


def _drain(
    folder: Path, spooled: SpooledScan, endpoint: str | None, keys: ClientKeys | None
) -> Drained:
    options = Options(spool_dir=folder.parent, keys=keys)
    with Client(endpoint or spooled.endpoint, options) as client:
        client.status()  # raises if there is no daemon: then nothing can be done here
        scan = _open(client, spooled)
        blocks = scan.spooled.blocks
        if not scan.has_ended:
            _end(scan, is_joined=spooled.role != "opener")
        status = scan.result.status if scan.has_ended else "acquiring"
        return Drained(folder, scan.scan_id, scan.file, status, blocks)


def _open(client: Client, spooled: SpooledScan) -> Scan:
    if spooled.role == "opener":
        return client.open_scan(spooled.layout, spooled.file, spooled.scan_id)
    return client.join_scan(spooled.scan_id)


def _end(scan: Scan, *, is_joined: bool) -> None:
    refused: list[BlockError] = []
    try:
        while not _is_drained(scan, refused):
            pass
        if is_joined:
            scan.leave()
        elif scan.durable == scan.layout.n_positions:
            scan.finish()
    finally:
        scan.detach()
    for error in refused:
        raise error


def _is_drained(scan: Scan, refused: list[BlockError]) -> bool:
    """Wait until all is durable; return False for a refused block, which holds up no other."""
    try:
        scan.wait_durable()
    except BlockError as error:
        refused.append(error)
        return False
    return True
