"""What each ``usidstream`` command does. Prints results on stdout, everything else on stderr."""

from __future__ import annotations

import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from . import Scan, ScanResult, connect, wire
from .errors import BlockError, LayoutError, UsidstreamError
from .feeds import load_feed
from .feeds.faults import parse_fault
from .feeds.simulate import run as run_feed
from .progress import show_progress

EXIT_FAULT = 1
EXIT_WRONG_USE = 2
DEFAULT_ENDPOINT = f"tcp://127.0.0.1:{wire.DEFAULT_DATA_PORT}"

app = typer.Typer(
    name="usidstream",
    help="The instrument's side: simulated feeds, replay of files, the daemon's status.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

ToOption = Annotated[str, typer.Option("--to", help="The daemon's endpoint.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, and no progress.")]


class Order(StrEnum):
    """The orders in which a simulated instrument visits its positions."""

    RASTER = "raster"
    SERPENTINE = "serpentine"
    RANDOM = "random"


def run() -> int:
    """Run the command line; return its exit code."""
    try:
        app()
    except UsidstreamError as error:
        wrong_use = isinstance(error, ValueError) and not isinstance(error, BlockError)
        return _complain(error, EXIT_WRONG_USE if wrong_use else EXIT_FAULT)
    return 0


def _complain(error: UsidstreamError, code: int) -> int:
    print(f"usidstream: {error}", file=sys.stderr)
    return code


@app.command()
def simulate(
    preset_or_layout: Annotated[
        str, typer.Argument(help="afm, be, raman, 4dstem, timeseries, or a layout's TOML file.")
    ],
    to: ToOption = DEFAULT_ENDPOINT,
    rate: Annotated[float | None, typer.Option(help="Pixels per second.", min=1e-6)] = None,
    order: Annotated[Order, typer.Option(help="How the instrument moves.")] = Order.RASTER,
    size: Annotated[str | None, typer.Option(help="Such as 64x64, fastest first.")] = None,
    seed: Annotated[int, typer.Option(help="Chooses the sample and its noise.")] = 0,
    fault: Annotated[
        list[str] | None, typer.Option(help="Such as drop=0.01 or crash=500; may be repeated.")
    ] = None,
    file: Annotated[str | None, typer.Option(help="The file's name, without ending.")] = None,
    scan_id: Annotated[str | None, typer.Option(help="Resume this scan.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Send a simulated scan to a daemon."""
    feed = load_feed(preset_or_layout, size=_parse_size(size), seed=seed)
    faults = [_parse_fault(text) for text in fault or ()]
    name = file or Path(preset_or_layout).stem
    with connect(to) as client, client.open_scan(feed.layout, file=name, scan_id=scan_id) as scan:
        _announce(scan, quiet=as_json)
        with show_progress(name, quiet=as_json) as advance:
            summary = run_feed(
                scan,
                feed,
                order=order.value,
                rate_per_s=rate,
                faults=faults,
                seed=seed,
                progress=advance,
            )
    _print_result(scan, as_json, refused=summary.refused, skipped=scan.skipped)


@app.command()
def replay(
    source: Annotated[Path, typer.Argument(help="An h5USID file of any age, or an NSID file.")],
    to: ToOption = DEFAULT_ENDPOINT,
    main: Annotated[str | None, typer.Option(help="Only the main dataset at this path.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Send an existing file's data to a daemon, bit for bit."""
    from .feeds.replay import open_replay

    with (
        open_replay(source, main=main) as recording,
        connect(to) as client,
        client.open_scan(recording.layout, file=source.stem) as scan,
    ):
        _announce(scan, quiet=as_json)
        for note in recording.notes:
            print(f"note: {note}", file=sys.stderr)
        with show_progress(source.stem, quiet=as_json) as advance:
            recording.send(scan, progress=advance)
    _print_result(scan, as_json)


@app.command()
def status(to: ToOption = DEFAULT_ENDPOINT, as_json: JsonOption = False) -> None:
    """Tell what a daemon is doing."""
    with connect(to) as client:
        report = client.status()
    if as_json:
        print(json.dumps(report, indent=2))
        return
    daemon = report["daemon"]
    print(f"{daemon['daemon']} at {daemon['endpoint']}, files in {daemon['data_dir']}")
    for scan in report["scans"]:
        print(_scan_line(scan))
    if not report["scans"]:
        print("no open scans")


def _scan_line(scan: dict[str, Any]) -> str:
    done, total = scan.get("positions", 0), scan["n_positions"]
    line = f"{scan['scan']}  {scan['state']:<10}  {done}/{total} positions durable  {scan['file']}"
    return f"{line}  {scan['failure']}" if scan.get("failure") else line


def _announce(scan: Scan, *, quiet: bool) -> None:
    if not quiet:
        print(f"scan {scan.scan_id} -> {scan.file}", file=sys.stderr)


def _print_result(scan: Scan, as_json: bool, **more: Any) -> None:
    result: ScanResult = scan.result
    plain = {
        "scan_id": result.scan_id,
        "file": result.file,
        "status": result.status,
        "missing": {name: [list(pair) for pair in held] for name, held in result.missing.items()},
    } | more
    if as_json:
        print(json.dumps(plain))
    else:
        print(f"{result.status}: {result.file}")
        for name, ranges in result.missing.items():
            print(f"  {name}: missing {_ranges_in_words(ranges)}")
    if result.status != "complete":
        raise typer.Exit(EXIT_FAULT)


def _ranges_in_words(ranges: list[tuple[int, int]], most: int = 8) -> str:
    words = [f"{a}..{b - 1}" if b - a > 1 else f"{a}" for a, b in ranges[:most]]
    rest = len(ranges) - most
    return "positions " + ", ".join(words) + (f" and {rest} more ranges" if rest > 0 else "")


def _parse_size(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    try:
        return tuple(int(part) for part in text.lower().split("x"))
    except ValueError as error:
        raise LayoutError(
            f"{text!r} is no size.", field="--size", hint="Give numbers such as 64x64."
        ) from error


def _parse_fault(text: str) -> Any:
    try:
        return parse_fault(text)
    except ValueError as error:
        raise LayoutError(str(error), field="--fault", hint="Such as drop=0.01.") from error
