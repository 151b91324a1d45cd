"""How the whole suite is run: on every core, unless it is told otherwise.

Only a run of everything is spread over processes. A folder, a file or a test runs in one process,
where `print`, a debugger and fixtures that many tests share are at hand; ``-n`` has the last word
either way.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

WORKERS_PER_CORE = 2
"""Many tests wait for a daemon, a timer or a disk and not for a core."""
MAX_WORKERS_COUNT = 16

_FOR_ONE_PROCESS = ("usepdb", "collectonly", "keyword", "lf", "benchmark_enable")

# How fast an example runs says something of the machine only; pytest-timeout ends what hangs.
settings.register_profile(
    "usidstream", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("usidstream")


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Spread a run of everything over processes; xdist, if it is there, reads what is set here."""
    option = config.option
    if _is_of_everything(config) and getattr(option, "numprocesses", 0) is None:
        option.numprocesses = min(MAX_WORKERS_COUNT, WORKERS_PER_CORE * (os.cpu_count() or 1))
        # Whole files stay together, so that what a module's tests share is made once.
        option.dist = "loadfile"
        # As they stand: by their numbers of tests, the few slow trials with kills would come last.
        option.loadscopereorder = False


def _is_of_everything(config: pytest.Config) -> bool:
    wants_one_process = config.getoption("capture") == "no" or any(
        config.getoption(name, False) for name in _FOR_ONE_PROCESS
    )
    is_worker = hasattr(config, "workerinput")
    return config.args == config.getini("testpaths") and not wants_one_process and not is_worker
