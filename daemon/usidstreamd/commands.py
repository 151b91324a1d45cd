"""What each ``usidstreamd`` command does. Prints results on stdout, everything else on stderr."""

from __future__ import annotations

import faulthandler
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import h5py
import typer

import usidstream
from usidstream.console import EXIT_FAULT, run_app
from usidstream.errors import UsidstreamError
from usidstream.keys import ClientKeys, read_key_file
from usidstream.progress import show_progress
from usidstream.wire import DEFAULT_DATA_PORT

from . import config as configuration
from . import h5usid, logs
from .companion import Dashboard
from .logs import get_logger
from .ports import wanted_port
from .server import Server
from .service import Service
from .storage import RecoveryReport, find_remainders, recover_path, remove_finished

if TYPE_CHECKING:
    from usidstream.feeds import Feed

log = get_logger()

DEMO_MEMORY_BUDGET_MB = 64
DEMO_FLUSH_INTERVAL_S = 1.0
DEMO_DASHBOARD_TIMEOUT_S = 20.0
DASHBOARD_PORT_STEP = 3
"""The dashboard's port is this far behind the data port."""

app = typer.Typer(
    name="usidstreamd",
    help="The machine next to the disk: streams pixels into compressed h5USID files.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # boxes are no plain lines for whoever reads a pipe
)

ConfigOption = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="TOML; see config/usidstream.toml."),
]
DataDirOption = Annotated[Path | None, typer.Option(metavar="DIR", help="Where files are written.")]
BindOption = Annotated[
    str | None,
    typer.Option(metavar="ENDPOINT", help="Such as tcp://127.0.0.1:5755; port 0 takes a free one."),
]
FileArgument = Annotated[
    Path,
    typer.Argument(metavar="FILE", help="An h5USID file.", exists=True, dir_okay=False),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")]


def run() -> int:
    """Run the command line; return its exit code."""
    logs.set_up("console", "info")
    return run_app("usidstreamd", app)


@app.command()
def serve(
    config: ConfigOption = None, data_dir: DataDirOption = None, bind: BindOption = None
) -> None:
    """Serve until SIGTERM or Ctrl-C; every scan can be continued after a restart."""
    read_config = partial(configuration.load, config, data_dir=data_dir, bind=bind)
    settings = read_config()
    logs.set_up(settings.log_format, settings.log_level)
    logs.tell_of_crashes()
    # A service manager ends a daemon that hangs by SIGABRT: the log then gets every stack.
    faulthandler.enable()
    os.umask(settings.umask)
    server = Server(settings, read_config, Service.from_environment())
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: server.stop())
    if sys.platform != "win32":  # which has no such signal
        signal.signal(signal.SIGHUP, lambda *_: server.reload())
    print(f"usidstreamd ready {server.endpoint}", flush=True)
    with dashboard_beside(server):
        server.run()
    if server.has_hanging_threads:
        # The interpreter would wait for them, and for what they hold, for as long as they hang.
        logging.shutdown()
        os._exit(EXIT_FAULT)


@contextmanager
def dashboard_beside(server: Server) -> Iterator[Dashboard | None]:
    """Run the dashboard's process while the ``with`` block lasts, if there is to be one."""
    config = server.config
    port = wanted_port(config.dashboard, config.bind, DASHBOARD_PORT_STEP)
    lacks_key = config.server_key_file is not None and config.dashboard_key_file is None
    if port is None or server.ports.telemetry is None or lacks_key:
        if port is not None and lacks_key:
            log.info("dashboard_lacks_key", option="dashboard_key_file")
        yield None
        return
    options = ["--to", _on_this_machine(server.endpoint), "--data-dir", str(config.data_dir)]
    if config.server_key_file is not None:
        options += ["--server-key", read_key_file(config.server_key_file).public]
        options += ["--key-file", str(config.dashboard_key_file)]

    def tell_port(found: int | None) -> None:
        server.ports.dashboard = found

    beside = Dashboard(options, port, server.warnings, tell_port)
    beside.start()
    try:
        yield beside
    finally:
        beside.close()


def _on_this_machine(endpoint: str) -> str:
    """Return how this machine itself reaches an endpoint that listens everywhere."""
    return endpoint.replace("tcp://0.0.0.0:", "tcp://127.0.0.1:").replace(
        "tcp://[::]:", "tcp://[::1]:"
    )


@app.command("check-config")
def check_config(
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="FILE", help="TOML; see config/usidstream.toml.", exists=True, dir_okay=False
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Print every option's value and source, or all that keeps `serve` from starting."""
    report = configuration.check(file)
    print(json.dumps(report.to_dict(), indent=2) if as_json else "\n".join(report.lines()))
    if report.problems:
        raise typer.Exit(EXIT_FAULT)


@app.command()
def keygen(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Made if it does not exist.")],
    client: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Also a pair for this client; may be repeated."),
    ] = None,
) -> None:
    """Make the daemon's keys in DIR, and a client's; never overwrite any."""
    from .security import create_keys

    for path in create_keys(directory, client or []):
        print(path)


@app.command()
def demo(
    data_dir: DataDirOption = Path("usidstream-data"),
    preset_name: Annotated[
        str, typer.Option("--preset", metavar="NAME", help="The simulated instrument.")
    ] = "be",
    rate: Annotated[
        float | None, typer.Option(metavar="NUMBER", help="Pixels per second.", min=1e-6)
    ] = None,
    stay: Annotated[
        bool, typer.Option("--stay", help="Serve the dashboard until Ctrl-C when the scan is over.")
    ] = False,
) -> None:
    """Run a daemon and a simulated scan; end with the finished file's tree and path."""
    # Only the demo needs the instrument's side; a daemon starts without it.
    from usidstream.feeds import preset

    # What the daemon does as a matter of course would only stand between the lines of the demo.
    logs.set_level("warning")
    config = configuration.load(
        None,
        data_dir=data_dir,
        bind="tcp://127.0.0.1:0",
        memory_budget_mb=DEMO_MEMORY_BUDGET_MB,
        flush_interval_s=DEMO_FLUSH_INTERVAL_S,
    )
    feed = preset(preset_name)
    with running(Server(config)) as server, dashboard_beside(server) as beside:
        url = beside.wait_ready(DEMO_DASHBOARD_TIMEOUT_S) if beside else ""
        result = _simulate_scan(server.endpoint, url, feed, preset_name, rate)
        _print_tree(Path(result.file))
        print(f"\n{result.status}: {result.file}", flush=True)
        if stay:
            print(f"The dashboard stays at {url} until Ctrl-C.", file=sys.stderr)
            _wait_for_interrupt()
    if result.status != "complete":
        raise typer.Exit(EXIT_FAULT)


def _wait_for_interrupt() -> None:
    with suppress(KeyboardInterrupt):
        threading.Event().wait()


def _simulate_scan(
    endpoint: str, url: str, feed: Feed, name: str, rate: float | None
) -> usidstream.ScanResult:
    from usidstream.feeds.simulate import run as simulate
    from usidstream.feeds.simulate import unit_name

    print(f"A daemon listens at {endpoint}; a simulated instrument sends a scan.", file=sys.stderr)
    if url:
        print(f"See it live at {url}", file=sys.stderr)
    with usidstream.connect(endpoint) as client, client.open_scan(feed.layout, "demo") as scan:
        with show_progress(f"{name} scan", unit_name(feed.layout)) as advance:
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
def dashboard(
    to: Annotated[
        str, typer.Option(metavar="ENDPOINT", help="The daemon's data port.")
    ] = f"tcp://127.0.0.1:{DEFAULT_DATA_PORT}",
    port: Annotated[
        int, typer.Option(metavar="NUMBER", help="0 takes any free one.", min=0, max=65535)
    ] = DEFAULT_DATA_PORT + DASHBOARD_PORT_STEP,
    address: Annotated[
        str, typer.Option(metavar="HOST", help="Where to listen; beyond loopback with a token.")
    ] = "127.0.0.1",
    token_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Holds the token; one is made if not given."),
    ] = None,
    origin: Annotated[
        list[str] | None,
        typer.Option(metavar="HOST:PORT", help="By which browsers know it too; may be repeated."),
    ] = None,
    data_dir: DataDirOption = None,
    server_key: Annotated[
        str | None,
        typer.Option(metavar="FILE|KEY", help="The public key of a daemon that asks for keys."),
    ] = None,
    key_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The dashboard's own NAME.key_secret.")
    ] = None,
    with_parent: Annotated[bool, typer.Option("--with-parent", hidden=True)] = False,
) -> None:
    """Serve a web page that shows the scans of a daemon while they run, and finished ones."""
    try:
        from .dashboard import serving
    except ImportError as error:
        raise UsidstreamError(
            f"the dashboard lacks a package: {error}", hint="pip install 'usidstream[daemon]'"
        ) from error

    options = serving.Options(
        endpoint=to,
        address=address,
        port=port,
        token=token_file.read_text("utf-8").strip() if token_file else None,
        origins=tuple(origin or ()),
        directory=data_dir,
        keys=ClientKeys.load(server_key, key_file),
        ends_with_input=with_parent,
    )
    for name in ("bokeh", "tornado.access"):  # they tell of every page that was closed
        logging.getLogger(name).setLevel(logging.ERROR)
    serving.serve(options, lambda url: print(f"usidstreamd dashboard ready {url}", flush=True))


@app.command()
def tree(file: FileArgument) -> None:
    """Print what a file holds, and each main dataset in words."""
    _print_tree(file)


def _print_tree(file: Path) -> None:
    with _open_to_read(file) as h5_file:
        h5usid.print_tree(h5_file)
        for dataset in h5usid.get_all_main(h5_file):
            print(f"\n{dataset}")


@contextmanager
def _open_to_read(file: Path) -> Iterator[h5py.File]:
    """Open a finished file, or one that is being written."""
    if not h5py.is_hdf5(file):
        raise typer.BadParameter(f"'{file}' is not an HDF5 file.", param_hint="FILE")
    try:
        with h5usid.open_readable(file)[0] as h5_file:
            yield h5_file
    except BrokenPipeError:  # whoever reads what is printed has gone
        raise
    except OSError as error:
        raise UsidstreamError(
            f"{file} cannot be read: {error}",
            code="file_damaged",
            hint="usidstreamd verify tells what is wrong with it.",
        ) from error


@app.command()
def view(
    file: FileArgument,
    main: Annotated[
        str | None,
        typer.Option("--main", metavar="PATH", help="Of the main dataset; all if not given."),
    ] = None,
    png: Annotated[
        Path | None,
        typer.Option("--out", metavar="PNG", help="FILE.png if not given.", dir_okay=False),
    ] = None,
    reduction: Annotated[
        str,
        typer.Option(metavar="mean|max|COLUMN", help="What the map shows of each spectrum."),
    ] = "mean",
) -> None:
    """Draw the map and the mean spectrum of a file's main datasets, also while it is written."""
    from .pictures import write_pictures

    for written in write_pictures(file, main, png, reduction):
        print(written)


@app.command()
def recover(
    path: Annotated[Path, typer.Argument(help="A scan's file, or a directory of scans.")],
    into: Annotated[
        Path | None, typer.Option(help="Rebuild in this directory, and change nothing else.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Put right what a daemon that died has left; `serve` does the same by itself."""
    if not path.exists():
        raise UsidstreamError(f"{path} does not exist", hint="Check the path.")
    with show_progress("rebuild", quiet=as_json) as advance:
        outcomes = list(recover_path(path, into=into, progress=advance))
    if as_json:
        print(json.dumps([_recovery_as_dict(outcome) for outcome in outcomes], indent=2))
    else:
        print("\n".join(map(_recovery_in_words, outcomes)) or f"{path}: nothing to recover")
    if any(isinstance(outcome, UsidstreamError) or outcome.uncertain for outcome in outcomes):
        raise typer.Exit(EXIT_FAULT)


def _recovery_as_dict(outcome: RecoveryReport | UsidstreamError) -> dict[str, Any]:
    if isinstance(outcome, UsidstreamError):
        return {"error": outcome.code, "message": outcome.message, "hint": outcome.hint}
    return outcome.to_dict()


def _recovery_in_words(outcome: RecoveryReport | UsidstreamError) -> str:
    if isinstance(outcome, UsidstreamError):
        return str(outcome)
    counts = f"{outcome.chunks_in_place} chunks in place, {outcome.chunks_rebuilt} rebuilt"
    if outcome.chunks_damaged:
        counts += f", {outcome.chunks_damaged} DAMAGED"
    how = f"{outcome.how} ({outcome.reason})" if outcome.reason else outcome.how
    line = f"{outcome.file}: {how}; {counts}"
    if outcome.blocks_to_replay is not None:
        line += f", {outcome.blocks_to_replay} blocks journalled"
    return "\n".join([line, *(f"  not certain: {text}" for text in outcome.uncertain)])


@app.command()
def journals(
    data_dir: Annotated[
        Path | None,
        typer.Argument(
            metavar="DATA_DIR", help="Where files are written.", exists=True, file_okay=False
        ),
    ] = None,
    remove: Annotated[
        bool, typer.Option("--remove", help="Remove what scans that have ended have left.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """List what stands beside the files: scans that wait, and what is left; never removes data."""
    from . import journal_list

    directory = data_dir or configuration.load(None).data_dir
    removals = list(remove_finished(directory)) if remove else []
    remainders = list(find_remainders(directory))
    if as_json:
        print(json.dumps(journal_list.as_plain(remainders, removals), indent=2))
    else:
        print("\n".join(journal_list.in_lines(directory, remainders, removals)))
    if any(removal.kept_for for removal in removals):
        raise typer.Exit(EXIT_FAULT)


@app.command()
def verify(file: FileArgument, as_json: JsonOption = False) -> None:
    """Read a file as a sceptic: structure, coverage, and every chunk against its checksum."""
    from .verify import verify_file

    with show_progress("verify", "chunks", quiet=as_json) as advance:
        report = verify_file(file, progress=advance)
    if as_json:
        print(json.dumps(report.to_dict(), indent=2))
    else:
        for line in (*report.notes, *report.faults):
            print(line)
        compared = sum(main.checksums or 0 for main in report.mains)
        counts = f"{report.chunks} chunks read, {compared} compared with their checksums"
        print(f"{file}: {_verdict(len(report.faults))}, {counts}")
    if report.faults:
        raise typer.Exit(EXIT_FAULT)


def _verdict(n_faults: int) -> str:
    return {0: "no fault found", 1: "1 fault found"}.get(n_faults, f"{n_faults} faults found")


@app.command()
def merge(
    session: Annotated[
        Path,
        typer.Argument(metavar="SESSION.h5", help="Made, or added to.", dir_okay=False),
    ],
    scans: Annotated[
        list[Path],
        typer.Argument(metavar="SCAN.h5...", help="Finished.", exists=True, dir_okay=False),
    ],
    as_json: JsonOption = False,
) -> None:
    """Gather finished scans in one file, Measurement_000, 001, ...: all of them or none."""
    from .merging import merge as merge_files

    if not session.parent.is_dir():
        raise typer.BadParameter(f"'{session.parent}' is no directory.", param_hint="SESSION.h5")
    # So that a terminated merge removes what it has made so far, as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    report = merge_files(session, scans, partial(show_progress, quiet=as_json))
    if as_json:
        print(json.dumps(report.to_dict(), indent=2))
        return
    for note in report.notes:
        print(note, file=sys.stderr)
    for merged in report.merged:
        print(f"{merged.group}: {merged.source_group} of {merged.file}")
    print(f"{session}: {len(report.merged)} merged, {report.chunks} chunks as they were")


@app.command()
def bench(
    data_dir: DataDirOption = None,
    compare: Annotated[
        bool, typer.Option("--compare", help="Also the usual ways to write, and the limits.")
    ] = False,
    scale: Annotated[
        float, typer.Option(metavar="NUMBER", help="Of every size.", min=1e-4, max=10.0)
    ] = 1.0,
    rounds: Annotated[
        int | None,
        typer.Option(metavar="NUMBER", help="Runs of each; 1, or 3 to compare.", min=1, max=100),
    ] = None,
    workload: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Only this one; may be repeated."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure what this machine and disk sustain."""
    from .bench.plan import MIN_COMPARED_ROUNDS, Options, run_bench
    from .bench.report import report_in_words

    if compare and rounds is not None and rounds < MIN_COMPARED_ROUNDS:
        raise typer.BadParameter(
            f"{rounds} give no median; compare with {MIN_COMPARED_ROUNDS} at least.",
            param_hint="--rounds",
        )
    # So that a terminated benchmark ends its processes and removes its files, as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    options = Options(
        data_dir=data_dir or configuration.default_data_dir(),
        compare=compare,
        scale=scale,
        rounds=rounds or (MIN_COMPARED_ROUNDS if compare else 1),
        workloads=tuple(workload or ()),
    )
    with show_progress("bench", "steps") as advance:
        report = run_bench(options, advance)
    print(json.dumps(report, indent=2) if as_json else report_in_words(report))


@app.command()
def version() -> None:
    """Print the version."""
    print(usidstream.__version__)
