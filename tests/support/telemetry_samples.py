"""What a daemon might tell its viewers: one message of a kind, for tests to change."""

from __future__ import annotations

import numpy as np

from support.wire_samples import SCAN
from usidstream import live

ENDPOINT = "tcp://127.0.0.1:5755"
BEAT = live.Heartbeat(
    daemon="usidstreamd 1",
    instance="a",
    time_s=1.0,
    uptime_s=9600.0,
    endpoint=ENDPOINT,
    data_dir="/data",
    ports={"data": 1},
    clients=1,
    memory_in_use_bytes=3 << 20,
    memory_budget_bytes=128 << 20,
    disk_free_bytes=5 << 30,
    disk_needed_bytes=1,
    disk_left_s=7200.0,
    write_bytes_per_s=float(1 << 20),
    sync_p50_s=0.002,
    sync_p99_s=0.02,
    scans={SCAN: "acquiring"},
    states={"acquiring": 1},
    warnings=[],
)
PROGRESS = live.Progress(
    scan=SCAN,
    time_s=1.0,
    name="Measurement",
    file="/data/sample.h5",
    state="acquiring",
    n_positions=4096,
    mains=["Raw"],
    positions_received=1100,
    positions_durable=1024,
    missing={"Raw": 3},
    rate_per_s=600.0,
    bytes_per_s=1e6,
    left_s=5.0,
    lag_s=0.045,
    lag_rows=76,
    recoveries=0,
    clients=1,
    blocks_refused=0,
    failure="",
    shortage="",
)
CLOSED = live.ScanClosed(
    scan=SCAN,
    time_s=5.0,
    name="Measurement",
    file="/data/sample.h5",
    state="ended",
    status="incomplete",
    failure="",
    n_positions=4096,
    positions_durable=4093,
    missing={"Raw": 3},
    ranges={"Raw": 0},
    frames=(np.array([[7, 10]], "<u8").tobytes(),),
)
