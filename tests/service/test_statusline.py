"""The one line for a service manager."""

from __future__ import annotations

import pytest

from usidstreamd.statusline import GIB, RECOVERING, ScanStanding, standing_line

ACQUIRING = ScanStanding("acquiring")


@pytest.mark.parametrize(
    ("scans", "n_waiting", "shortage", "line"),
    [
        ([], 0, "", "0 scans open; 3.0 GiB free"),
        ([ACQUIRING, ACQUIRING], 0, "", "2 scans open (2 acquiring); 3.0 GiB free"),
        (
            [ACQUIRING, ScanStanding(RECOVERING, 10, 30), ScanStanding(RECOVERING, 5, 20)],
            4,
            "",
            "3 scans open (1 acquiring, 2 recovering); 15 of 50 chunks recovered; 4 waiting; "
            "3.0 GiB free",
        ),
        ([ScanStanding(RECOVERING)], 0, "full", "1 scans open (1 recovering); full"),
    ],
)
def test_the_line(scans: list[ScanStanding], n_waiting: int, shortage: str, line: str) -> None:
    assert standing_line(scans, n_waiting, 3 * GIB, shortage) == line
