"""The operator's command: real ones, those that hang, fail, flood and do not exist."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.daemon import wait_for
from usidstreamd.supervision.happenings import MAX_VARIABLE_CHARS, Happening, markdown_table
from usidstreamd.supervision.hook import (
    BURST_COUNT,
    CLOSE_TIMEOUT_S,
    MAX_OUTPUT_BYTES,
    MAX_RUNNING_COUNT,
    MAX_WAITING_COUNT,
    Hook,
)

SCAN = "ab" * 16
TELL = """
import json, os, sys
told = json.load(sys.stdin)
ours = ("USIDSTREAMD_", "NOTIFY")
told["variables"] = {k: v for k, v in os.environ.items() if k.startswith(ours)}
told["words"] = sys.argv[2:]
with open(sys.argv[1], "a") as file:
    file.write(json.dumps(told) + "\\n")
"""


def python(code: str, *words: object) -> list[str]:
    return [sys.executable, "-c", code, *map(str, words)]


class Told:
    """What commands have written into a file, and what the hook has logged."""

    def __init__(self, path: Path, caplog: pytest.LogCaptureFixture) -> None:
        self.path = path
        self._caplog = caplog
        self.hook = Hook([], 30.0)

    def run(self, command: list[str], timeout_s: float = 30.0) -> Hook:
        self.hook.command, self.hook.timeout_s = command, timeout_s
        return self.hook

    def lines(self) -> list[Any]:
        text = self.path.read_text() if self.path.exists() else ""
        return [json.loads(line) for line in text.splitlines(keepends=True) if line[-1] == "\n"]

    def await_line(self) -> Any:
        wait_for(self.lines, "the command to write a line")
        return self.lines()[-1]

    def await_problem(self, part: str) -> Any:
        """Return the facts of a line that tells of a problem with the command."""

        def found() -> list[Any]:
            return [
                record
                for record in list(self._caplog.records)
                if record.getMessage() in ("hook_failed", "hook_crowded")
                and part in getattr(record, "problem", "")
            ]

        wait_for(found, f"a problem with {part!r}")
        return found()[0]


@pytest.fixture
def told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Iterator[Told]:
    caplog.set_level(logging.WARNING, "usidstreamd")
    told = Told(tmp_path / "told", caplog)
    yield told
    told.hook.close()


def test_it_is_told_as_json_and_in_variables(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", "/not/for/commands")
    details = {"status": "incomplete", "missing": {"Raw": [[3, 7]]}, "seconds": 1.5}
    hook = told.run(python(TELL, told.path, "two words", "$HOME; rm *"))
    hook.post(Happening("finished", "it is over", SCAN, "be scan", "/data/a b.h5", details))
    line = told.await_line()
    assert line["words"] == ["two words", "$HOME; rm *"], "no shell has read them"
    assert line["event"] == "finished"
    assert line["scan"] == SCAN
    assert line["missing"] == {"Raw": [[3, 7]]}
    assert line["withheld"] == 0
    assert line["host"]
    assert abs(line["time_s"] - time.time()) < 60
    assert line["variables"] == {
        "USIDSTREAMD_EVENT": "finished",
        "USIDSTREAMD_TEXT": "it is over",
        "USIDSTREAMD_SCAN": SCAN,
        "USIDSTREAMD_NAME": "be scan",
        "USIDSTREAMD_FILE": "/data/a b.h5",
        "USIDSTREAMD_STATUS": "incomplete",
        "USIDSTREAMD_SECONDS": "1.5",
    }


def test_all_missing_ranges_are_told_however_many(told: Told) -> None:
    ranges = [[2 * n, 2 * n + 1] for n in range(200_000)]
    text = "x" * 10 * MAX_VARIABLE_CHARS + "\0"
    hook = told.run(python(TELL, told.path))
    hook.post(Happening("finished", text, SCAN, details={"missing": {"Raw": ranges}}))
    line = told.await_line()
    assert line["missing"]["Raw"] == ranges
    assert line["variables"]["USIDSTREAMD_TEXT"] == "x" * MAX_VARIABLE_CHARS


def test_without_a_command_no_thread_begins(told: Told) -> None:
    hook = told.run([])
    hook.post(Happening("failed", "no matter"))
    assert hook._threads == []


def test_what_nobody_documented_does_not_happen() -> None:
    with pytest.raises(KeyError):
        Happening("gremlins", "somewhere")


@pytest.mark.parametrize(
    ("command", "problem"),
    [
        (["/nowhere/to/be/found"], "FileNotFoundError"),
        (["."], "PermissionError"),
        (python("import sys; sys.exit(3)"), "it exited with 3"),
        (["bad\ud800word"], "UnicodeEncodeError"),
    ],
    ids=["missing", "directory", "failing", "unspeakable"],
)
def test_what_goes_wrong_is_logged_and_the_next_one_runs(
    told: Told, command: list[str], problem: str
) -> None:
    told.run(command).post(Happening("failed", "no matter", SCAN))
    told.await_problem(problem)
    told.run(python(TELL, told.path)).post(Happening("failed", "no matter", SCAN))
    assert told.await_line()["event"] == "failed"


def test_a_failing_commands_last_words_are_logged_and_its_flood_is_not(told: Told) -> None:
    code = "import sys; sys.stderr.write('x' * 10**6 + 'the end'); sys.exit(1)"
    told.run(python(code)).post(Happening("failed", "no matter", SCAN))
    output = told.await_problem("it exited with 1").output
    assert output.endswith("the end")
    assert len(output) <= MAX_OUTPUT_BYTES


@pytest.mark.skipif(sys.platform == "win32", reason="there are no process groups")
def test_a_command_that_hangs_is_ended_with_all_it_started(told: Told, tmp_path: Path) -> None:
    code = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(1000)'])\n"
        f"open({str(tmp_path / 'pid')!r}, 'w').write(f'{{child.pid}}\\n')\n"
        "time.sleep(1000)"
    )
    pid_file = tmp_path / "pid"
    hook = told.run(python(code), timeout_s=1.5)
    hook.post(Happening("stalled", "no matter", SCAN))
    wait_for(lambda: pid_file.exists() and pid_file.read_text().endswith("\n"), "the child")
    told.await_problem("it took longer than 1.5 s and was ended")
    wait_for(lambda: not _is_alive(int(pid_file.read_text())), "the child's end")


def _is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"  # nobody may be left to bury it


def test_one_that_reads_nothing_is_not_waited_for(told: Told) -> None:
    big = {"missing": {"Raw": [[n, n + 1] for n in range(0, 200_000, 2)]}}
    told.run(python("")).post(Happening("finished", "no matter", SCAN, details=big))
    told.run(python(TELL, told.path)).post(Happening("finished", "no matter", SCAN))
    told.await_line()


def test_few_run_at_a_time_few_wait_and_nobody_waits_to_post(told: Told, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    code = f"{TELL}\nimport pathlib, time\nwhile not pathlib.Path({str(gate)!r}).exists():\n"
    hook = told.run(python(code + "    time.sleep(0.01)", told.path))
    begun = time.monotonic()
    for number in range(MAX_WAITING_COUNT + 20):
        hook.post(Happening("finished", "no matter", f"{number:032x}"))
    assert time.monotonic() - begun < 5
    wait_for(lambda: len(told.lines()) == MAX_RUNNING_COUNT, "the first commands")
    told.await_problem("")
    assert len(told.lines()) == MAX_RUNNING_COUNT
    hook.timeout_s = 0.01
    gate.touch()


def test_what_comes_too_often_is_withheld_and_other_things_are_not(told: Told) -> None:
    hook = told.run(python(TELL, told.path))
    for _ in range(BURST_COUNT + 10):
        hook.post(Happening("stalled", "flapping", SCAN))
    hook.post(Happening("finished", "news", SCAN))
    wait_for(lambda: len(told.lines()) == BURST_COUNT + 1, "all of them")
    hook.close(timeout_s=30)
    events = sorted(line["event"] for line in told.lines())
    assert events == ["finished"] + ["stalled"] * BURST_COUNT


def test_close_lets_what_waits_run_and_ends_what_hangs(told: Told) -> None:
    hook = told.run(python(TELL, told.path))
    for number in range(4):
        hook.post(Happening("finished", "no matter", f"{number:032x}"))
    hook.close(timeout_s=30)
    assert len(told.lines()) == 4
    hanging = Hook(python("import time; time.sleep(1000)"), 1000.0)
    hanging.post(Happening("finished", "no matter"))
    wait_for(lambda: hanging._running, "the command to start")
    begun = time.monotonic()
    hanging.close()
    assert time.monotonic() - begun < CLOSE_TIMEOUT_S + 10
    wait_for(lambda: not hanging._running, "its end")
    hanging.post(Happening("finished", "too late"))
    assert hanging._tasks.empty()


def test_every_happening_stands_in_the_operators_guide() -> None:
    root = Path(__file__).resolve().parents[2]
    text = (root / "docs" / "operating.md").read_text("utf-8")
    table = text.split("<!-- happenings -->\n")[1].split("<!-- end of happenings -->")[0]
    assert table == markdown_table(), "run: python config/generate.py"


def test_commands_inherit_the_daemons_environment(
    told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "1000")
    code = "import json, os, sys; print(json.dumps(dict(os.environ)), file=open(sys.argv[1], 'w'))"
    told.run(python(code, told.path)).post(Happening("failed", "no matter", SCAN))
    variables = told.await_line()
    assert variables["PATH"] == os.environ["PATH"]
    assert "WATCHDOG_USEC" not in variables
