"""From a `spool_dir` to a scan's spool: taken before the scan is opened, begun when it is open.

Knows which folder is whose, and what the folder of a known scan allows: to go on while no daemon
answers. `spooler` does the rest.
"""

from __future__ import annotations

import warnings
from pathlib import Path

from ..delivery import Spool, SpooledForm
from ..errors import error_for
from ..layout import ScanLayout
from .channel import Channel
from .mains import Mains
from .options import Options
from .spool_files import HEADER_NAME, SpooledScan, SpoolFolder, read_header
from .spooler import Spooler


class SpoolPlace:
    """A scan's folder in a spool directory, held for the scan that is being opened.

    Parameters
    ----------
    spool_dir
        The directory of all spools.
    scan_id
        Names the folder.

    Raises
    ------
    UsidstreamError
        ``spool_busy``, ``spool_failed``; ``spool_damaged``: what the scan is cannot be read.

    Attributes
    ----------
    scan : SpooledScan or None
        What an earlier process knew of the scan.
    """

    def __init__(self, spool_dir: Path, scan_id: str) -> None:
        self._folder = SpoolFolder(spool_dir / scan_id)
        self.scan: SpooledScan | None = None
        if not self._folder.is_new:
            try:
                self.scan = read_header(self._folder.folder)
            except BaseException:
                self.give_back()
                raise

    def check(self, layout: ScanLayout) -> None:
        """Raise ``layout_differs`` if the spool is of a scan with another layout."""
        if self.scan is not None and self.scan.layout != layout:
            raise error_for(
                "layout_differs",
                f"{self._folder.folder} holds blocks of scan {self.scan.scan_id} with another"
                " layout",
            )

    def give_back(self) -> None:
        """The scan was not opened: leave the folder as it was found."""
        self._folder.close(remove=self._folder.is_new)

    def begin(self, channel: Channel, scan: SpooledScan, options: Options) -> None:
        """Let the scan, which is open, use the spool; what it holds goes first."""
        if self.scan is None:
            self._folder.describe(scan)
        form = SpooledForm(list(Mains.of(scan.layout)))
        found = self._folder.leftovers(form)
        spool = Spool(2 * options.retain_limit_bytes // 3, int(options.spool_limit_mb * 1e6))
        with channel.lock:
            delivery = channel.delivery
            spool.adopt(found.segments, delivery.kept)
            delivery.spool = spool
            for damage in found.damage:
                delivery.remember(damage)
            channel.spooler = Spooler(channel, spool, self._folder, form)
        channel.spooler.start()
        for words in found.torn:
            warnings.warn(f"{words}: it was being written when its process ended", stacklevel=4)


def spools(spool_dir: Path) -> list[Path]:
    """Return the folders of a directory's spools."""
    return sorted(path.parent for path in spool_dir.glob(f"*/{HEADER_NAME}"))
