"""The template: a copy of a scan's empty file, from which a torn one can be made anew.

It stands in the journal directory before the scan's file has its name. This module knows how it is
kept; what becomes of it is `rebuild`'s.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from .errors import StorageError, storage_error
from .files import TEMPORARY_SUFFIX, remove, sync_directory, sync_file

TEMPLATE_NAME = "template.h5"


def save_template(path: Path, journal: Path) -> None:
    """Keep a copy of a closed, empty file as the scan's template; on return it is on the disk."""
    template = journal / TEMPLATE_NAME
    temporary = template.with_name(TEMPLATE_NAME + TEMPORARY_SUFFIX)
    try:
        shutil.copyfile(path, temporary)
        sync_file(temporary)
        temporary.replace(template)
    except (OSError, StorageError) as error:
        remove(temporary)
        raise storage_error("write", template, error) from error
    sync_directory(journal)
