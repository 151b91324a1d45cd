"""How the whole suite is run: on every core, unless it is told otherwise.

Only a run of everything is spread over processes. A folder, a file or a test runs in one process,
where `print`, a debugger and fixtures that many tests share are at hand; ``-n`` has the last word
either way.
"""

from __future__ import annotations

import os
import signal
import sys

import pytest
from hypothesis import HealthCheck, settings

WORKERS_PER_CORE = 2
"""Many tests wait for a daemon, a timer or a disk and not for a core."""
MAX_WORKERS_COUNT = 16
BEGIN_WITH = ("telemetry", "supervision", "faults")
"""Folders whose files take longest: one of them alone at the end would leave cores with no work."""
INTERRUPTED_EVERY = 31
"""Places, of some thousands in tests/client/test_interrupts.py."""
MANY_EXAMPLES = 3000
"""Instead of hypothesis' own hundred."""

_FOR_ONE_PROCESS = ("usepdb", "collectonly", "keyword", "lf", "benchmark_enable")

# Hundreds of processes are started. None is to compile all modules anew, or to have NumPy start a
# thread a core for matrices that nobody multiplies: that is a quarter of what a start costs.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# A shell's background job ignores Ctrl-C, and so would every command whose Ctrl-C is tested.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# How fast an example runs says something of the machine only; pytest-timeout ends what hangs.
settings.register_profile(
    "usidstream", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
# Of `pytest --hypothesis-profile many tests/wire`, for whoever changes what is tried so.
settings.register_profile("many", settings.get_profile("usidstream"), max_examples=MANY_EXAMPLES)
settings.load_profile("usidstream")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--interrupt-every",
        type=int,
        default=INTERRUPTED_EVERY,
        help="a program is interrupted at every how-manyth place that can be; 1: at all of them",
    )


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


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Let the processes of a run of everything begin with what takes longest."""
    if hasattr(config, "workerinput"):
        first = [config.rootpath / "tests" / folder for folder in BEGIN_WITH]
        items.sort(key=lambda item: item.path.parent not in first)


def _is_of_everything(config: pytest.Config) -> bool:
    wants_one_process = config.getoption("capture") == "no" or any(
        config.getoption(name, False) for name in _FOR_ONE_PROCESS
    )
    is_worker = hasattr(config, "workerinput")
    return config.args == config.getini("testpaths") and not wants_one_process and not is_worker
