"""``usidstreamd merge`` as a user runs it, on scans of a real daemon."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from support.daemon import Daemon, command
from support.feedfiles import main_datasets
from support.merge_files import everything, finished, scan_id, stored
from usidstream import connect
from usidstream.feeds import Feed, preset
from usidstream.feeds.simulate import run as simulate

FEEDS = {"afm": (16, 16), "timeseries": (16, 16), "raman": (4, 4)}


def acquire(folder: Path) -> dict[str, tuple[Feed, Path]]:
    """Run scans of several channels, of columns, and one that ends early."""
    done = {}
    with Daemon(folder) as daemon, connect(daemon.endpoint) as client:
        for name, size in FEEDS.items():
            feed = preset(name, size=size)
            with client.open_scan(feed.layout, name) as scan:
                if name == "raman":
                    scan.write_block(0, feed.values("Raw_Data", np.arange(9)))
                else:
                    simulate(scan, feed)
                result = scan.finish()
            done[name] = (feed, Path(result.file))
            assert result.status == ("incomplete" if name == "raman" else "complete")
    return done


def test_a_day_of_scans_in_one_file(tmp_path: Path) -> None:
    scans, session = acquire(tmp_path / "data"), tmp_path / "day.h5"
    paths = [path for _, path in scans.values()]
    told = command("usidstreamd", "merge", session, *paths)
    assert told.returncode == 0, told.stderr
    assert told.stdout.splitlines() == [
        *(f"/Measurement_{n:03d}: /Measurement_000 of {path}" for n, path in enumerate(paths)),
        told.stdout.splitlines()[-1],
    ]
    assert told.stdout.splitlines()[-1].startswith(f"{session}: 3 merged, ")
    assert all(": " in line and "\x1b" not in line for line in told.stderr.splitlines())
    pyusid = pytest.importorskip("pyUSID")
    with h5py.File(session) as h5_session:
        for number, (feed, path) in enumerate(scans.values()):
            with h5py.File(path) as h5_file:
                for dataset in main_datasets(h5_file, feed).values():
                    name = dataset.name.replace("Measurement_000", f"Measurement_{number:03d}")
                    assert stored(h5_session[name]) == stored(dataset)
                    main = pyusid.USIDataset(h5_session[name])
                    np.testing.assert_array_equal(main[()], dataset[()])
    assert command("usidstreamd", "verify", session).returncode == 0
    tree = command("usidstreamd", "tree", session).stdout
    assert [f"├ Measurement_00{n}" in tree for n in range(4)] == [True, True, True, False]


def test_json_and_exit_codes(tmp_path: Path) -> None:
    session, paths = tmp_path / "day.h5", [finished(tmp_path / "s", scan_id(n)) for n in range(2)]
    told = command("usidstreamd", "merge", session, *paths, "--json")
    assert (told.returncode, told.stderr) == (0, "")
    plain = json.loads(told.stdout)
    assert plain["session"] == str(session)
    assert [entry["group"] for entry in plain["merged"]] == ["/Measurement_000", "/Measurement_001"]
    assert plain["merged"][1] == {
        "file": str(paths[1]),
        "source_group": "/Measurement_000",
        "group": "/Measurement_001",
        "scan_id": scan_id(1),
        "mains": [f"/Measurement_001/Channel_{n:03d}/{name}" for n, name in enumerate("ABC")],
    }
    before = everything(tmp_path)
    again = command("usidstreamd", "merge", session, paths[0])
    assert again.returncode == 1
    assert "is merged already, as /Measurement_000. Leave this file out." in again.stderr
    same = command("usidstreamd", "merge", session, session)
    assert (same.returncode, "is the session itself" in same.stderr) == (2, True)
    assert everything(tmp_path) == before
