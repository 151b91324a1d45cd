"""What all browsers share: the telemetry subscription, the maps that are watched, and the files.

One SUB socket on the event loop of the page. A map is subscribed to, and filled from its file,
while any browser shows it, and kept for a while after; each browser then asks what is new to it.
PUB has no history: what came before the subscription, or was lost, is read from the file again and
again until nothing that is complete there is lacking here.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import zmq
import zmq.asyncio

from usidstream import wire
from usidstream.keys import ClientKeys

from ..logs import get_logger
from .files import Files, FileUnavailableError
from .locate import NotThereError, telemetry_endpoint
from .maps import MapModel
from .standing import ScanStanding, Standing
from .views import MainView

log = get_logger()

RECEIVE_TIMEOUT_S = 0.5
RELOCATE_INTERVAL_S = 1.0
MAX_QUEUED_MESSAGES_COUNT = 1000
MAX_MAPS_COUNT = 32
MAX_MAP_POSITIONS_COUNT = 16 << 20
KEEP_UNWATCHED_S = 60.0
LAYOUT_TIMEOUT_S = 1.5
FILL_INTERVAL_S = 1.0
FILL_STEP_BYTES = 8 << 20
LIST_INTERVAL_S = 5.0
FILE_PREFIX = "file:"

MapKey = tuple[str, int, str]


@dataclass
class Newest:
    """The row of a main that came last, as the telemetry told it."""

    row: int
    values: npt.NDArray[np.float32]
    steps: tuple[int, ...]
    """For each spectroscopic dimension, fastest first, every how-manyth element is there."""
    version: int = 0


@dataclass
class _Watched:
    model: MapModel
    watchers: int = 0
    left_s: float = 0.0


@dataclass
class Hub:
    """See the module.

    Parameters
    ----------
    endpoint
        The daemon's data port, ``tcp://host:port``.
    directory
        Where finished scans are, until the daemon tells; None to wait for it.
    keys
        For a daemon that asks for keys.
    """

    endpoint: str
    directory: Path | None = None
    keys: ClientKeys | None = None
    standing: Standing = field(default_factory=Standing)
    files: Files = field(default_factory=Files)
    finished: list[Path] = field(default_factory=list)
    trouble: dict[str, str] = field(default_factory=dict)
    """What cannot be read at present, by scan or file."""
    unreached: str = ""
    """Why the daemon cannot be asked where its telemetry is; empty while it can."""

    def __post_init__(self) -> None:
        self._context = zmq.asyncio.Context()
        self._socket: Any = None
        self._located = ""
        self._tasks: list[asyncio.Task[None]] = []
        self._maps: dict[MapKey, _Watched] = {}
        self._newest: dict[tuple[str, int], Newest] = {}
        self._topics: dict[str, int] = {}
        self._views: dict[str, list[MainView]] = {}
        self._asked_s: dict[str, float] = {}
        self._restarts = 0

    # -- life

    def start(self) -> None:
        """Begin to listen; call it on the event loop."""
        for work in (self._listen(), self._fill(), self._list()):
            self._tasks.append(asyncio.get_running_loop().create_task(work))

    def stop(self) -> None:
        """End all tasks and close sockets and files."""
        for task in self._tasks:
            task.cancel()
        self._context.destroy(linger=0)
        self.files.close()

    # -- what a browser asks for

    async def views(self, subject: str) -> list[MainView]:
        """Return what is needed to draw each main of a scan or a file.

        Raises
        ------
        FileUnavailableError
            Nobody has told the layout, and the file cannot be read or is none of the directory's.
        """
        known = self.standing.views.get(subject) or self._views.get(subject)
        if known is None:
            path = self.path(subject)
            if path is None and subject.startswith(FILE_PREFIX):
                raise FileUnavailableError("no file of the data directory; choose one of the list")
            if path is None or self._is_awaited(subject):
                raise FileUnavailableError("waiting for the scan's layout")
            known = self._views[subject] = await self.files.views(path)
            while len(self._views) > MAX_MAPS_COUNT:
                del self._views[next(iter(self._views))]
        return known

    def _is_awaited(self, subject: str) -> bool:
        """Tell whether the layout of a scan may still come; a finished one's stands in the file."""
        asked_s = self._asked_s.get(subject)
        return asked_s is not None and time.monotonic() - asked_s < LAYOUT_TIMEOUT_S

    def path(self, subject: str) -> Path | None:
        """Return the file of a scan, or of ``file:NAME``; only names within the data directory."""
        name = subject.removeprefix(FILE_PREFIX)
        if name != subject:
            is_plain = Path(name).name == name and name.endswith(".h5")
            return self.directory / name if is_plain and self.directory else None
        scan = self.standing.scans.get(subject)
        return Path(scan.file) if scan and scan.file else None

    def scan(self, subject: str) -> ScanStanding | None:
        """Return how a scan stands, if the telemetry has told of it."""
        return self.standing.scans.get(subject)

    def watch_scan(self, subject: str) -> None:
        """Ask for a scan's layout."""
        if not subject.startswith(FILE_PREFIX):
            self._asked_s = {subject: time.monotonic()}
            self._subscribe(wire.layout_topic(subject))

    def leave_scan(self, subject: str) -> None:
        """Undo `watch_scan`."""
        self.trouble.pop(subject, None)
        if not subject.startswith(FILE_PREFIX):
            self._unsubscribe(wire.layout_topic(subject))

    def watch(self, subject: str, number: int, view: MainView, reduction: str) -> MapModel:
        """Return the map of a main and keep it fresh until `leave`.

        Raises
        ------
        FileUnavailableError
            The main has too many positions for a live map.
        """
        if view.n_positions > MAX_MAP_POSITIONS_COUNT:
            raise FileUnavailableError(
                f"{view.n_positions:,} positions are too many for a live map; "
                "usidstreamd view draws them"
            )
        key = (subject, number, reduction)
        watched = self._maps.get(key)
        if watched is None:
            watched = self._maps[key] = _Watched(MapModel(view, reduction))
        watched.watchers += 1
        self._forget_some()
        for topic in self._topics_of(key):
            self._subscribe(topic)
        return watched.model

    def leave(self, subject: str, number: int, reduction: str) -> None:
        """Undo `watch`; the map stays for a while, as browsers come back."""
        key = (subject, number, reduction)
        watched = self._maps.get(key)
        if watched is not None:
            watched.watchers -= 1
            watched.left_s = time.monotonic()
        for topic in self._topics_of(key):
            self._unsubscribe(topic)

    def newest(self, subject: str, number: int) -> Newest | None:
        """Return the row of a main that came last, if one did since somebody watched."""
        return self._newest.get((subject, number))

    async def find_newest(self, subject: str, number: int, row: int) -> None:
        """Take a row of the file for the newest, until the telemetry tells of one.

        Raises
        ------
        FileUnavailableError
            The file cannot be read now.
        """
        path = self.path(subject)
        if path is None or (subject, number) in self._newest:
            return
        found = await self.files.spectrum(path, number, row)
        if found.is_whole:
            lengths = [len(axis.values) for axis in (await self.views(subject))[number].spectrum]
            newest = Newest(row, found.values.reshape(lengths[::-1]), (1,) * len(lengths))
            self._newest.setdefault((subject, number), newest)

    def _topics_of(self, key: MapKey) -> tuple[str, ...]:
        subject, number, reduction = key
        if subject.startswith(FILE_PREFIX):
            return ()
        return tuple(
            wire.preview_topic(subject, number, word) for word in (reduction, "newest")
        )  # fmt: skip

    def _forget_some(self) -> None:
        idle = sorted(
            (watched.left_s, key) for key, watched in self._maps.items() if not watched.watchers
        )
        now = time.monotonic()
        for left_s, key in idle:
            if len(self._maps) > MAX_MAPS_COUNT or now - left_s > KEEP_UNWATCHED_S:
                del self._maps[key]

    # -- the subscription

    def _subscribe(self, topic: str) -> None:
        self._topics[topic] = self._topics.get(topic, 0) + 1
        if self._topics[topic] == 1 and self._socket is not None:
            self._socket.subscribe(topic)

    def _unsubscribe(self, topic: str) -> None:
        self._topics[topic] = self._topics.get(topic, 1) - 1
        if not self._topics[topic]:
            del self._topics[topic]
            if self._socket is not None:
                self._socket.unsubscribe(topic)

    async def _listen(self) -> None:
        while True:
            try:
                await self._locate()
                await self._receive()
            except zmq.ZMQError as error:
                log.warning("telemetry_unheard", error=str(error))
                await asyncio.sleep(RELOCATE_INTERVAL_S)

    async def _locate(self) -> None:
        """Find the telemetry, and connect unless we are connected there already."""
        try:
            found = await telemetry_endpoint(self.endpoint, self.keys)
        except NotThereError as error:
            if self.unreached != str(error):
                self.unreached = str(error)
                log.warning("daemon_unreached", problem=self.unreached)
            await asyncio.sleep(RELOCATE_INTERVAL_S)
            return
        self.unreached = ""
        if found == self._located:
            return
        if self._socket is not None:
            self._socket.close(linger=0)
        self._socket = self._context.socket(zmq.SUB)
        self._socket.setsockopt(zmq.RCVHWM, MAX_QUEUED_MESSAGES_COUNT)
        if self.keys is not None:
            self.keys.secure(self._socket)
        self._socket.connect(found)
        self._located = found
        for topic in (wire.DAEMON_TOPIC, wire.SCAN_TOPICS, *self._topics):
            self._socket.subscribe(topic)

    async def _receive(self) -> None:
        """Take messages in until the daemon falls silent."""
        if self._socket is None:
            return
        began = time.monotonic()
        while True:
            if await self._socket.poll(RECEIVE_TIMEOUT_S * 1000):
                self._take(await self._socket.recv_multipart())
            heard = max(began, self.standing.heard_s or began)
            if time.monotonic() - heard > wire.SILENCE_TIMEOUT_S:
                return

    def _take(self, frames: list[bytes]) -> None:
        try:
            _, message = wire.decode_telemetry(frames)
            if isinstance(message, wire.Increment):
                self._take_increment(message)
            elif isinstance(message, wire.Newest):
                self._take_newest(message)
            else:
                self.standing.take(message, time.monotonic())
        except wire.WireError:  # of a later version: pass over it
            return
        if self._restarts != self.standing.restarts:
            self._restarts = self.standing.restarts
            for watched in self._maps.values():
                watched.model.forget_progress()

    def _take_increment(self, message: wire.Increment) -> None:
        watched = self._maps.get((message.scan, message.main, message.reduction))
        if watched is not None:
            rows, values = wire.unpack_increment(message)
            watched.model.apply(rows, values, message.cols, message.n_cols, message.column)

    def _take_newest(self, message: wire.Newest) -> None:
        key = (message.scan, message.main)
        before = self._newest.get(key)
        values = wire.unpack_newest(message)
        version = before.version + 1 if before else 1
        self._newest[key] = Newest(message.row, values, tuple(message.steps), version)
        while len(self._newest) > MAX_MAPS_COUNT:
            del self._newest[next(iter(self._newest))]

    # -- files

    async def _fill(self) -> None:
        """Read from files what the telemetry has not brought, a few MiB at a time."""
        while True:
            began = time.monotonic()
            worked = False
            for key, watched in list(self._maps.items()):
                if watched.watchers:
                    worked |= await self._fill_one(key, watched)
            self._forget_some()
            # work as long as there is something to read, but at most half of the time; a pass that
            # took long on a busy machine is no reason to leave the next one undone for as long
            spent = min(max(time.monotonic() - began, 0.01), FILL_INTERVAL_S)
            await asyncio.sleep(spent if worked else FILL_INTERVAL_S)

    async def _fill_one(self, key: MapKey, watched: _Watched) -> bool:
        """Read some of what a map lacks; tell whether there was anything."""
        subject, number, reduction = key
        path, model = self.path(subject), watched.model
        if path is None:
            return False
        n_cols, followed = model.view.n_columns, model.column

        def choose(
            held: npt.NDArray[np.bool_], row_nbytes: int, column: int | None
        ) -> npt.NDArray[Any]:
            most = max(1, FILL_STEP_BYTES // max(row_nbytes, 1))
            return model.lacking(held, n_cols, most, column)

        try:
            found = await self.files.reduced(path, number, reduction, choose, followed)
        except FileUnavailableError as error:
            self.trouble[subject] = f"{path.name}: {error}"
            return False
        self.trouble.pop(subject, None)
        is_overtaken = model.column != followed  # the telemetry told of another meanwhile
        if len(found.rows) and not is_overtaken:
            model.fill(found.rows, found.values, n_cols, found.column)
        return bool(len(found.rows))

    async def _list(self) -> None:
        """Keep the list of files fresh."""
        while True:
            beat = self.standing.heartbeat
            if beat is not None and Path(beat.data_dir).is_dir():
                self.directory = Path(beat.data_dir)
            if self.directory is not None:
                try:
                    self.finished = self._not_open(await self.files.listed(self.directory))
                except FileUnavailableError as error:
                    self.trouble["files"] = f"files cannot be listed: {error}"
                else:
                    self.trouble.pop("files", None)
            await asyncio.sleep(LIST_INTERVAL_S if self.finished else RELOCATE_INTERVAL_S)

    def _not_open(self, paths: Iterable[Path]) -> list[Path]:
        is_open = {scan.file for scan in self.standing.scans.values() if not scan.is_over}
        return [path for path in paths if str(path) not in is_open]
