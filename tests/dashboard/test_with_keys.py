"""The dashboard of a daemon that admits known keys only: with such a key, and without."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from support.browser import WHY_NOT, Dashboard, Page, chromium
from support.daemon import Daemon, wait_for
from support.keys import Keys
from usidstream import Dimension, MainLayout, ScanLayout, connect

pytestmark = pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)

SIDE = 8
LAYOUT = ScanLayout(
    positions=[Dimension("X", "um", SIDE), Dimension("Y", "um", SIDE)],
    mains=[MainLayout("Height", "Height", "nm", "f4")],
)
VALUES = np.arange(SIDE * SIDE, dtype="f4").reshape(-1, 1)


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with chromium() as page:
        yield page


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys(tmp_path / "keys", "dashboard", "instrument")


@pytest.fixture
def daemon(tmp_path: Path, keys: Keys) -> Iterator[Daemon]:
    """A keyed daemon with a dashboard beside it."""
    options = {"server_key_file": keys.server_key_file, "client_keys_dir": keys.listed}
    own = {"dashboard": 0, "dashboard_key_file": keys.of("dashboard")["key_file"]}
    with Daemon(tmp_path / "data", flush_interval_s=0.2, **options, **own) as daemon:
        yield daemon


def test_the_one_beside_a_daemon_shows_its_scans(daemon: Daemon, keys: Keys, page: Page) -> None:
    with connect(daemon.endpoint, **keys.of("instrument")) as client:
        wait_for(lambda: client.status()["daemon"]["ports"]["dashboard"], "the dashboard")
        port = client.status()["daemon"]["ports"]["dashboard"]
        page.open(f"http://127.0.0.1:{port}/")
        wait_for(lambda: "live" in page.text(), "the connection")
        with client.open_scan(LAYOUT, file="keyed") as scan:
            wait_for(lambda: page.titles() == ["Height"], "the scan")
            scan.write_block(0, VALUES)
            wait_for(lambda: _is_shown(page), "what was measured")
    page.leave()


def _is_shown(page: Page) -> bool:
    image = page.image()
    return image is not None and np.array_equal(image, VALUES.reshape(SIDE, SIDE))


@pytest.mark.parametrize(
    ("whose", "words"),
    [
        ("nobody's", ["asks for keys", "--server-key and --key-file"]),
        ("a stranger's", ["does not admit this client's key", "list of keys"]),
    ],
)
def test_one_that_is_not_let_in_says_so_and_what_helps(
    daemon: Daemon, keys: Keys, page: Page, tmp_path: Path, whose: str, words: list[str]
) -> None:
    options: list[object] = []
    if whose == "a stranger's":
        stranger = Keys(tmp_path / "others", "stranger").of("stranger")["key_file"]
        options = ["--server-key", keys.of("dashboard")["server_key"], "--key-file", stranger]
    with Dashboard(daemon.endpoint, *options) as dashboard:
        page.open(dashboard.url)
        wait_for(lambda: all(word in page.text() for word in words), "why, and what to do")
        assert "not connected" in page.text()
        wait_for(lambda: "daemon_unreached" in dashboard.log, "the same in the log")
        page.leave()


def test_a_daemon_whose_dashboard_has_no_key_says_why_there_is_none(
    tmp_path: Path, keys: Keys
) -> None:
    options = {"server_key_file": keys.server_key_file, "client_keys_dir": keys.listed}
    with Daemon(tmp_path / "data", dashboard=0, **options) as daemon:
        wait_for(lambda: "dashboard_lacks_key" in daemon.log, "a word in the log")
