"""The dashboard in a real browser: it fills, follows clicks, and outlives its daemon."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest

from support.browser import WHY_NOT, Dashboard, Page, chromium
from support.daemon import Daemon, wait_for
from usidstream import Dimension, MainLayout, ScanLayout, connect
from usidstreamd.dashboard.colours import palette

pytestmark = pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)

WIDTH, HEIGHT, N_COLS = 16, 12, 40
N = WIDTH * HEIGHT
EVIL = "<img src=x onerror=document.title='evil'> $$x^2$$"


def make_layout() -> ScanLayout:
    bias = Dimension("Bias", "V", np.linspace(-2, 2, N_COLS))
    return ScanLayout(
        positions=[
            Dimension("X", "um", np.linspace(0, 3, WIDTH)),
            Dimension("Y", "nm", np.linspace(0, 550, HEIGHT)),
        ],
        mains=[
            MainLayout("Current", "Current", "nA", "f4", [bias], chunks=(WIDTH, N_COLS)),
            MainLayout("Phase", EVIL, "deg", "f4", [bias], chunks=(WIDTH, N_COLS)),
        ],
    )


LAYOUT = make_layout()
RNG = np.random.default_rng(4)
DATA = {
    main.name: (RNG.normal(size=(N, N_COLS)) * 30 + np.arange(N)[:, None]).astype("f4")
    for main in LAYOUT.mains
}


LEFT_EARLY = "assert self._session is not None"
"""Where Bokeh (3.9, server/connection.py) falls over a page that is left before it stands."""


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    folder = tmp_path_factory.mktemp("daemon")
    with Daemon(folder / "data", flush_interval_s=0.2) as daemon:
        yield daemon


@pytest.fixture(scope="module")
def dashboard(daemon: Daemon) -> Iterator[Dashboard]:
    with Dashboard(daemon.endpoint) as dashboard:
        yield dashboard
    assert "ERROR" not in dashboard.log, dashboard.log
    assert dashboard.log.count("Traceback") == dashboard.log.count(LEFT_EARLY), dashboard.log


@pytest.fixture(scope="module")
def page(dashboard: Dashboard) -> Iterator[Page]:
    with chromium() as page:
        page.open(dashboard.url)
        yield page


@pytest.fixture
def scan(daemon: Daemon) -> Iterator[Any]:
    with connect(daemon.endpoint, write_timeout_s=30) as client:
        scan = client.open_scan(LAYOUT, file="browsed")
        yield scan
        scan.abort()


def send(scan: Any, lines: range) -> None:
    for line in lines:
        rows = slice(line * WIDTH, (line + 1) * WIDTH)
        for name, data in DATA.items():
            scan.write_block(line * WIDTH, data[rows], main=name)
    scan.wait_durable(timeout_s=30)


def shows(page: Page, number: int, wanted: np.ndarray[Any, Any], lines: int) -> bool:
    """Tell whether a map holds the first lines as they should be, and nothing else."""
    image = page.image(number)
    if image is None or image.shape != (HEIGHT, WIDTH):
        return False
    known = wanted.reshape(HEIGHT, WIDTH)[:lines]
    is_equal = np.allclose(image[:lines], known, rtol=1e-4, atol=1e-3)
    return bool(is_equal and np.isnan(image[lines:]).all())


def middle_of(drawn: np.ndarray[Any, Any], line: int, pixel: int) -> np.ndarray[Any, Any]:
    """Return the colour in the middle of a pixel of the map; lines count from below."""
    height, width = drawn.shape[:2]
    at = int((1 - (line + 0.5) / HEIGHT) * height), int((pixel + 0.5) / WIDTH * width)
    return np.asarray(drawn[at], np.int64)


def is_empty(drawn: np.ndarray[Any, Any], line: int, pixel: int) -> bool:
    """Tell whether a pixel has no colour of the palette, but the greys of what is not measured."""
    colour = middle_of(drawn, line, pixel)
    return bool(np.ptp(colour[:3]) < 24 and colour[:3].min() > 180)


def choose_scan(page: Page, scan: Any) -> None:
    wait_for(lambda: scan.scan_id[:8] and scan.scan_id in known_scans(page), "the scan's card")
    page.choose("chosen", scan.scan_id)
    wait_for(lambda: len(page.titles()) == 2, "both channels")


@contextmanager
def elsewhere(page: Page) -> Iterator[None]:
    """Leave another server's page before that server ends; what was asked of it is no fault."""
    try:
        yield
    finally:
        page.leave()
        page.requested()


def known_scans(page: Page) -> str:
    return str(page.run("return doc.get_model_by_name('cards').text"))


def test_a_scan_is_watched_from_its_opening_to_its_end(
    daemon: Daemon, page: Page, scan: Any
) -> None:
    means = {name: data.mean(axis=1) for name, data in DATA.items()}
    wait_for(lambda: "live" in page.text(), "the connection")
    choose_scan(page, scan)
    assert page.titles() == ["Current, mean", "Phase, mean"]
    wait_for(page.is_ready, "the drawing")
    assert all(is_empty(page.pixels(), line, 3) for line in range(HEIGHT))

    # the map fills, and what is drawn is what was measured
    send(scan, range(5))
    for number, name in enumerate(DATA):
        wait_for(lambda n=number, m=means[name]: shows(page, n, m, 5), f"lines of {name}")
    page.settle()
    drawn, (low, high) = page.pixels(), page.limits()
    colours = [bytes.fromhex(colour[1:]) for colour in palette("viridis")]
    for line, pixel in ((0, 0), (0, WIDTH - 1), (2, 7), (4, 0), (4, 11)):
        value = means["Current"][line * WIDTH + pixel]
        index = int(np.clip((value - low) / (high - low) * 256, 0, 255))
        seen = middle_of(drawn, line, pixel)[:3]
        near = [list(colours[i]) for i in range(max(index - 1, 0), min(index + 2, 256))]
        assert min(np.abs(seen - np.array(near)).max(axis=1)) <= 2, (line, pixel)
    assert all(is_empty(drawn, line, pixel) for line in range(5, HEIGHT) for pixel in range(WIDTH))

    # another reduction, a column, and one channel alone
    page.choose("value", "max")
    wait_for(lambda: shows(page, 0, DATA["Current"].max(axis=1), 5), "the maximum")
    page.choose("channels", "1")
    wait_for(lambda: page.titles() == ["Phase, maximum"], "the channel")
    wait_for(lambda: shows(page, 0, DATA["Phase"].max(axis=1), 5), "its maximum")
    page.choose("channels", "0+")
    page.choose("value", "mean")
    wait_for(lambda: shows(page, 1, means["Phase"], 5), "the mean again")

    # a click brings the spectrum of its pixel, from the file
    page.settle()
    page.click((3 + 0.5) / WIDTH, (2 + 0.5) / HEIGHT)
    row = 2 * WIDTH + 3
    wait_for(lambda: len(page.curve("selected")) == N_COLS, "the spectrum")
    np.testing.assert_allclose(page.curve("selected"), DATA["Current"][row], rtol=1e-5)
    wait_for(lambda: f"row {row}" in page.text(), "the place in words")
    assert f"row={row}" in page.run("return location.search")

    # a click in the spectrum shows the map there
    page.settle()
    page.click(0.5, 0.5, name="spectra")
    wait_for(lambda: page.value("value") == "at a column", "the column")
    column = int(page.value("column"))
    assert abs(column - N_COLS / 2) <= 2
    wait_for(lambda: shows(page, 0, DATA["Current"][:, column], 5), "the map at a column")
    page.choose("value", "mean")
    wait_for(lambda: shows(page, 0, means["Current"], 5), "the mean")

    # the daemon goes and comes back; the page says so, and goes on
    daemon.stop()
    wait_for(lambda: "not connected" in page.text(), "the page to say so")
    assert page.image(0) is not None, "what was known stays"
    daemon.start()
    wait_for(lambda: "not connected" not in page.text(), "the connection")
    send(scan, range(5, 9))
    wait_for(lambda: shows(page, 0, means["Current"], 9), "lines after the restart")

    # the end is told
    send(scan, range(9, HEIGHT))
    assert scan.finish().status == "complete"
    wait_for(lambda: ">complete<" in known_scans(page), "the end")
    wait_for(lambda: shows(page, 0, means["Current"], HEIGHT), "the whole map")


def test_of_a_stack_the_newest_image_is_followed(
    daemon: Daemon, dashboard: Dashboard, page: Page
) -> None:
    time = Dimension("Time", "s", np.arange(N_COLS) / 4)
    movie = MainLayout("Movie", "Counts", "", "f4", [time], order="columns", chunks=(N, 1))
    images = DATA["Current"]
    with connect(daemon.endpoint, write_timeout_s=30) as client:
        scan = client.open_scan(ScanLayout(positions=LAYOUT.positions, mains=[movie]), file="movie")
        page.open(f"{dashboard.url}?scan={scan.scan_id}")
        wait_for(lambda: page.titles() == ["Movie, newest image"], "the stack")
        assert page.value("value") == "latest"
        for image, lines in ((0, HEIGHT), (1, HEIGHT), (2, 5)):
            end = lines * WIDTH
            scan.write_block(0, images[:end, image : image + 1], col=image)
            wait_for(lambda i=image, n=lines: shows(page, 0, images[:, i], n), f"image {image}")
        wait_for(lambda: page.titles() == ["Movie at Time 0.5 s"], "which one it is")

        # whoever comes while nothing more comes has it from the file
        scan.write_block(end, images[end:, 2:3], col=2)
        scan.wait_durable(timeout_s=30)
        page.choose("value", "max")
        wait_for(lambda: page.titles() == ["Movie, maximum"], "another value")
        with Dashboard(daemon.endpoint) as another, elsewhere(page):
            page.open(f"{another.url}?scan={scan.scan_id}")
            wait_for(lambda: shows(page, 0, images[:, 2], HEIGHT), "the image from the file")
            wait_for(lambda: page.titles() == ["Movie at Time 0.5 s"], "which one it is, too")
            page.choose("value", "at a column")
            wait_for(lambda: shows(page, 0, images[:, 0], HEIGHT), "an image from the file")
        page.open(f"{dashboard.url}?scan={scan.scan_id}&row={end}")
        wait_for(lambda: curve_is(page, images[end, :3]), "the pixel in all images so far")
        scan.write_block(0, images[:, 3:], col=3)
        assert scan.finish().status == "complete"
        page.open(f"{dashboard.url}?scan={scan.scan_id}")
        wait_for(lambda: shows(page, 0, images[:, -1], HEIGHT), "the last image")

    # a file that nobody tells of is a stack, too
    page.open(f"{dashboard.url}?scan=file:{Path(scan.file).name}&row=7")
    wait_for(lambda: page.titles() == [f"Movie at Time {time.values[-1]:.4g} s"], "its last image")
    wait_for(lambda: curve_is(page, images[7]), "the pixel in all images")
    assert page.value("value") == "latest"


def curve_is(page: Page, wanted: np.ndarray[Any, Any]) -> bool:
    """Tell whether the selected curve has these values, and gaps behind them."""
    drawn = page.curve("selected").astype(float)
    rest = drawn[len(wanted) :]
    return (
        len(drawn) == N_COLS and np.isnan(rest).all() and np.allclose(drawn[: len(wanted)], wanted)
    )


def test_a_scan_that_is_over_at_once_is_drawn_whole_soon_after(
    daemon: Daemon, page: Page, dashboard: Dashboard
) -> None:
    """More than previews have time for: the rest is read from the file, and nobody need ask."""
    n = 1 << 19
    names = ("A", "B", "C", "D")
    layout = ScanLayout(
        positions=[Dimension("Position", "", n)],
        mains=[MainLayout(name, "Height", "nm", "f4") for name in names],
    )
    heights = RNG.normal(size=(n, 1)).astype("f4")
    with connect(daemon.endpoint, write_timeout_s=30) as client:
        scan = client.open_scan(layout, file="fast")
        page.open(f"{dashboard.url}?scan={scan.scan_id}")
        wait_for(lambda: page.titles() == list(names), "its channels")
        for start in range(0, n, 1 << 14):
            for name in names:
                scan.write_block(start, heights[start : start + (1 << 14)], main=name)
        assert scan.finish().status == "complete"
        wait_for(lambda: all(spans(page, i, heights) for i in range(4)), "all lines")
    page.leave()


def spans(page: Page, number: int, wanted: np.ndarray[Any, Any]) -> bool:
    """Tell whether a line has a value everywhere, and the least and the greatest of those sent."""
    drawn = page.line(number)
    ends = wanted.min(), wanted.max()
    return len(drawn) > 1000 and (drawn.min(), drawn.max()) == pytest.approx(ends)


def test_a_page_that_is_loaded_again_shows_the_same(
    dashboard: Dashboard, page: Page, scan: Any
) -> None:
    send(scan, range(3))
    page.open(f"{dashboard.url}?scan={scan.scan_id}&main=1&value=at:7&row=20&colours=magma")
    wait_for(lambda: shows(page, 0, DATA["Phase"][:, 7], 3), "the map, from file and telemetry")
    wait_for(lambda: len(page.curve("selected")) == N_COLS, "the spectrum")
    np.testing.assert_allclose(page.curve("selected"), DATA["Phase"][20], rtol=1e-5)
    assert page.value("colours") == "magma"
    page.open(f"{dashboard.url}?scan=nonsense&row=-5&value=at:x&colours=<b>")
    wait_for(page.titles, "the newest scan instead")


def test_a_finished_file_can_be_opened(dashboard: Dashboard, page: Page, scan: Any) -> None:
    send(scan, range(HEIGHT))
    file = Path(scan.finish().file).name
    page.open(dashboard.url)
    offered = "return doc.get_model_by_name('finished').options.map((o) => o[0])"
    wait_for(lambda: f"file:{file}" in page.run(offered), "the file in the list")
    page.choose("finished", f"file:{file}")
    wait_for(lambda: shows(page, 0, DATA["Current"].mean(axis=1), HEIGHT), "the map of the file")
    page.open(f"{dashboard.url}?scan=file:../{file}")
    wait_for(lambda: "no file of the data directory" in page.text(), "the refusal")
    assert page.titles() == []


def test_a_phone_sees_everything_without_scrolling_sideways(page: Page, scan: Any) -> None:
    page.resize(400, 800)
    try:
        send(scan, range(2))
        choose_scan(page, scan)
        page.settle()
        assert page.width() <= 400
    finally:
        page.resize(1400, 1040)


def test_nothing_was_asked_of_another_machine_and_nothing_complained(
    dashboard: Dashboard, page: Page, scan: Any
) -> None:
    page.open(dashboard.url)
    choose_scan(page, scan)
    own = urlsplit(dashboard.url).netloc
    asked = [urlsplit(url) for url in page.requested()]
    assert {url.netloc for url in asked if url.scheme in {"http", "https", "ws", "wss"}} == {own}
    assert {url.scheme for url in asked} <= {"http", "ws", "data", "blob"}
    assert page.faults() == []
    assert page.run("return document.title") != "evil"
    assert page.run("return document.querySelectorAll('img').length") == 0
