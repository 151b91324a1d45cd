"""The format layer against pyUSID: time and peak memory on grids of growing size.

Run as a script: ``python tests/benchmarks/bench_h5usid.py [--json] [--repeat 3] [GRID ...]``, where
a grid is ``512x512x8``: rows, columns, spectroscopic steps. Creating and reading run in processes
of their own, ours and theirs in turn; times are medians, memory is the peak of the whole process so
far, of which the array of a map is a part. Mains are empty: what is measured is what the format
costs, not the data. Not part of the tests.
"""

# ruff: noqa: T201 - a script prints

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

GRIDS = ("512x512x8", "2048x2048x8", "4096x4096x1")
PACKAGES = ("usidstream", "pyUSID")


def load(package):
    """Import one of the packages; numpy 2 lacks a name that pyUSID calls."""
    if package == "usidstream":
        import usidstreamd.h5usid as usid

        return usid
    import numpy as np

    warnings.simplefilter("ignore")
    np.product = np.prod
    import pyUSID

    return pyUSID


def create(package, path, rows, columns, steps):
    """Create the empty main of a grid; return its seconds and the peak memory."""
    import h5py
    import numpy as np

    usid = load(package)
    dimension = usid.write_utils.Dimension
    began = time.perf_counter()
    with h5py.File(path, "w", libver=("v110", "v110")) as file:
        usid.hdf_utils.write_main_dataset(
            file,
            (rows * columns, steps),
            "Raw_Data",
            "Current",
            "nA",
            [
                dimension("Cols", "um", np.linspace(-0.5, 0.5, columns)),
                dimension("Rows", "um", np.linspace(-0.5, 0.5, rows)),
            ],
            dimension("Bias", "V", steps),
            dtype=np.float32,
            chunks=(4096, steps),
            compression="gzip",
        )
    return {"create_s": time.perf_counter() - began, "create_MiB": peak_mib()}


def read(package, path, rows, columns, steps):
    """Open the main of a grid, read a spectrum and a map; return the seconds and peak of each."""
    import h5py

    usid, took = load(package), {}

    def measured(name, action):
        began = time.perf_counter()
        result = action()
        took.update({f"{name}_s": time.perf_counter() - began, f"{name}_MiB": peak_mib()})
        return result

    with h5py.File(path, "r") as file:
        h5_main = measured("open", lambda: usid.USIDataset(file["Raw_Data"]))
        measured("row", lambda: h5_main.slice({"Rows": rows // 2, "Cols": columns // 3}))
        measured("map", lambda: h5_main.slice({"Bias": steps // 2}))
    return took


def peak_mib():
    """Return the peak memory of this process as the kernel counted it, in MiB."""
    import psutil

    status = Path("/proc/self/status")
    if not status.exists():
        return psutil.Process().memory_info().peak_wset / 2**20
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def measure_here(step, package, path, grid):
    """Run one step in this process and print what it took."""
    sizes = [int(size) for size in grid.split("x")]
    print(json.dumps({"create": create, "read": read}[step](package, path, *sizes)))


def measure(step, package, path, grid):
    """Run one step in a process of its own."""
    command = [sys.executable, __file__, "--step", step, package, str(path), grid]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def compare(grid, repeat):
    """Return for each package the medians of all measurements on a grid."""
    found = {package: [] for package in PACKAGES}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(repeat):
            for package in PACKAGES:
                path = Path(folder) / f"{package}.h5"
                took = measure("create", package, path, grid)
                took |= measure("read", package, path, grid)
                took["file_MB"] = path.stat().st_size / 1e6
                found[package].append(took)
    return {
        package: {key: statistics.median(run[key] for run in runs) for key in runs[0]}
        for package, runs in found.items()
    }


def report(grid, found):
    """Print the comparison of a grid as a table."""
    ours, theirs = (found[package] for package in PACKAGES)
    print(f"\n{grid:<14}{PACKAGES[0]:>14}{PACKAGES[1]:>14}{'ratio':>10}")
    for key, value in ours.items():
        ratio = theirs[key] / value if value > 0 else float("inf")
        print(f"  {key:<12}{value:>14.4g}{theirs[key]:>14.4g}{ratio:>10.1f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("grids", nargs="*", default=GRIDS, metavar="GRID")
    parser.add_argument("--repeat", type=int, default=1, help="medians of so many runs")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON only")
    parser.add_argument("--step", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.step:
        measure_here(*arguments.step)
        return
    figures = {}
    for grid in arguments.grids:
        figures[grid] = compare(grid, arguments.repeat)
        if not arguments.json:
            report(grid, figures[grid])
    if arguments.json:
        print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
