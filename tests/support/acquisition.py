"""A client in a thread of the test's process, that writes a whole scan and ends it."""

from __future__ import annotations

import threading
import time

from support.rowscan import Rows, make_layout, values
from usidstream import ScanResult, connect

WRITE_TIMEOUT_S = 120.0
PAUSE_EVERY_ROWS = 64


class Acquisition:
    """Writes rows one at a time, ``pace_s`` for each on average; then finishes."""

    def __init__(self, endpoint: str, rows: Rows, pace_s: float) -> None:
        self._results: list[ScanResult] = []
        self.done = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(endpoint, rows, pace_s))
        self._thread.start()

    def _run(self, endpoint: str, rows: Rows, pace_s: float) -> None:
        try:
            with connect(endpoint, write_timeout_s=WRITE_TIMEOUT_S) as client:
                with client.open_scan(make_layout()) as scan:
                    for count, row in enumerate(rows.tolist()):
                        scan.write(row, values(row)[0])
                        if count % PAUSE_EVERY_ROWS == 0:
                            time.sleep(pace_s * PAUSE_EVERY_ROWS)
                    scan.wait_durable()
                    assert scan.retained_bytes == 0, "what is durable is not kept"
                self._results.append(scan.result)
        finally:
            self.done.set()

    def result(self) -> ScanResult:
        """Wait for the end; fail if the client met an error."""
        self._thread.join(2 * WRITE_TIMEOUT_S)
        assert self._results, "the client did not finish by itself"
        return self._results[0]
