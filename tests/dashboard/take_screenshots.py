"""Take the pictures of docs/: ``python tests/dashboard/take_screenshots.py [DIR]``.

Runs a daemon, a dashboard and a scan of each kind, and looks at them at two widths; at a stack
while an image of it is filled; and at the demo while its scan runs.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from support.browser import Dashboard, Page, chromium  # noqa: E402
from support.daemon import SCRIPTS, Daemon, wait_for  # noqa: E402
from support.shown_scans import STACK_IMAGES_COUNT, all_kinds, send_image  # noqa: E402
from usidstream.feeds import preset  # noqa: E402

WIDTHS = (1400, 400)
SELECTED = {
    "afm": 96 * 256 + 140,
    "be": 20 * 64 + 25,
    "4dstem": 300,
    "raman_line": 40,
    "spiral": 900,
}


def main() -> None:
    """Write a PNG of each scan at each width."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs"
    with (
        tempfile.TemporaryDirectory() as data,
        Daemon(Path(data) / "scans", flush_interval_s=0.2) as daemon,
        Dashboard(daemon.endpoint) as dashboard,
        all_kinds(daemon.endpoint) as scans,
        chromium() as page,
    ):
        for name, row in SELECTED.items():
            for width in WIDTHS:
                url = f"{dashboard.url}?scan={scans[name].scan_id}&row={row}"
                take(page, url, folder / f"dashboard-{name}-{width}.png", width)
        take_stack(page, dashboard.url, scans["timeseries"], folder)
        take_demo(page, folder / "dashboard-demo.png")
        print(dashboard.log)  # noqa: T201 - it is a script


def take_stack(page: Page, url: str, scan: Any, folder: Path) -> None:
    """Look at a stack while its newest image is filled."""

    def send() -> None:
        feed = preset("timeseries")
        for image in range(STACK_IMAGES_COUNT, STACK_IMAGES_COUNT + 6):
            send_image(scan, feed, image)
            time.sleep(0.5)
        send_image(scan, feed, STACK_IMAGES_COUNT + 6, 0.6)

    path = folder / f"dashboard-timeseries-{WIDTHS[0]}.png"
    take(page, f"{url}?scan={scan.scan_id}", path, WIDTHS[0], send)


def take_demo(page: Page, path: Path) -> None:
    """Look at the demo when two thirds of its scan are there."""
    with tempfile.TemporaryDirectory() as data:
        command = [SCRIPTS / "usidstreamd", "demo", "--rate", "120", "--data-dir", data]
        demo = subprocess.Popen(list(map(str, command)), stderr=subprocess.PIPE, text=True)
        try:
            assert demo.stderr is not None
            lines = iter(demo.stderr.readline, "")
            url = next(line.split()[-1] for line in lines if line.startswith("See it live"))
            time.sleep(14)
            take(page, f"{url}?row=1305", path, WIDTHS[0])
        finally:
            demo.terminate()
            demo.wait()


def take(
    page: Page, url: str, path: Path, width: int, meanwhile: Callable[[], None] | None = None
) -> None:
    """Open a page, wait until it shows its scan, let something happen, and write it."""
    page.resize(width, 900)
    page.open(url)
    wait_for(lambda: page.run("return doc.get_model_by_name('spectra').children.length"), "panels")
    if meanwhile is not None:
        meanwhile()
    page.settle(3.0)
    page.shot(path, width, 900)
    with Image.open(path) as image:  # 256 colours are enough, for a third of the bytes
        small = image.convert("RGB").quantize(256, dither=Image.Dither.NONE)
    small.save(path, optimize=True)
    print(path, page.width(), page.faults())  # noqa: T201 - as above


if __name__ == "__main__":
    main()
