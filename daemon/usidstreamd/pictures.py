"""What ``usidstreamd view`` does: a file's mains as PNG files, for logbooks and scripts.

Several mains become a file each, with the main's path in its name. A picture is written whole or
not at all.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from usidstream.errors import UsidstreamError

from .h5usid import LiveFile, LiveMain, open_live

MAX_PICTURES_COUNT = 64
"""Of one call; a file may hold a thousand mains."""


def write_pictures(
    file: Path, main_path: str | None, png: Path | None, reduction: str
) -> Iterator[Path]:
    """Write a picture of one main, or of each; yield the paths.

    Raises
    ------
    UsidstreamError
        The file cannot be read, holds no such main, or the reduction means nothing to it.
    """
    chosen: str | int = int(reduction) if reduction.isdecimal() else reduction
    if isinstance(chosen, str) and chosen not in {"mean", "max"}:
        raise UsidstreamError(
            f"--reduction {reduction!r} is unknown", hint="mean, max or a column", code="bad_name"
        )
    try:
        with open_live(file) as live:
            mains = _chosen_mains(live, main_path)
            for main in mains:
                if isinstance(chosen, int) and chosen >= main.shape[1]:
                    raise UsidstreamError(
                        f"{main.name} has {main.shape[1]} columns, no column {chosen}",
                        hint="They count from 0.",
                        code="bad_name",
                    )
                yield _write(main, _target(file, png, main, len(mains) > 1), chosen)
    except BrokenPipeError:  # whoever reads what is printed has gone
        raise
    except (OSError, ImportError) as error:
        raise UsidstreamError(
            f"{file} cannot be drawn: {error}",
            hint="usidstreamd verify tells what it holds.",
            code="file_damaged",
        ) from error


def _chosen_mains(live: LiveFile, main_path: str | None) -> list[LiveMain]:
    try:
        mains = [live.main(main_path)] if main_path else list(live.mains.values())
    except KeyError as error:
        raise UsidstreamError(
            str(error.args[0]), hint="usidstreamd tree lists them.", code="bad_name"
        ) from error
    if not mains:
        raise UsidstreamError(
            f"{live.path} holds no h5USID main dataset",
            hint="An NSID file becomes h5USID by usidstream replay.",
            code="bad_layout",
        )
    if len(mains) > MAX_PICTURES_COUNT:
        raise UsidstreamError(
            f"{live.path} holds {len(mains)} mains", hint="Choose one with --main.", code="bad_name"
        )
    return mains


def _target(file: Path, png: Path | None, main: LiveMain, several: bool) -> Path:
    base = png or file.with_suffix(".png")
    if not several:
        return base
    part = main.name.strip("/").replace("/", "_")
    return base.with_name(f"{base.stem}_{part}{base.suffix or '.png'}")


def _write(main: LiveMain, target: Path, reduction: str | int) -> Path:
    figure = main.plot(reduction)
    part = target.with_name(target.name + ".part")
    try:
        figure.savefig(part, format="png")
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)
    return target
