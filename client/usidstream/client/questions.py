"""Status requests on their way, and the answers to them.

Pure but for the futures that callers wait on. An answer carries no number: it belongs to the oldest
request of its kind, so a request whose caller gave up keeps its place until its answer came.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future

from .. import wire
from ..delivery import to_exception
from ..errors import UsidstreamError

Answer = Future[wire.StatusReport]


class Questions:
    """The requests of one client; guarded by its owner's lock."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[wire.StatusRequest, Answer]] = deque()
        self._unsent: deque[wire.StatusRequest] = deque()

    def ask(self, request: wire.StatusRequest) -> Answer:
        """Take a request; its answer will be set on the future."""
        answer = Answer()
        self._waiting.append((request, answer))
        self._unsent.append(request)
        return answer

    def take(self) -> wire.StatusRequest | None:
        """Return the next request to send."""
        return self._unsent.popleft() if self._unsent else None

    def ask_again(self) -> None:
        """Send everything again that somebody still waits for: the connection is a new one."""
        self._waiting = deque(entry for entry in self._waiting if not entry[1].cancelled())
        self._unsent = deque(request for request, _ in self._waiting)

    def answer(self, report: wire.StatusReport) -> None:
        """Hand a report to who asked for it."""
        scan = str(report.scans[0].get("scan", "")) if report.scans else ""
        answer = self._find(scan, coverage=bool(report.coverage))
        if answer is not None and answer.set_running_or_notify_cancel():
            answer.set_result(report)

    def refuse(self, error: wire.Error) -> None:
        """Hand a refusal to who asked for it."""
        answer = self._find(error.scan, coverage=bool(error.scan))
        if answer is not None and answer.set_running_or_notify_cancel():
            answer.set_exception(to_exception(error))

    def end(self, reason: UsidstreamError) -> None:
        """Tell everybody who waits that no answer will come."""
        for _, answer in self._waiting:
            if answer.set_running_or_notify_cancel():
                answer.set_exception(reason)
        self._waiting.clear()
        self._unsent.clear()

    def _find(self, scan: str, *, coverage: bool) -> Answer | None:
        for entry in self._waiting:
            request, answer = entry
            if request.coverage == coverage and (not coverage or request.scan == scan):
                self._waiting.remove(entry)
                return answer
        return None
