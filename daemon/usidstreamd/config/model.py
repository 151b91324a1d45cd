"""Every option of the daemon: name, text, type, unit, default and bounds, and what may change.

This model is the one place where an option is described: ``config/usidstream.toml``, the JSON
schema beside it and the table in ``docs/operating.md`` are written from it. It opens no socket,
reads nothing and creates no file.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, get_args, get_origin

import platformdirs
from pydantic import BaseModel, ConfigDict, Field, field_validator
from pydantic.config import JsonDict

from usidstream import wire
from usidstream.endpoints import host_of, is_loopback
from usidstream.errors import UsidstreamError

PORT_SCHEMA: JsonDict = {
    "anyOf": [
        {"type": "integer", "minimum": 0, "maximum": 65535},
        {"enum": ["auto", "off"]},
    ]
}
BIND_PATTERN = r"^tcp://[^/]+:\d{1,5}$"
FILE_MODE_PATTERN = r"^0?6[0246][0246]$"
MAX_PORT = 65535
MAX_WAIT_S = 31_536_000.0
"""A year: no time-out is longer, so that arithmetic with it stays finite."""


class ConfigError(UsidstreamError, ValueError):
    """The configuration cannot be used; the message names source, option and fix."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message, code="bad_config", hint=hint)


def default_data_dir() -> Path:
    """Return where scans go unless told otherwise: the user's documents."""
    return Path(platformdirs.user_documents_dir()) / "usidstream"


def default_codec_threads() -> int:
    """Return one codec thread a core, at most eight."""
    return min(8, os.cpu_count() or 1)


def _none() -> None:
    """Return the default of what an example shows better than a value."""


class Config(BaseModel):
    """Every option of ``usidstreamd serve``. Units stand last in the names."""

    # Strict: "3" and true are no numbers, in the daemon as in an editor that knows the schema.
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    data_dir: Path = Field(
        default_factory=default_data_dir,
        strict=False,
        examples=["/data/usidstream"],
        description="Where scans are written: one HDF5 file each, with a journal directory beside "
        'it while it runs. Default: a folder "usidstream" in the user\'s documents.',
    )
    file_mode: str = Field(
        default="0640",
        json_schema_extra={"pattern": FILE_MODE_PATTERN},
        description="Who may read and write what the daemon makes, as digits of chmod: by default "
        "its user writes and its group reads. Directories can be entered by whoever may read. No "
        "effect on Windows, where files have the access list of their folder.",
    )
    bind: str = Field(
        default=f"tcp://127.0.0.1:{wire.DEFAULT_DATA_PORT}",
        json_schema_extra={"pattern": BIND_PATTERN},
        description="Where instruments connect. Port 0 takes any free one (the ready line tells "
        "which).",
    )
    telemetry: int | str = Field(
        default="auto",
        json_schema_extra=PORT_SCHEMA,
        description="The port where viewers watch: `usidstream watch`, the dashboard, programs. "
        '"auto" is the one after that of bind, 0 any free one, "off" none. If it is taken, any '
        "free one is, with a warning; clients are told which.",
    )
    metrics: int | str = Field(
        default="auto",
        json_schema_extra=PORT_SCHEMA,
        description="The port where Prometheus reads metrics, at http://127.0.0.1:PORT/metrics. "
        '"auto" is the second after that of bind, 0 any free one, "off" none. If it is taken, any '
        "free one is, with a warning; status tells which.",
    )
    metrics_token_file: Path | None = Field(
        default_factory=_none,
        strict=False,
        examples=["/etc/usidstream/metrics.token"],
        description="A file with a secret of 16 characters or more that whoever reads metrics must "
        "show (Authorization: Bearer ...). With it they are told on the host of bind, else to this "
        "machine only. Default: none.",
    )
    dashboard: int | str = Field(
        default="auto",
        json_schema_extra=PORT_SCHEMA,
        description='The port of the dashboard\'s page, on this machine only. "auto" is the third '
        'after that of bind, 0 any free one, "off" none. If it is taken, any free one is, with a '
        "warning. It is a process of its own, fed by the telemetry.",
    )
    allow_insecure: bool = Field(
        default=False,
        description="Listening beyond this machine without keys is refused unless this is true: "
        "whoever reaches the port can write.",
    )
    server_key_file: Path | None = Field(
        default_factory=_none,
        strict=False,
        examples=["/etc/usidstream/keys/server.key_secret"],
        description="The daemon's secret key, made by usidstreamd keygen. With it everything is "
        "encrypted and only clients whose keys are listed are let in. Default: none, no keys.",
    )
    client_keys_dir: Path | None = Field(
        default_factory=_none,
        strict=False,
        examples=["/etc/usidstream/keys/clients"],
        description="The public keys of the clients that are let in, NAME.key each; read again on "
        "SIGHUP. Default: the folder clients beside server_key_file.",
    )
    dashboard_key_file: Path | None = Field(
        default_factory=_none,
        strict=False,
        examples=["/etc/usidstream/keys/dashboard.key_secret"],
        description="The dashboard's own client key, where the daemon asks for keys; without it "
        "there is no dashboard then. Default: none.",
    )
    memory_budget_mb: int = Field(
        default=128,
        ge=1,
        le=1 << 20,
        description="All open chunks of all scans together, in MiB. What does not fit is parked on "
        "disk.",
    )
    credit_window_mb: int = Field(
        default=16,
        ge=1,
        le=1024,
        description="What one client may have under way to one scan, in MiB.",
    )
    max_block_mb: int = Field(
        default=8,
        ge=1,
        le=1024,
        validate_default=True,  # the default may be too much for the window that was chosen
        description="The largest block a client may send, in MiB, at most credit_window_mb; larger "
        "writes are split by the client.",
    )
    max_layout_mb: int = Field(
        default=256,
        ge=1,
        le=4096,
        description="The largest sum of arrays in one layout, in MiB (explicit positions of large "
        "scans). The tables of indices and values that its file gets, 8 bytes an entry, may take "
        "4 times as much.",
    )
    disk_reserve_mb: int = Field(
        default=512,
        ge=1,
        le=1 << 30,
        description="Below this much free space, in MiB, nothing more is asked of any client, and "
        "no scan is opened, until there is room again; scans then go on by themselves. Where more "
        "than this may be needed to write what clients were granted and memory holds, more is "
        "kept: 32 MiB, twice the credit that is out, and the memory in use.",
    )
    row_segment_mb: int = Field(
        default=64,
        ge=1,
        le=4096,
        description="Rows that are durable but not in the file yet lie in segments of this size, "
        "in MiB, beside it. Four of them may hold what nobody needs; see docs/durability.md.",
    )
    max_clients: int = Field(
        default=64, ge=1, le=4096, description="Connections at a time; one more is refused."
    )
    max_scans: int = Field(
        default=16,
        ge=1,
        le=1024,
        description="Scans that are open at a time; one more is refused, and can be tried again.",
    )
    max_connections_per_client: int = Field(
        default=16,
        ge=1,
        le=4096,
        description="Connections with the same key at a time, where keys are used; one more is "
        "refused.",
    )
    max_scans_per_client: int = Field(
        default=8,
        ge=1,
        le=1024,
        description="Open scans that one client has opened, whether it is connected or not; one "
        "more is refused, and can be tried again. Without keys each connection counts as a client.",
    )
    client_rate_mb_per_s: float = Field(
        default=0.0,
        ge=0.0,
        le=1e6,
        description="What one client may send, in MiB a second over all its scans; its credit "
        "comes no faster. 0 for no limit.",
    )
    codec_threads: int = Field(
        default_factory=default_codec_threads,
        ge=1,
        le=64,
        examples=[2],
        description="Threads that compress. Default: one for each core, at most 8.",
    )
    commit_interval_s: float = Field(
        default=0.05,
        gt=0.0,
        le=60.0,
        description="What has arrived is durable, and acknowledged so, about this long after.",
    )
    flush_interval_s: float = Field(
        default=5.0,
        gt=0.0,
        le=3600.0,
        description="Readers of the file are shown this often what has become complete.",
    )
    join_timeout_s: float = Field(
        default=60.0,
        ge=0.0,
        le=MAX_WAIT_S,
        description="How long a finish waits for joined clients to leave.",
    )
    peer_silence_s: float = Field(
        default=30.0,
        gt=0.0,
        le=MAX_WAIT_S,
        description="A client that says nothing for this long is forgotten; its scan waits for it "
        "to come back.",
    )
    resume_timeout_s: float = Field(
        default=259200.0,
        gt=0.0,
        le=MAX_WAIT_S,
        description="A scan whose clients have all been gone for this long (3 days) is closed as "
        '"interrupted", complete as far as it came; opened again by its id, it goes on. Never '
        "while a client is connected, and not within an hour of the daemon's start.",
    )
    stall_floor_s: float = Field(
        default=60.0,
        gt=0.0,
        le=MAX_WAIT_S,
        description="An instrument that sends nothing for this long has stalled, or for "
        "stall_factor times its pixel_time_s or the longest pause between its last blocks, "
        "whichever is longest. It is told, and nothing is ended.",
    )
    stall_factor: float = Field(
        default=10.0,
        ge=1.0,
        le=1e6,
        description="See stall_floor_s.",
    )
    io_stall_s: float = Field(
        default=10.0,
        gt=0.0,
        le=MAX_WAIT_S,
        description="A write, sync or flush that takes longer is told while it lasts.",
    )
    on_event: list[str] = Field(
        default=[],
        description="A command, as a list of words, that is run without a shell for each event "
        "that an operator may want to hear of, such as a scan's end or a stalled instrument; see "
        "docs/operating.md. Empty: none.",
    )
    on_event_timeout_s: float = Field(
        default=30.0,
        gt=0.0,
        le=3600.0,
        description="A command of on_event that takes longer is ended.",
    )
    shutdown_timeout_s: float = Field(
        default=60.0,
        gt=0.0,
        le=MAX_WAIT_S,
        description="How long a stop may take to close every scan, so that each can be resumed.",
    )

    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info",
        description="The least that the log tells. A day with info is a page; see "
        "docs/operating.md.",
    )
    log_format: Literal["auto", "console", "json"] = Field(
        default="auto",
        description="Lines for people (console) or for programs (json); auto is console where "
        "stderr is a terminal, and json elsewhere.",
    )

    @field_validator("on_event")
    @classmethod
    def _names_a_program(cls, value: list[str]) -> list[str]:
        if value and not value[0]:
            raise ValueError('must begin with a program, such as ["/usr/local/bin/tell-me"]')
        if any("\0" in word for word in value):
            raise ValueError("must hold no zero bytes")
        return value

    @field_validator("data_dir", mode="after")
    @classmethod
    def _is_named(cls, value: Path) -> Path:
        if value == Path():
            raise ValueError("must name a directory, such as /data/usidstream")
        return value.expanduser()

    @field_validator(
        "server_key_file",
        "client_keys_dir",
        "metrics_token_file",
        "dashboard_key_file",
        mode="after",
    )
    @classmethod
    def _is_where(cls, value: Path | None) -> Path | None:
        if value == Path():
            raise ValueError("must be a path; leave the option out for none")
        return None if value is None else value.expanduser()

    @field_validator("file_mode")
    @classmethod
    def _is_mode(cls, value: str) -> str:
        if not re.match(FILE_MODE_PATTERN, value, re.ASCII):
            raise ValueError(
                'must be digits of chmod such as "0640", with 6 for the daemon\'s own user and 0, '
                "2, 4 or 6 for group and others"
            )
        return value

    @field_validator("bind")
    @classmethod
    def _is_tcp(cls, value: str) -> str:
        port = value.rpartition(":")[2]
        if not re.match(BIND_PATTERN, value, re.ASCII) or int(port) > MAX_PORT:
            raise ValueError("must look like tcp://127.0.0.1:5755 (port 0 takes any free one)")
        return value

    @field_validator("telemetry", "metrics", "dashboard", mode="before")
    @classmethod
    def _is_port(cls, value: Any) -> Any:
        if value in ("auto", "off") or (type(value) is int and 0 <= value <= MAX_PORT):
            return value
        raise ValueError(f'must be a port from 0 to {MAX_PORT}, "auto" or "off" (default: "auto")')

    @field_validator("max_block_mb")
    @classmethod
    def _fits_window(cls, value: int, info: Any) -> int:
        window = info.data.get("credit_window_mb")
        if window is not None and value > window:
            raise ValueError(
                f"must not exceed credit_window_mb = {window}; lower it, or raise that"
            )
        return value

    @property
    def umask(self) -> int:
        """The process's umask, so that files get ``file_mode`` and directories can be entered."""
        mode = int(self.file_mode, 8)
        return 0o777 & ~(mode | (mode & 0o444) >> 2)

    @property
    def keys_dir(self) -> Path | None:
        """Where the keys of admitted clients are; None without keys."""
        if self.server_key_file is None:
            return None
        return self.client_keys_dir or self.server_key_file.parent / "clients"

    @property
    def is_open_to_all(self) -> bool:
        """Whether whoever reaches the port from another machine may write."""
        return self.server_key_file is None and not is_loopback(host_of(self.bind))

    def require_safe_bind(self) -> None:
        """Refuse to listen beyond this machine without keys unless the operator insists.

        Raises
        ------
        ConfigError
            If ``bind`` is not a loopback address, there are no keys and ``allow_insecure`` is
            false.
        """
        if self.allow_insecure or not self.is_open_to_all:
            return
        raise ConfigError(
            f"bind = {self.bind!r} would let anyone on the network write files here",
            hint="Give server_key_file (usidstreamd keygen makes it), bind to 127.0.0.1, or set "
            "allow_insecure = true on a network that you trust.",
        )


RELOADABLE = (
    "disk_reserve_mb",
    "max_clients",
    "max_scans",
    "max_connections_per_client",
    "max_scans_per_client",
    "client_rate_mb_per_s",
    "commit_interval_s",
    "flush_interval_s",
    "join_timeout_s",
    "peer_silence_s",
    "resume_timeout_s",
    "stall_floor_s",
    "stall_factor",
    "io_stall_s",
    "on_event",
    "on_event_timeout_s",
    "shutdown_timeout_s",
    "log_level",
)
"""What a running daemon takes up. None of these bounds what was promised to a client or is laid
out in memory, in a file or on a socket; the others hold from start to end."""

SECTIONS: Mapping[str, str] = MappingProxyType(
    {
        "memory_budget_mb": "memory",
        "disk_reserve_mb": "disk",
        "max_clients": "how many",
        "commit_interval_s": "how long, in seconds",
        "log_level": "the log",
    }
)
"""The headings of the shipped file, by the option that each stands above."""


def require(name: str) -> str:
    """Say in words what an option's value must be, with its bounds and its default."""
    field = Config.model_fields[name]
    default = "" if field.default_factory else f" (default: {show(field.default)})"
    if get_origin(field.annotation) is Literal:
        return f"must be {' or '.join(map(show, get_args(field.annotation)))}{default}"
    bounds = {
        key: getattr(rule, key)
        for rule in field.metadata
        for key in ("gt", "ge", "le")
        if getattr(rule, key, None) is not None
    }
    low = f"from {bounds['ge']:g}" if "ge" in bounds else f"over {bounds.get('gt', 0):g}"
    upto = ", up to" if "gt" in bounds else " to"
    within = f" {low}{upto} {bounds['le']:.10g}" if "le" in bounds else ""
    return f"must be {_KINDS.get(field.annotation, 'a string')}{within}{default}"


def show(value: Any) -> str:
    """Write a value as it stands in a TOML file."""
    if value is None:
        return "(none)"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | Path):
        return '"' + str(value).replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, list):
        return "[" + ", ".join(map(show, value)) + "]"
    return str(value)


_KINDS: Mapping[Any, str] = MappingProxyType(
    {
        int: "a whole number",
        float: "a number",
        bool: "true or false",
        list[str]: 'a list of words, such as ["/usr/local/bin/tell-me", "--chat"]',
    }
)
