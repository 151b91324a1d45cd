"""What each ``usidstreamd`` command does. Prints results on stdout, everything else on stderr."""

from __future__ import annotations

import json
import logging
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import h5py
import typer

import usidstream
from usidstream.errors import UsidstreamError
from usidstream.progress import show_progress

from . import config as configuration
from . import h5usid
from .server import Server

EXIT_FAULT = 1
EXIT_WRONG_USE = 2
DEMO_SIZE = (96, 96)
DEMO_MEMORY_BUDGET_MB = 64

app = typer.Typer(
    name="usidstreamd",
    help="The machine next to the disk: streams pixels into compressed h5USID files.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

ConfigOption = Annotated[Path | None, typer.Option(help="A TOML file; see config/usidstream.toml.")]
DataDirOption = Annotated[Path | None, typer.Option(help="Where files are written.")]
BindOption = Annotated[str | None, typer.Option(help="Such as tcp://127.0.0.1:5755; port 0: any.")]
FileArgument = Annotated[Path, typer.Argument(help="An h5USID file.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")]


def run() -> int:
    """Run the command line; return its exit code."""
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s"
    )
    try:
        app()
    except configuration.ConfigError as error:
        return _complain(error, EXIT_WRONG_USE)
    except UsidstreamError as error:
        return _complain(error, EXIT_FAULT)
    return 0


def _complain(error: UsidstreamError, code: int) -> int:
    print(f"usidstreamd: {error}", file=sys.stderr)
    return code


@app.command()
def serve(
    config: ConfigOption = None, data_dir: DataDirOption = None, bind: BindOption = None
) -> None:
    """Serve until SIGTERM or Ctrl-C; every scan can be continued after a restart."""
    server = Server(configuration.load(config, data_dir=data_dir, bind=bind))
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: server.stop())
    print(f"usidstreamd ready {server.endpoint}", flush=True)
    server.run()


@app.command()
def demo(
    data_dir: DataDirOption = Path("usidstream-data"),
    preset_name: Annotated[str, typer.Option("--preset", help="The simulated instrument.")] = "be",
    rate: Annotated[float | None, typer.Option(help="Pixels per second.", min=1e-6)] = None,
) -> None:
    """Run a daemon and a simulated scan; end with the finished file's tree and path."""
    config = configuration.load(
        None,
        data_dir=data_dir,
        bind="tcp://127.0.0.1:0",
        memory_budget_mb=DEMO_MEMORY_BUDGET_MB,
        flush_interval_s=1.0,
    )
    with running(Server(config)) as server:
        result = _simulate_scan(server.endpoint, preset_name, rate)
    tree(Path(result.file))
    print(f"\n{result.status}: {result.file}")


def _simulate_scan(endpoint: str, preset_name: str, rate: float | None) -> usidstream.ScanResult:
    # Only the demo needs the instrument's side; a daemon starts without it.
    from usidstream import connect
    from usidstream.feeds import preset
    from usidstream.feeds.simulate import run as simulate

    feed = preset(preset_name)
    with connect(endpoint) as client, client.open_scan(feed.layout, file="demo") as scan:
        with show_progress(f"{preset_name} scan") as advance:
            simulate(scan, feed, rate_per_s=rate, progress=advance)
        return scan.finish()


@contextmanager
def running(server: Server) -> Iterator[Server]:
    """Run a daemon in a thread of this process while the ``with`` block lasts.

    A daemon that dies takes its reason to the end of the block.
    """
    failures: list[BaseException] = []

    def serve_until_stopped() -> None:
        try:
            server.run()
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            failures.append(error)

    thread = threading.Thread(target=serve_until_stopped, name="daemon")
    thread.start()
    try:
        yield server
    finally:
        server.stop()
        thread.join()
    if failures:
        raise failures[0]


@app.command()
def tree(file: FileArgument) -> None:
    """Print what a file holds, and each main dataset in words."""
    try:
        with h5py.File(file, "r", locking=False) as h5_file:
            h5usid.print_tree(h5_file)
            for dataset in h5usid.get_all_main(h5_file):
                print(f"\n{dataset}")
    except OSError as error:
        raise UsidstreamError(
            f"{file} cannot be read: {error}",
            hint="Is it an HDF5 file, and closed or open in SWMR mode?",
        ) from error


@app.command()
def verify(file: FileArgument, as_json: JsonOption = False) -> None:
    """Read a file as a sceptic: structure, coverage, and that every chunk decodes."""
    from .verify import verify_file

    with show_progress("verify", quiet=as_json) as advance:
        report = verify_file(file, progress=advance)
    if as_json:
        print(json.dumps(report.to_dict(), indent=2))
    else:
        print("\n".join(report.faults) or f"{file}: no fault found")
    if report.faults:
        raise typer.Exit(EXIT_FAULT)


@app.command()
def version() -> None:
    """Print the version."""
    print(usidstream.__version__)
