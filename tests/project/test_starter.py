"""Holds runs that are forked from the warm process against what a subprocess promises."""

from __future__ import annotations

import json
import os
import signal
from typing import TYPE_CHECKING

import pytest

from conftest import PLUGINS
from tests.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.drivers.starter import Started, Starter

SECONDS = 60
TELLING = """
import json, os, signal, sys, threading
own = ("checks", "remediation", "reports", "demo", "tests", "conftest", "pytest_html", "xdist")
print(json.dumps({
    "session": os.getsid(0), "group": os.getpgrp(), "pid": os.getpid(),
    "folder": os.getcwd(), "environment": dict(os.environ), "arguments": sys.argv[1:],
    "path": sys.path[:2], "input": sys.stdin.read(),
    "own": [name for name in sys.modules if name.partition(".")[0] in own],
    "warm": "great_expectations" in sys.modules,
    "threads": threading.active_count(), "child": str(signal.getsignal(signal.SIGCHLD)),
    "interrupt": signal.getsignal(signal.SIGINT) is signal.default_int_handler,
    "terminate": str(signal.getsignal(signal.SIGTERM)),
    "descriptors": sorted(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else [],
}))
print("on standard error", file=sys.stderr)
"""
ENDING = """
import atexit, sys
atexit.register(print, "at the end")
print("not flushed", end=" ")
sys.exit(7)
"""
WAITING = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, flush=True)
time.sleep(600)
"""


def started(
    starter: Starter, folder: Path, program: str, *arguments: str, with_ours: bool = False
) -> Started:
    (folder / "program.py").write_text(program, encoding="utf-8")
    return starter.start(
        "program",
        *arguments,
        folder=folder,
        environment={**os.environ, "PYTHONPATH": "/nowhere", "ONLY": "here"},
        output=folder / "output.txt",
        errors=folder / "errors.txt",
        with_ours=with_ours,
    )


def is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_run_has_all_of_its_own_and_nothing_of_ours_in_memory(
    starter: Starter, tmp_path: Path
) -> None:
    with started(starter, tmp_path, TELLING, "--one", "two words") as run:
        assert run.wait(SECONDS) == 0, run.printed()
    told = json.loads(run.printed())
    assert told["session"] == told["group"] == told["pid"] == run.pid
    assert told["folder"] == str(tmp_path)
    expected = {**os.environ, "PYTHONPATH": "/nowhere", "ONLY": "here"}
    assert told["environment"] == expected
    assert told["arguments"] == ["--one", "two words"]
    assert told["path"] == [str(tmp_path), "/nowhere"]
    assert told["input"] == ""
    assert told["own"] == []
    assert told["warm"]
    assert told["threads"] == 1
    assert told["child"] == told["terminate"] == str(signal.SIG_DFL)
    assert told["interrupt"]
    # The three streams, and the folder that is being listed.
    assert len(told["descriptors"]) in (0, 4)
    assert (tmp_path / "errors.txt").read_text() == "on standard error\n"


def test_a_run_with_what_is_ours_finds_no_plugin_of_pytest_in_memory(
    starter: Starter, tmp_path: Path
) -> None:
    with started(starter, tmp_path, TELLING, with_ours=True) as run:
        assert run.wait(SECONDS) == 0, run.printed()
    own = json.loads(run.printed())["own"]
    assert "checks.examination.examination" in own
    assert not set(PLUGINS) & set(own)


def test_a_run_ends_with_its_own_status_and_last_words(starter: Starter, tmp_path: Path) -> None:
    with started(starter, tmp_path, ENDING) as run:
        assert run.wait(SECONDS) == 7
    assert run.printed() == "not flushed at the end\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_signal_ends_a_run_beside_another_one(
    starter: Starter, tmp_path: Path, number: signal.Signals
) -> None:
    (tmp_path / "other").mkdir()
    with (
        started(starter, tmp_path, WAITING) as run,
        started(starter, tmp_path / "other", ENDING) as other,
    ):
        assert other.wait(SECONDS) == 7
        wait_until(lambda: run.printed().endswith("\n"))
        run.send_signal(number)
        assert run.wait(SECONDS) == -number
        # Nobody else may have the number by then.
        run.send_signal(signal.SIGKILL)
    os.kill(int(run.printed()), signal.SIGKILL)


def test_a_run_that_hangs_is_killed_with_what_it_started(starter: Starter, tmp_path: Path) -> None:
    run = started(starter, tmp_path, WAITING)
    wait_until(lambda: run.printed().endswith("\n"))
    with pytest.raises(TimeoutError, match="expected the run to end within 0 s"):
        run.wait(0.1)
    # Whoever is nobody's child any more may stay on as a name in the list of processes.
    wait_until(lambda: not is_there(run.pid))


def test_what_only_a_start_reads_is_refused(starter: Starter, tmp_path: Path) -> None:
    output = tmp_path / "output.txt"
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    starter.start("this", folder=tmp_path, environment=os.environ, output=output).wait(SECONDS)
    with pytest.raises(ValueError, match="PYTHONHASHSEED as the warm process has it"):
        starter.start("this", folder=tmp_path, environment=environment, output=output)
