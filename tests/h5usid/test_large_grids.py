"""A scan of 4096 x 4096 positions: linear cost, flat memory, opened by a few rows.

Memory is what the kernel counted for a process of its own.
"""

import subprocess
import sys

import pytest

PEAK = """
import re
from pathlib import Path
peak = re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())
print(int(peak[1]) / 1024)
"""

WRITE = """
import h5py, numpy as np, sys
import usidstreamd.h5usid as usid
path, size = sys.argv[1], int(sys.argv[2])
with h5py.File(path, "w", libver=("v110", "v110")) as file:
    values = np.linspace(-0.5, 0.5, size)
    usid.write_main_dataset(
        usid.create_indexed_group(file, "Measurement"), (size * size, 4), "Raw_Data", "Current",
        "nA", [usid.Dimension("Cols", "um", values), usid.Dimension("Rows", "um", values)],
        usid.Dimension("Bias", "V", 4), dtype="f4", chunks=(4096, 4), compression="gzip",
    )
"""

READ = """
import h5py, numpy as np, sys
import usidstreamd.h5usid as usid
path, size = sys.argv[1], int(sys.argv[2])
with h5py.File(path, "r") as file:
    h5_main = usid.USIDataset(file["Measurement_000/Raw_Data"])
    assert h5_main.pos_dim_labels == ["Rows", "Cols"]
    assert h5_main.pos_dim_sizes == [size, size]
    assert h5_main.get_pos_values("Rows").shape == (size,)
    spectrum, success = h5_main.slice({"Rows": size // 2, "Cols": 7})
    assert success and spectrum.shape == (4,)
    line, success = h5_main.slice({"Rows": 3, "Bias": 1})
    assert success and line.shape == (size,)
    assert h5_main.h5_pos_inds[-1].tolist() == [size - 1, size - 1]
"""


READ_MAP = """
    current, success = h5_main.slice({"Bias": 1})
    assert success and current.shape == (size, size)
"""


def run(program, path, size):
    done = subprocess.run(
        [sys.executable, "-c", program + PEAK, path, str(size)],
        check=True,
        capture_output=True,
        text=True,
    )
    return float(done.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_memory_does_not_grow_with_the_grid(tmp_path):
    path = tmp_path / "large.h5"
    small = run(WRITE, tmp_path / "small.h5", 64)
    for program, most in ((WRITE, 60), (READ, 60), (READ + READ_MAP, 64 + 60)):
        peak_mib = run(program, path, 4096)
        assert peak_mib < 150
        assert peak_mib < small + most
    assert path.stat().st_size < 5_000_000
