"""A rebuilt file takes the place of the damaged one, together with its ledger: all or nothing.

File and ledger stand in different directories and cannot be renamed in one step. A manifest,
published when both new ones are whole on the disk, is the decision; everything after it is done
again after a crash until the manifest is gone. Without one, new files that are found are leftovers.
"""

from __future__ import annotations

import contextlib
import itertools
from dataclasses import dataclass
from pathlib import Path

from usidstream.framing import frame, pack, unframe, unpack

from .errors import StorageError, damaged_error, storage_error
from .files import journal_dir, publish, sync_directory
from .ledger import LEDGER_NAME
from .record import SUSPECT_NAME

MANIFEST_NAME = "manifest"
NEW_LEDGER_NAME = "ledger.new"
REBUILDING_SUFFIX = ".rebuilding"
DAMAGED_SUFFIX = ".damaged"


@dataclass(frozen=True, slots=True)
class Manifest:
    """The decision to put a rebuilt file in its place.

    Parameters
    ----------
    damaged
        The name that the damaged file takes.
    keeps_damaged
        Whether it stays, because not all of it could be taken over.
    """

    damaged: str
    keeps_damaged: bool


def rebuilding_path(path: Path) -> Path:
    """Return where a file is rebuilt."""
    return path.with_name(path.name + REBUILDING_SUFFIX)


def decide(path: Path, *, keeps_damaged: bool) -> Manifest:
    """Publish the manifest, when the new file and the new ledger are whole and on the disk."""
    sync_directory(path.parent)  # with its name: a manifest without the new file would be believed
    names = itertools.chain([""], (f"-{number}" for number in itertools.count(2)))
    candidates = (path.with_name(path.name + DAMAGED_SUFFIX + name) for name in names)
    damaged = next(candidate for candidate in candidates if not candidate.exists())
    manifest = Manifest(damaged.name, keeps_damaged)
    told = {"damaged": manifest.damaged, "keeps_damaged": keeps_damaged}
    publish(journal_dir(path) / MANIFEST_NAME, [frame(pack(told))])
    return manifest


def complete(path: Path) -> bool:
    """Carry out a decision that was made, or remove what was begun without one.

    Returns
    -------
    bool
        Whether there was a decision. After it neither manifest nor leftovers are there.

    Raises
    ------
    StorageError
        It could not be carried out, and can be tried again.
    """
    journal = journal_dir(path)
    manifest = _read(journal / MANIFEST_NAME)
    try:
        if manifest is None:
            _remove(rebuilding_path(path), journal / NEW_LEDGER_NAME)
            return False
        _put_in_place(path, path.with_name(manifest.damaged))
        if (journal / NEW_LEDGER_NAME).exists():
            (journal / NEW_LEDGER_NAME).replace(journal / LEDGER_NAME)
        sync_directory(journal)
        if not manifest.keeps_damaged:
            _remove(path.with_name(manifest.damaged))
        _remove(journal / SUSPECT_NAME)  # that was the damaged file
        _remove(journal / MANIFEST_NAME)
    except OSError as error:
        raise storage_error("replace", path, error) from error
    return True


def _put_in_place(path: Path, damaged: Path) -> None:
    rebuilt = rebuilding_path(path)
    if rebuilt.exists():
        if path.exists() and not damaged.exists():
            path.replace(damaged)
            sync_directory(path.parent)
        rebuilt.replace(path)
    sync_directory(path.parent)


def _read(manifest: Path) -> Manifest | None:
    try:
        (payload,) = unframe(manifest.read_bytes())
        return Manifest(**unpack(payload))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise storage_error("read", manifest, error) from error
    except (TypeError, ValueError) as error:
        raise _damaged(manifest, error) from error


def _damaged(manifest: Path, error: Exception) -> StorageError:
    return damaged_error(
        manifest,
        f"is damaged: {error}",
        "A rebuilt file was about to take its place; compare the files before removing any.",
    )


def _remove(*paths: Path) -> None:
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
            sync_directory(path.parent)
