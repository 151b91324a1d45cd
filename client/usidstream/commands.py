"""What each ``usidstream`` command does. Prints results on stdout, everything else on stderr."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.live import Live

from . import Scan, connect, live, wire
from .client import Drained
from .client import drain as drain_spools
from .console import EXIT_FAULT, run_app
from .errors import DeliveryError, LayoutError
from .feeds import Summary, load_feed
from .feeds.faults import FAULTS, Fault, parse_fault
from .feeds.simulate import run as run_feed
from .feeds.simulate import unit_name
from .keys import KEY_FILE_VARIABLE, SERVER_KEY_VARIABLE
from .progress import show_progress, tell_notes
from .ranges import ranges_in_words
from .terminal.lines import PlainLines, json_line
from .terminal.model import Model
from .terminal.report import report_lines
from .terminal.screen import draw

DEFAULT_ENDPOINT = f"tcp://127.0.0.1:{wire.DEFAULT_DATA_PORT}"
STATUS_TIMEOUT_S = 5.0
SCREEN_INTERVAL_S = 0.25
MAX_RANGES_SHOWN_COUNT = 8
MB = 1e6

app = typer.Typer(
    name="usidstream",
    help="The instrument's side: simulated feeds, replay of files, the daemon's status.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # boxes are no plain lines for whoever reads a pipe
)


def run() -> int:
    """Run the command line; return its exit code."""
    return run_app("usidstream", app)


def _check_endpoint(value: str) -> str:
    if not re.fullmatch(r"tcp://[^\s/]+:\d{1,5}", value):
        raise typer.BadParameter(f"'{value}' is none; it looks like {DEFAULT_ENDPOINT}.")
    return value


def _check_scan_id(value: str | None) -> str | None:
    if value is not None and not re.fullmatch(r"[0-9a-f]{32}", value):
        raise typer.BadParameter(f"'{value}' is none; it has 32 digits of 0-9 and a-f.")
    return value


ToOption = Annotated[
    str,
    typer.Option("--to", metavar="ENDPOINT", help="The daemon.", callback=_check_endpoint),
]
ServerKeyOption = Annotated[
    str | None,
    typer.Option(
        metavar="FILE|KEY",
        envvar=SERVER_KEY_VARIABLE,
        help="The public key of a daemon that asks for keys.",
    ),
]
KeyFileOption = Annotated[
    Path | None,
    typer.Option(metavar="FILE", envvar=KEY_FILE_VARIABLE, help="This client's NAME.key_secret."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, and no progress.")]


class Order(StrEnum):
    """The orders in which a simulated instrument visits its positions."""

    RASTER = "raster"
    SERPENTINE = "serpentine"
    RANDOM = "random"


@app.command()
def simulate(
    preset_or_layout: Annotated[
        str,
        typer.Argument(
            metavar="PRESET|LAYOUT.toml",
            help="afm, be, raman, 4dstem, timeseries, or a layout's TOML file.",
        ),
    ],
    to: ToOption = DEFAULT_ENDPOINT,
    rate: Annotated[
        float | None,
        typer.Option(metavar="NUMBER", help="Pixels per second; as fast as it goes.", min=1e-6),
    ] = None,
    order: Annotated[Order, typer.Option(help="How the instrument moves.")] = Order.RASTER,
    size: Annotated[
        str | None, typer.Option(metavar="NxN", help="Such as 64x64, fastest first.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Chooses the sample and its noise.")] = 0,
    fault: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND=NUMBER",
            help=f"What goes wrong: {', '.join(FAULTS)}. Such as drop=0.01; may be repeated.",
        ),
    ] = None,
    file: Annotated[
        str | None, typer.Option(metavar="NAME", help="The beginning of the file's name.")
    ] = None,
    scan_id: Annotated[
        str | None,
        typer.Option(
            metavar="ID",
            help="Resume this scan, or open a new one under this id.",
            callback=_check_scan_id,
        ),
    ] = None,
    spool_dir: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Where what the daemon does not take waits, so that nothing stops."
        ),
    ] = None,
    server_key: ServerKeyOption = None,
    key_file: KeyFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Send a simulated scan to a daemon."""
    feed = load_feed(preset_or_layout, size=_parse_size(size), seed=seed)
    faults = [_parse_fault(text) for text in fault or ()]
    name = file or Path(preset_or_layout).stem
    summary = None
    with connect(to, spool_dir=spool_dir, server_key=server_key, key_file=key_file) as client:
        scan = client.open_scan(feed.layout, file=name, scan_id=scan_id)
        with (
            _sending(scan, quiet=as_json),
            show_progress(name, unit_name(feed.layout), quiet=as_json) as advance,
        ):
            summary = run_feed(
                scan,
                feed,
                order=order.value,
                rate_per_s=rate,
                faults=faults,
                seed=seed,
                progress=advance,
            )
    _print_result(scan, summary, as_json=as_json)


@app.command()
def replay(
    source: Annotated[
        Path, typer.Argument(metavar="FILE", help="An h5USID file of any age, or an NSID file.")
    ],
    to: ToOption = DEFAULT_ENDPOINT,
    main: Annotated[
        str | None, typer.Option(metavar="PATH", help="Only this main, or the mains of this group.")
    ] = None,
    server_key: ServerKeyOption = None,
    key_file: KeyFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Send an existing file's data to a daemon, bit for bit."""
    from .feeds.replay import open_replay

    with (
        open_replay(source, main=main) as recording,
        connect(to, server_key=server_key, key_file=key_file) as client,
    ):
        scan = client.open_scan(recording.layout, file=source.stem)
        with _sending(scan, quiet=as_json):
            for note in () if as_json else recording.notes:
                print(f"note: {note}", file=sys.stderr)
            with show_progress(source.stem, "elements", quiet=as_json) as advance:
                recording.send(scan, progress=advance)
    _print_result(scan, as_json=as_json, notes=recording.notes)


@app.command()
def drain(
    spool_dir: Annotated[
        Path,
        typer.Argument(
            metavar="SPOOL_DIR", help="As given to connect().", exists=True, file_okay=False
        ),
    ],
    to: Annotated[
        str | None,
        typer.Option(
            metavar="ENDPOINT",
            help="The daemon; the one that each scan was opened at.",
            callback=lambda value: value if value is None else _check_endpoint(value),
        ),
    ] = None,
    server_key: ServerKeyOption = None,
    key_file: KeyFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Send what spools hold whose program does not come back; finish scans that are complete."""
    faults = 0
    for drained in drain_spools(spool_dir, to, server_key=server_key, key_file=key_file):
        faults += drained.error is not None
        print(json.dumps(_plain_drained(drained)) if as_json else _drained_line(drained))
    if faults:
        raise typer.Exit(EXIT_FAULT)


def _plain_drained(drained: Drained) -> dict[str, Any]:
    return {
        "spool": str(drained.folder),
        "scan_id": drained.scan_id,
        "file": drained.file,
        "status": drained.status,
        "blocks": drained.blocks,
        "error": None if drained.error is None else str(drained.error),
    }


def _drained_line(drained: Drained) -> str:
    if drained.error is not None:
        return f"{drained.folder}: {drained.error}"
    return f"{drained.status}: {drained.file} ({drained.blocks} blocks sent)"


@app.command()
def status(
    to: ToOption = DEFAULT_ENDPOINT,
    server_key: ServerKeyOption = None,
    key_file: KeyFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Tell what a daemon is doing."""
    with connect(
        to, timeout_s=STATUS_TIMEOUT_S, server_key=server_key, key_file=key_file
    ) as client:
        report = client.status()
    if as_json:
        print(json.dumps(report, indent=2))
        return
    print("\n".join(report_lines(report)))


@app.command()
def watch(
    to: ToOption = DEFAULT_ENDPOINT,
    server_key: ServerKeyOption = None,
    key_file: KeyFileOption = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object a line for each event.")
    ] = False,
) -> None:
    """Show live what a daemon and its scans do, until Ctrl-C; also while it is away."""
    with (
        suppress(KeyboardInterrupt),
        live.watch(to, server_key=server_key, key_file=key_file) as events,
    ):
        if as_json:
            for event in events:
                print(json_line(event), flush=True)
        elif sys.stdout.isatty():
            _show_on_screen(events, to)
        else:
            lines = PlainLines()
            for event in events:
                for line in lines.take(event, time.monotonic()):
                    print(line, flush=True)


def _show_on_screen(events: live.Watch, endpoint: str) -> None:
    """Draw the present standing over and over in the same place."""
    model = Model()
    with Live(draw(model, endpoint), auto_refresh=False, transient=False) as screen:
        while True:
            event = events.next_event(SCREEN_INTERVAL_S)
            due_s = time.monotonic() + SCREEN_INTERVAL_S
            while event is not None:
                model.take(event)
                # A flood of events must not keep the screen from being drawn.
                event = events.next_event(0.0) if time.monotonic() < due_s else None
            screen.update(draw(model, endpoint), refresh=True)


# -------------------------------------------------------------------- the scan and its end


@contextmanager
def _sending(scan: Scan, *, quiet: bool) -> Iterator[None]:
    """Announce a scan and end it with the ``with`` block; Ctrl-C aborts it."""
    if not quiet:
        print(f"scan {scan.scan_id} -> {scan.file}", file=sys.stderr)
    try:
        with tell_notes(lambda: scan.notice, quiet=quiet), scan:
            yield
    except KeyboardInterrupt:
        print("stopped by Ctrl-C", file=sys.stderr)
    except DeliveryError:
        print(f"the scan can be resumed: --scan-id {scan.scan_id}", file=sys.stderr)
        raise


def _print_result(
    scan: Scan, summary: Summary | None = None, *, as_json: bool, **more: Any
) -> None:
    result = scan.result
    if as_json:
        print(json.dumps(_plain_result(scan, summary) | more))
    else:
        print(f"{result.status}: {result.file}")
        for name, ranges in result.missing.items():
            print(f"  {name}: missing {ranges_in_words(ranges, MAX_RANGES_SHOWN_COUNT)}")
        for line in _summary_lines(scan, summary):
            print(f"  {line}")
    if result.status != "complete":
        raise typer.Exit(EXIT_FAULT)


def _plain_result(scan: Scan, summary: Summary | None) -> dict[str, Any]:
    result = scan.result
    plain: dict[str, Any] = {
        "scan_id": result.scan_id,
        "file": result.file,
        "status": result.status,
        "missing": {name: [list(pair) for pair in held] for name, held in result.missing.items()},
        "skipped": scan.skipped,
    }
    if summary is not None:
        plain |= {
            "sent": summary.done,
            "seconds": round(summary.seconds, 3),
            "faults": summary.faults,
            "refused": summary.refused,
        }
    return plain


def _summary_lines(scan: Scan, summary: Summary | None) -> Iterator[str]:
    if scan.skipped:
        yield f"{scan.skipped} rows were durable before, and not sent again"
    if summary is None:
        return
    seconds = max(summary.seconds, 1e-3)
    mb_per_s = summary.done / summary.total * scan.layout.nbytes / seconds / MB
    yield (
        f"{summary.done} {unit_name(scan.layout)} in {seconds:.1f} s"
        f" ({summary.done / seconds:.0f} per second, {mb_per_s:.1f} MB/s)"
    )
    for title, counts in (("faults made", summary.faults), ("refused", summary.refused)):
        words = ", ".join(f"{count} {kind}" for kind, count in counts.items() if count)
        if words:
            yield f"{title}: {words}"


# -------------------------------------------------------------------- the options


def _parse_size(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    try:
        return tuple(int(part) for part in text.lower().split("x"))
    except ValueError as error:
        raise LayoutError(
            f"'{text}' is no size.", field="--size", hint="Give numbers such as 64x64."
        ) from error


def _parse_fault(text: str) -> Fault:
    try:
        return parse_fault(text)
    except ValueError as error:
        raise LayoutError(str(error), field="--fault", hint="Such as drop=0.01.") from error
