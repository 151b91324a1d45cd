"""A headless Chromium that looks at the dashboard, and the dashboard's process."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from support.daemon import SCRIPTS, STOP_TIMEOUT_S, wait_for

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
WHY_NOT = (
    ""
    if CHROMIUM and DRIVER
    else "needs Debian's packages chromium and chromium-driver: .ci/run installs them"
)
FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync --hide-scrollbars"
)

PR_CAPBSET_DROP, CAP_SYS_NICE = 24, 23  # linux/prctl.h, linux/capability.h


class Dashboard:
    """``usidstreamd dashboard`` in a process of its own."""

    def __init__(self, endpoint: str, *options: object) -> None:
        command = [SCRIPTS / "usidstreamd", "dashboard", "--to", endpoint, "--port", "0"]
        self._process = subprocess.Popen(
            [*map(str, command), *map(str, options)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.log = ""
        self._drain = threading.Thread(target=self._collect_log)
        self._drain.start()
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line.startswith("usidstreamd dashboard ready http://"):
            self.stop()
            raise AssertionError(f"the dashboard did not start: {line}{self.log}")
        self.url = line.split()[-1]

    def __enter__(self) -> Dashboard:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        return self._process.pid

    def stop(self) -> int:
        self._process.terminate()
        try:
            code = self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()  # a test that fails leaves no process behind
            self._process.wait(STOP_TIMEOUT_S)
            raise
        self._drain.join(STOP_TIMEOUT_S)
        assert self._process.stdout is not None
        self._process.stdout.close()
        return code

    def _collect_log(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as lines:
            for line in lines:
                self.log += line


class Page:
    """A page in the browser, asked through Bokeh's own models."""

    def __init__(self, driver: Any) -> None:
        self._driver = driver

    def open(self, url: str, timeout_s: float = 30.0) -> None:
        self._driver.get(url)
        wait_for(self.is_ready, "the page", timeout_s)

    def leave(self) -> None:
        """Look at nothing."""
        self._driver.get("about:blank")

    @property
    def driver_pid(self) -> int:
        """The process whose descendants are all of the browser."""
        return int(self._driver.service.process.pid)

    def resize(self, width: int, height: int) -> None:
        sizes = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self._driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", sizes)

    def run(self, code: str, *arguments: object) -> Any:
        """Run JavaScript with ``doc`` bound to Bokeh's document."""
        return self._driver.execute_script(
            f"const doc = window.Bokeh && Bokeh.documents[0]; {code}", *arguments
        )

    def is_ready(self) -> bool:
        return bool(self.run("return !!doc && doc.is_idle"))

    def text(self) -> str:
        """Return what stands on the page, that in shadow roots included."""
        return str(
            self.run(
                "const all = (n) => n.nodeType === 3 ? n.data : "
                "n.nodeName === 'STYLE' || n.nodeName === 'SCRIPT' ? '' : "
                "[...(n.shadowRoot ? n.shadowRoot.childNodes : []), ...n.childNodes]"
                ".map(all).join(' ');"
                "return all(document.body)"
            )
        )

    def choose(self, name: str, value: object) -> None:
        self.run("doc.get_model_by_name(arguments[0]).value = arguments[1]", name, value)

    def value(self, name: str) -> Any:
        return self.run("return doc.get_model_by_name(arguments[0]).value", name)

    def titles(self, name: str = "maps") -> list[str]:
        """Return the titles of the figures in a column."""
        found = self.run(
            "return doc.get_model_by_name(arguments[0]).children"
            ".map((plot) => plot.title.text.text ?? plot.title.text)",
            name,
        )
        return list(found)

    def image(self, number: int = 0, name: str = "maps") -> np.ndarray[Any, Any] | None:
        """Return the values of a map as the browser has them."""
        found = self.run(
            "const plot = doc.get_model_by_name(arguments[1]).children[arguments[0]];"
            "if (!plot) return null;"
            "const glyph = plot.renderers.find((r) => r.data_source?.data?.image);"
            "if (!glyph) return null;"
            "const image = glyph.data_source.data.image[0];"
            "return [image.shape, Array.from(image, (v) => Number.isNaN(v) ? null : v)]",
            number,
            name,
        )
        if found is None:
            return None
        shape, values = found
        return np.array(values, dtype=np.float64).reshape(shape)

    def line(self, number: int = 0) -> np.ndarray[Any, Any]:
        """Return the values of a line as the browser has them."""
        found = self.run(
            "const plot = doc.get_model_by_name('maps').children[arguments[0]];"
            "const column = plot?.renderers[0].data_source.data.value ?? [];"
            "return Array.from(column, (v) => Number.isNaN(v) ? null : v)",
            number,
        )
        return np.array(found, dtype=np.float64)

    def limits(self, number: int = 0) -> tuple[float, float]:
        """Return the values at the ends of a map's colours."""
        low, high = self.run(
            "const plot = doc.get_model_by_name('maps').children[arguments[0]];"
            "const bar = plot.right.find((m) => m.color_mapper);"
            "return [bar.color_mapper.low, bar.color_mapper.high]",
            number,
        )
        return float(low), float(high)

    def curve(self, name: str) -> np.ndarray[Any, Any]:
        """Return the ``newest`` or ``selected`` curve of the spectrum."""
        found = self.run(
            "const plot = doc.get_model_by_name('spectra').children[0];"
            "if (!plot) return [];"
            "const legend = plot.above.concat(plot.center).find((m) => m.items);"
            "const item = legend.items.find("
            "(i) => (i.label.value ?? i.label) === arguments[0]);"
            "return Array.from(item.renderers[0].data_source.data.y)",
            name,
        )
        return np.array(found, dtype=np.float64)

    def pixels(self, number: int = 0) -> np.ndarray[Any, Any]:
        """Return what the browser has drawn of a map, (height, width, 4)."""
        drawn: list[Any] = []
        wait_for(lambda: self._read_pixels(number, drawn), "the map to be drawn")
        height, width, values = drawn[-1]
        return np.array(values, dtype=np.uint8).reshape(height, width, 4)

    def _read_pixels(self, number: int, drawn: list[Any]) -> bool:
        """Read a map's pixels, in one go: a page puts other figures there at any time."""
        found = self.run(
            "const plot = doc.get_model_by_name('maps').children[arguments[0]];"
            "const view = plot && Bokeh.index.find_one_by_id(plot.id);"
            "if (!view) return null;"
            "const box = view.frame.bbox;"
            "const layer = view.canvas_view.primary;"
            "const ratio = layer.pixel_ratio ?? 1;"
            "const data = layer.ctx.getImageData(box.left * ratio, box.top * ratio,"
            " box.width * ratio, box.height * ratio);"
            "return [data.height, data.width, Array.from(data.data)]",
            number,
        )
        if found is not None:
            drawn.append(found)
        return found is not None

    def _frame(self, number: int, name: str = "maps") -> Any:
        return self.run(
            "const plot = doc.get_model_by_name(arguments[1]).children[arguments[0]];"
            "const view = Bokeh.index.find_one_by_id(plot.id);"
            "view.el.scrollIntoView({block: 'center'});"
            "const at = view.el.getBoundingClientRect(), box = view.frame.bbox;"
            "return {left: at.left + box.left, top: at.top + box.top,"
            " width: box.width, height: box.height}",
            number,
            name,
        )

    def click(self, x: float, y: float, number: int = 0, name: str = "maps") -> None:
        """Click into a figure; x and y are fractions of its frame, from the lower left."""
        frame = self._frame(number, name)
        place = {
            "x": frame["left"] + x * frame["width"],
            "y": frame["top"] + (1 - y) * frame["height"],
        }
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            event = {"type": kind, "button": "left", "clickCount": 1, **place}
            self._driver.execute_cdp_cmd("Input.dispatchMouseEvent", event)

    def click_card(self, words: str) -> None:
        """Click the card of a scan by what stands in it."""
        self.run(
            "const host = Bokeh.index.find_one(doc.get_model_by_name('cards'));"
            "[...host.shadow_el.querySelectorAll('a')].find("
            "(card) => card.textContent.includes(arguments[0])).click()",
            words,
        )

    def shot(self, path: Path, width: int, height: int) -> None:
        """Write a PNG of the whole page."""
        self.resize(width, height)
        self.settle()
        whole = self.run("return document.documentElement.scrollHeight")
        self.resize(width, max(height, whole))
        self.settle()
        self._driver.save_screenshot(str(path))

    def settle(self, quiet_s: float = 0.6, timeout_s: float = 15.0) -> None:
        """Wait until the page has been idle for a while."""
        deadline, since = time.monotonic() + timeout_s, time.monotonic()
        while time.monotonic() < deadline and time.monotonic() - since < quiet_s:
            if not self.is_ready():
                since = time.monotonic()
            time.sleep(0.05)

    def width(self) -> int:
        return int(self.run("return document.documentElement.scrollWidth"))

    def faults(self) -> list[str]:
        """Return what the console complained of since the last call.

        Advice of the browser's renderer is for `pixels`, which reads its canvas.
        """
        return [
            entry["message"]
            for entry in self._driver.get_log("browser")
            if entry["level"] in {"SEVERE", "WARNING"} and entry["source"] != "rendering"
        ]

    def requested(self) -> list[str]:
        """Return the addresses that were asked for since the last call."""
        found = []
        for entry in self._driver.get_log("performance"):
            told = json.loads(entry["message"])["message"]
            if told["method"] == "Network.requestWillBeSent":
                found.append(told["params"]["request"]["url"])
            elif told["method"] == "Network.webSocketCreated":
                found.append(told["params"]["url"])
        return found


def _give_way() -> None:
    """Become idle for good: Chromium that root runs would else prefer itself to everybody."""
    ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, CAP_SYS_NICE, 0, 0, 0)
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


@contextmanager
def chromium(
    width: int = 1400, height: int = 1040, *, keeps_log: bool = True, gives_way: bool = False
) -> Iterator[Page]:
    """Run a browser with a profile of its own; on Linux also one that runs when nobody else does.

    Without a log it is as a user's, and `Page.faults` and `Page.requested` know nothing.
    """
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = webdriver.ChromeOptions()
        for flag in [*FLAGS.split(), f"--user-data-dir={profile}"]:
            options.add_argument(flag)
        options.binary_location = str(CHROMIUM)
        if keeps_log:
            options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        service = Service(str(DRIVER), popen_kw={"preexec_fn": _give_way} if gives_way else {})
        driver = webdriver.Chrome(options=options, service=service)
        try:
            page = Page(driver)
            page.leave()
            if keeps_log:
                page.requested()  # what the empty page asked for
            page.resize(width, height)
            yield page
        finally:
            driver.quit()
