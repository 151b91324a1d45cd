"""The daemon's configuration: one TOML file, every option with a default.

It knows names, types, units and bounds; what the values mean is told in ``config/usidstream.toml``,
which a test compares with this model. It opens no socket and creates no file.
"""

from __future__ import annotations

import difflib
import ipaddress
import os
import tomllib
from pathlib import Path
from typing import Any

import platformdirs
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from usidstream import wire
from usidstream.errors import UsidstreamError


class ConfigError(UsidstreamError, ValueError):
    """The configuration cannot be used; the message names file, option and fix."""


def default_data_dir() -> Path:
    """Return where scans go unless told otherwise: the user's documents."""
    return Path(platformdirs.user_documents_dir()) / "usidstream"


def default_codec_threads() -> int:
    """Return one codec thread a core, at most eight."""
    return min(8, os.cpu_count() or 1)


class Config(BaseModel):
    """Every option of ``usidstreamd serve``. Units stand last in the names."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    data_dir: Path = Field(default_factory=default_data_dir)
    bind: str = f"tcp://127.0.0.1:{wire.DEFAULT_DATA_PORT}"
    allow_insecure: bool = False
    memory_budget_mb: int = Field(default=128, ge=1, le=1 << 20)
    credit_window_mb: int = Field(default=16, ge=1, le=1024)
    max_block_mb: int = Field(default=8, ge=1, le=1024)
    max_layout_mb: int = Field(default=256, ge=1, le=4096)
    disk_reserve_mb: int = Field(default=512, ge=1, le=1 << 30)
    row_segment_mb: int = Field(default=64, ge=1, le=4096)
    max_clients: int = Field(default=64, ge=1, le=4096)
    max_scans: int = Field(default=16, ge=1, le=1024)
    codec_threads: int = Field(default_factory=default_codec_threads, ge=1, le=64)
    commit_interval_s: float = Field(default=0.05, gt=0.0, le=60.0)
    flush_interval_s: float = Field(default=5.0, gt=0.0, le=3600.0)
    join_timeout_s: float = Field(default=60.0, ge=0.0)
    resume_timeout_s: float = Field(default=259200.0, gt=0.0)
    peer_silence_s: float = Field(default=30.0, gt=0.0)
    shutdown_timeout_s: float = Field(default=60.0, gt=0.0)

    @field_validator("bind")
    @classmethod
    def _is_tcp(cls, value: str) -> str:
        if not value.startswith("tcp://") or ":" not in value.removeprefix("tcp://"):
            raise ValueError("must look like tcp://127.0.0.1:5755 (port 0 takes any free one)")
        return value

    @field_validator("max_block_mb")
    @classmethod
    def _fits_window(cls, value: int, info: Any) -> int:
        window = info.data.get("credit_window_mb")
        if window is not None and value > window:
            raise ValueError(f"must not exceed credit_window_mb = {window}")
        return value

    def require_safe_bind(self) -> None:
        """Refuse to listen beyond this machine unless the operator insists.

        Raises
        ------
        ConfigError
            If ``bind`` is not a loopback address and ``allow_insecure`` is false.
        """
        if self.allow_insecure or _is_loopback(self.bind.removeprefix("tcp://")):
            return
        raise ConfigError(
            f"bind = {self.bind!r} would let anyone on the network write files here",
            hint="Bind to 127.0.0.1, or set allow_insecure = true on a network that you trust.",
        )


def load(path: Path | None, **overrides: Any) -> Config:
    """Read a configuration file and put ``overrides`` (those that are not None) over it.

    Raises
    ------
    ConfigError
        The file is missing, is not TOML, or an option is unknown or out of bounds; an unknown
        option brings the nearest valid name.
    """
    values = _read(path) if path else {}
    values |= {key: value for key, value in overrides.items() if value is not None}
    try:
        return Config(**values)
    except ValidationError as error:
        raise ConfigError(_explain(error, path), hint="See config/usidstream.toml.") from error


def _is_loopback(address: str) -> bool:
    host = address.rpartition(":")[0].strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name or "*": it may be reached from anywhere
        return False


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}", hint="Check --config.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not TOML: {error}", hint="Mend that line.") from error


def _explain(error: ValidationError, path: Path | None) -> str:
    where = str(path) if path else "options"
    return f"{where}: " + "; ".join(_explain_one(item) for item in error.errors())


def _explain_one(item: Any) -> str:
    name = ".".join(str(part) for part in item["loc"])
    if item["type"] != "extra_forbidden":
        return f"{name} = {item.get('input')!r}: {item['msg']}"
    near = difflib.get_close_matches(name, Config.model_fields, n=1, cutoff=0.4)
    return f"unknown option {name!r}" + (f", did you mean {near[0]!r}?" if near else "")
