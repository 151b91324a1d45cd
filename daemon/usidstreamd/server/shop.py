"""What all scans of a daemon share, made and changed as the configuration has it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from .. import storage
from ..assembly import BufferPool
from ..conditions import Warnings
from ..config import Config
from ..pipeline import UNDERWAY_BYTES_PER_ENCODER
from ..rates import Durations
from ..scan import Scan, Shop
from ..session import SessionLimits
from ..supervision.iowatch import IoWatch
from ..threads import show_thread_name

MIB = 1 << 20


def make_shop(
    config: Config,
    *,
    post: Callable[[tuple[Scan, Any]], None],
    warnings: Warnings,
    note_sync: storage.SyncObserver,
    io_watch: IoWatch,
) -> Shop:
    """Make it, with its codec threads; see `Shop`."""
    return Shop(
        data_dir=config.data_dir,
        finished=storage.FinishedScans(config.data_dir),
        pool=BufferPool(config.memory_budget_mb * MIB),
        encoders=ThreadPoolExecutor(config.codec_threads, "codec", initializer=show_thread_name),
        limits=_session_limits(config),
        flush_interval_s=config.flush_interval_s,
        segment_bytes=config.row_segment_mb * MIB,
        underway_bytes=UNDERWAY_BYTES_PER_ENCODER * config.codec_threads,
        post=post,
        warnings=warnings,
        commit_times=Durations(),
        note_sync=note_sync,
        io_watch=io_watch,
    )


def adjusted(shop: Shop, config: Config) -> Shop:
    """Return it with the intervals and time-outs of another configuration."""
    return replace(shop, limits=_session_limits(config), flush_interval_s=config.flush_interval_s)


def _session_limits(config: Config) -> SessionLimits:
    return SessionLimits(
        credit_window_bytes=config.credit_window_mb * MIB,
        max_block_bytes=config.max_block_mb * MIB,
        commit_interval_s=config.commit_interval_s,
        join_timeout_s=config.join_timeout_s,
        resume_timeout_s=config.resume_timeout_s,
    )
