"""What is measured, and in which order.

Contestants run in turn, round by round, so that a machine that slows down or a disk that fills up
meets all of them alike. What a run is, `contestants` knows; what the numbers mean, `figures`.
"""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import h5py
import numpy as np

from usidstream import __version__

from .. import codecs
from ..config import default_codec_threads
from . import contestants
from .contestants import CONTESTANTS, Measured
from .figures import BenchError, BenchOptionError, Run, bottleneck, median, median_run, summarise
from .limits import sync_summary
from .processes import working
from .reading import stored_bytes
from .targets import compare_with_targets
from .workloads import WORKLOADS, Workload

SCHEMA = 1
MIN_COMPARED_ROUNDS = 3
PACED_RATE_PER_S = 1000.0
PACED_STRETCH_S = 5.0
LATENCY_STRETCH_S = 4.0
MAX_LATENCY_REPEATS = 8
LONG_REPEATS = 10
DISK_BYTES = 256 << 20
SYNCS = 100
FREE_BYTES = 3 << 30
PACED_WORKLOAD = "spectra"
LATENCY_WORKLOAD = "spectra-blocks"
READ_WORKLOADS = ("spectra", "stem")

Progress: TypeAlias = Callable[[int, int], None]
Step: TypeAlias = Callable[[], None]


@dataclass(frozen=True)
class Options:
    """What a user asks for.

    Parameters
    ----------
    data_dir
        A directory on the disk to be measured.
    compare
        Whether references and limits are measured too.
    scale
        Of each workload's size.
    rounds
        How often each contestant runs.
    workloads
        Names of `WORKLOADS`; all of them if empty.

    Raises
    ------
    BenchOptionError
        An unknown workload.
    """

    data_dir: Path
    compare: bool = False
    scale: float = 1.0
    rounds: int = 1
    workloads: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        unknown = [name for name in self.workloads if name not in WORKLOADS]
        if unknown:
            raise BenchOptionError(
                f"'{unknown[0]}' is no workload", hint=f"They are: {', '.join(WORKLOADS)}."
            )


def run_bench(options: Options, progress: Progress) -> dict[str, Any]:
    """Measure, and return everything as plain values.

    Raises
    ------
    BenchError
        A process died or said nothing, or the disk has no room.
    """
    options.data_dir.mkdir(parents=True, exist_ok=True)
    needed = int(FREE_BYTES * max(options.scale, 0.01))
    if shutil.disk_usage(options.data_dir).free < needed:
        raise BenchError(
            f"{options.data_dir} has less than {needed >> 20} MiB free",
            code="no_space",
            hint="Choose another --data-dir, or a smaller --scale.",
        )
    with tempfile.TemporaryDirectory(prefix="usidstream-bench-", dir=options.data_dir) as name:
        bench = _Bench(options, Path(name))
        steps = list(bench.steps())
        for number, step in enumerate(steps):
            progress(number, len(steps))
            step()
        progress(len(steps), len(steps))
    return bench.report()


@dataclass
class _Bench:
    """One benchmark: its steps, and what they found."""

    options: Options
    directory: Path
    runs: dict[str, dict[str, list[Run]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(list))
    )
    memory: list[float] = field(default_factory=list)
    disk: list[float] = field(default_factory=list)
    syncs: list[float] = field(default_factory=list)
    extras: dict[str, Any] = field(default_factory=dict)
    reading: dict[str, dict[str, Any]] = field(default_factory=dict)
    data_bytes: dict[str, int] = field(default_factory=dict)
    reference_data_bytes: dict[str, int] = field(default_factory=dict)
    _n_runs: int = 0

    def __post_init__(self) -> None:
        self.cores = _usable_cores()
        self.codec_threads = default_codec_threads()
        self.works = [WORKLOADS[name] for name in self.options.workloads or WORKLOADS]

    # ------------------------------------------------------------ steps

    def steps(self) -> Iterator[Step]:
        """Yield what is to be done, one thing each."""
        for number in range(self.options.rounds):
            yield self._measure_memory
            yield self._measure_disk
            for work in self.works:
                names = self._contestants_of(work)
                shift = number % len(names)
                for name in names[shift:] + names[:shift]:
                    yield partial(self._measure, work, name)
        if WORKLOADS[PACED_WORKLOAD] in self.works:
            yield self._measure_paced
        if WORKLOADS[LATENCY_WORKLOAD] in self.works:
            yield partial(self._measure_latency, "half", 0.5)
            yield partial(self._measure_latency, "saturated", None)
        if self.options.compare:
            yield from self._comparing_steps()

    def _comparing_steps(self) -> Iterator[Step]:
        for work in self.works:
            yield partial(self._measure_reference_file, work)
            if work.name in READ_WORKLOADS:
                yield partial(self._measure_reading, work)
            if work.name == LATENCY_WORKLOAD:
                yield partial(self._measure_long, work)

    def _contestants_of(self, work: Workload) -> list[str]:
        names = ["usidstream"]
        if work.compares_codecs:
            names += ["commits-rare", "none"]
            with suppress(codecs.CodecUnavailable):
                codecs.choose("bitshuffle-lz4", None, np.dtype("f4"))
                names.append("bitshuffle-lz4")
        if self.options.compare:
            names += ["loop", "receive", "codec"] + (["blocks"] if work.compares_blocks else [])
        return names

    def _measure(self, work: Workload, name: str) -> None:
        runs = self.runs[work.name][name]
        if name == "codec":
            runs.append(contestants.run_codec(work, self.options.scale, self.codec_threads))
            return
        contestant = CONTESTANTS[name]
        if contestant.reference:
            stretch = {"stretch_units": work.loop_units} if name == "loop" else {}
            measured = contestants.run_reference(
                self.directory,
                self._fresh_name(),
                contestant.reference,
                **self._order(work),
                **stretch,
            )
        else:
            measured = self._run_daemon(work, contestant.config, compression=contestant.compression)
            if name == "usidstream":
                self.data_bytes[work.name] = stored_bytes(measured.file)
        runs.append(measured.run)
        measured.file.unlink(missing_ok=True)

    def _run_daemon(self, work: Workload, config: Any = None, **order: Any) -> Measured:
        return contestants.run_daemon(
            self.directory, self._fresh_name(), config or {}, **self._order(work), **order
        )

    def _order(self, work: Workload) -> dict[str, Any]:
        return {"workload": work.name, "scale": self.options.scale}

    def _fresh_name(self) -> str:
        self._n_runs += 1
        return f"run-{self._n_runs}"

    # ------------------------------------------------------------ the machine

    def _measure_memory(self) -> None:
        with working("memory") as worker:
            self.memory.append(worker.expect("done")["bytes_per_s"])

    def _measure_disk(self) -> None:
        nbytes = int(DISK_BYTES * min(1.0, self.options.scale))
        file = str(self.directory / self._fresh_name())
        with working("disk", file=file, nbytes=nbytes, syncs=SYNCS) as worker:
            told = worker.expect("done")
        self.disk.append(told["bytes_per_s"])
        self.syncs += told["syncs_s"]

    # ------------------------------------------------------------ extras

    def _measure_paced(self) -> None:
        work = WORKLOADS[PACED_WORKLOAD]
        measured = self._run_daemon(
            work,
            rate_per_s=PACED_RATE_PER_S,
            stretch_s=PACED_STRETCH_S * min(1.0, self.options.scale),
            with_latency=True,
        )
        measured.file.unlink()
        run = measured.run
        daemon_s = sum(measured.written_cpu_s.values()) if measured.written_cpu_s else None
        client_s = run.cpu_s["client"] + run.cpu_s["client io"]
        self.extras["paced"] = {
            "workload": work.name,
            "rate_per_s": run.units / run.write_seconds,
            "daemon_core_share": None if daemon_s is None else daemon_s / run.write_seconds,
            "machine_idle_share": None
            if daemon_s is None
            else 1 - (daemon_s + client_s) / (run.write_seconds * self.cores),
            "latency": measured.latency,
        }

    def _measure_latency(self, name: str, part: float | None) -> None:
        work = WORKLOADS[LATENCY_WORKLOAD]
        rate = median(run.rate for run in self.runs[work.name]["usidstream"])
        paced = {"rate_per_s": rate * part} if part and rate else {}
        units = work.units_at(self.options.scale)
        repeats = max(1, min(MAX_LATENCY_REPEATS, round(LATENCY_STRETCH_S * (rate or 1) / units)))
        measured = self._run_daemon(work, with_latency=True, repeats=repeats, **paced)
        measured.file.unlink()
        self.extras.setdefault("latency", {})[name] = {
            "rate_per_s": measured.run.units / measured.run.write_seconds,
            **(measured.latency or {}),
        }

    def _measure_long(self, work: Workload) -> None:
        measured = self._run_daemon(work, repeats=LONG_REPEATS)
        measured.file.unlink()
        self.extras["long"] = {
            "workload": work.name,
            "repeats": LONG_REPEATS,
            **summarise([measured.run], self.cores, self.codec_threads),
        }

    def _measure_reading(self, work: Workload) -> None:
        ours = self._run_daemon(work)
        self.reading[work.name] = {"split": self._read(ours.file)}
        rows, cols = self.reading[work.name]["split"]["chunks"]
        layout = work.make_layout(work.units_at(self.options.scale))
        full_width_rows = max(1, rows * cols // layout.mains[0].n_spectroscopic)
        full = self._run_daemon(work, chunk_rows=full_width_rows)
        self.reading[work.name]["full_width"] = self._read(full.file)

    def _read(self, file: Path) -> dict[str, Any]:
        with working("read", file=str(file)) as worker:
            told = worker.expect("done")
        file.unlink()
        del told["event"]
        return told

    def _measure_reference_file(self, work: Workload) -> None:
        file = str(self.directory / f"{self._fresh_name()}.h5")
        with working("reference file", file=file, **self._order(work)) as worker:
            self.reference_data_bytes[work.name] = worker.expect("done")["data_bytes"]

    # ------------------------------------------------------------ what was found

    def report(self) -> dict[str, Any]:
        """Return everything as plain values."""
        report: dict[str, Any] = {
            "schema": SCHEMA,
            "machine": self._machine(),
            "options": asdict(self.options) | {"data_dir": str(self.options.data_dir)},
            "limits": {
                "memory_bytes_per_s": median(self.memory),
                "disk_bytes_per_s": median(self.disk),
                "sync": sync_summary(self.syncs),
            },
            "workloads": {work.name: self._workload_report(work) for work in self.works},
            **self.extras,
            "reading": self.reading,
        }
        report["targets"] = compare_with_targets(report)
        return report

    def _workload_report(self, work: Workload) -> dict[str, Any]:
        found = self.runs[work.name]
        ours = median_run(found["usidstream"])
        return {
            "title": work.title,
            "unit": work.unit,
            "units": work.units_at(self.options.scale),
            "contestants": {
                name: summarise(runs, self.cores, self.codec_threads)
                for name, runs in found.items()
            },
            "bottleneck": bottleneck(ours, self.cores, self.codec_threads),
            "data_bytes": self.data_bytes[work.name],
            "reference_data_bytes": self.reference_data_bytes.get(work.name),
        }

    def _machine(self) -> dict[str, Any]:
        return {
            "cores": self.cores,
            "codec_threads": self.codec_threads,
            "system": platform.platform(),
            "processor": _processor_name(),
            "python": platform.python_version(),
            "numpy": np.__version__,
            "h5py": h5py.__version__,
            "hdf5": h5py.version.hdf5_version,
            "gzip_backend": codecs.deflate_backend(),
            "usidstream": __version__,
        }


def _usable_cores() -> int:
    """Return the cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _processor_name() -> str:
    """Return the processor's name, as far as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor())
