"""A real systemd of one's own: a user manager in namespaces that end with the test.

It sees the machine's files, but for ``/run`` and ``/srv``, which are its own and empty. What it
needs is root, and a kernel that lets it; where it does not come up, tests are skipped and say why.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

MANAGER = "/lib/systemd/systemd"
NAMESPACES = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
STANDARD_UNITS = ["basic", "default", "sockets", "timers", "paths", "shutdown", "exit"]
BEGIN = """
mount -t tmpfs none /run && mount -t tmpfs none /srv || exit 1
mkdir -p /run/systemd/system /run/user && chmod 700 /run/user
export XDG_RUNTIME_DIR=/run/user SYSTEMD_UNIT_PATH={units}
{manager} --user --unit=basic.target >{units}/log 2>&1 &
for _ in $(seq 100); do systemctl --user is-active -q basic.target && break; sleep 0.1; done
"""


class Systemd:
    """A running manager.

    Parameters
    ----------
    units
        An empty directory for its units.
    """

    def __init__(self, units: Path) -> None:
        if not Path(MANAGER).exists() or shutil.which("unshare") is None:
            pytest.skip("systemd or unshare are not installed")
        for name in STANDARD_UNITS:
            unit = Path(f"/usr/lib/systemd/user/{name}.target")
            if unit.exists():
                shutil.copy(unit, units)
        self._shell = subprocess.Popen(
            [*NAMESPACES, "bash"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            state = self.run(BEGIN.format(units=units, manager=MANAGER) + "\n:")
            if self.run("systemctl --user is-active basic.target").strip() != "active":
                pytest.skip(f"systemd does not run in namespaces here: {state}")
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Systemd:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(self, script: str) -> str:
        """Run a script beside the manager; return what it printed."""
        assert self._shell.stdin is not None
        assert self._shell.stdout is not None
        try:
            self._shell.stdin.write(f"{{ {script}\n}} 2>&1; echo; echo end-of-script\n")
            self._shell.stdin.flush()
        except BrokenPipeError:
            pytest.skip("namespaces cannot be made here")
        lines = list(iter(self._shell.stdout.readline, "end-of-script\n"))
        if lines and not lines[-1]:
            pytest.skip(f"namespaces cannot be made here: {''.join(lines)}")
        return "".join(lines).rstrip("\n")

    def show(self, unit: str, name: str) -> str:
        """Return a property of a unit."""
        return self.run(f"systemctl --user show -p {name} --value {unit}")

    def close(self) -> None:
        """End it, and everything that it has started."""
        self._shell.kill()
        self._shell.communicate()
