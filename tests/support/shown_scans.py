"""Scans for the dashboard to show: of each kind, and as far as a picture wants them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np

import usidstream
from usidstream import Dimension, MainLayout, PositionTable, ScanLayout
from usidstream.feeds import Feed, preset

STACK_IMAGES_COUNT = 32
"""So many images of the stack are sent, of 64."""


def send_part(scan: Any, feed: Feed, fraction: float) -> None:
    """Send the first part of a feed's positions, all channels, a few lines at a time."""
    layout = feed.layout
    n_rows = int(fraction * layout.n_positions)
    step = max(1, min(layout.position_shape[0], 256))
    for start in range(0, n_rows, step):
        rows = np.arange(start, min(start + step, n_rows))
        for main in layout.mains:
            scan.write_block(start, feed.values(main.name, rows), main=main.name)


def send_image(scan: Any, feed: Feed, image: int, fraction: float = 1.0) -> None:
    """Send the first part of an image of a stack."""
    rows = np.arange(int(fraction * feed.layout.n_positions))
    scan.write_block(0, feed.values("Image_Stack", rows, slice(image, image + 1)), col=image)


def spiral_layout(n_positions: int = 3000) -> ScanLayout:
    """Return a spiral that is denser in the middle, with one channel of short spectra."""
    turn = np.linspace(0, 1, n_positions)
    angle = 2 * np.pi * 30 * turn
    places = 2.5 * np.stack([turn * np.cos(angle), turn * np.sin(angle)], axis=1)
    return ScanLayout(
        positions=PositionTable(["X", "Y"], ["um", "um"], places),
        mains=[
            MainLayout(
                "Loss", "Intensity", "counts", "float32",
                [Dimension("Energy", "eV", np.linspace(270, 330, 128))],
            )
        ],
    )  # fmt: skip


def spiral_values(layout: ScanLayout, rows: Any) -> Any:
    """Return an edge whose height is a pattern of rings and lobes."""
    places = np.asarray(layout.positions.values)[rows]
    radius, angle = np.hypot(*places.T), np.arctan2(places[:, 1], places[:, 0])
    height = 60 + 40 * np.sin(4 * radius) * np.cos(3 * angle) + 8 * places[:, 0]
    energy = np.asarray(layout.mains[0].spectroscopic[0].values)
    edge = 1 / (1 + np.exp(-(energy - 284) / 1.2)) * np.exp(-(energy - 284) / 45)
    peak = 0.8 * np.exp(-(((energy - 291) / 2.2) ** 2))
    noise = np.random.default_rng(5).normal(0, 1.2, (len(places), energy.size))
    return (height[:, None] * (edge + peak) + 12 + noise).astype("f4")


@contextmanager
def all_kinds(endpoint: str) -> Iterator[dict[str, Any]]:
    """Keep a scan of each kind open, partly sent; yield them by name."""
    parts = {"afm": 0.68, "be": 0.55, "4dstem": 0.45, "raman_line": 0.7}
    with ExitStack() as stack:
        client = stack.enter_context(usidstream.connect(endpoint))
        scans: dict[str, Any] = {}
        for name, fraction in parts.items():
            feed = preset("raman", size=(96, 1)) if name == "raman_line" else preset(name)
            scans[name] = client.open_scan(feed.layout, file=name)
            send_part(scans[name], feed, fraction)
        layout = spiral_layout()
        scans["spiral"] = client.open_scan(layout, file="spiral")
        for start in range(0, 2200, 200):
            block = spiral_values(layout, np.arange(start, start + 200))
            scans["spiral"].write_block(start, block)
        movie = preset("timeseries")
        scans["timeseries"] = client.open_scan(movie.layout, file="timeseries")
        for image in range(STACK_IMAGES_COUNT):
            send_image(scans["timeseries"], movie, image)
        for scan in scans.values():
            scan.wait_durable(timeout_s=60)
        yield scans
        for scan in scans.values():
            scan.abort()
