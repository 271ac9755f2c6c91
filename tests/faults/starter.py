"""Starts runs of pytest from a process that has the slow imports behind it.

A run is `python -m pytest …` in a process and a group of its own, as ever; only Great Expectations
and its like (seconds of each start) are in its memory already. Nothing of this project is.
"""

from __future__ import annotations

import gc
import json
import os
import runpy
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

REPOSITORY = Path(__file__).resolve().parents[2]
SLOW = ("great_expectations", "pandas", "openai", "psycopg", "pgvector.psycopg", "altair")
"""What a run imports of others; one that is not installed is none of ours."""


@dataclass(kw_only=True, slots=True)
class Started:
    """A run under way. `pid` leads its process group."""

    pid: int


class Starter:
    """One run at a time; `with` ends the process."""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.starter"],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def start(
        self,
        arguments: Sequence[str],
        *,
        folder: Path,
        environment: Mapping[str, str],
        output: Path,
    ) -> Started:
        """Begin a run of pytest from a folder; what it prints goes to the file `output`."""
        assert self._process.stdin is not None
        order = {
            "arguments": list(arguments),
            "folder": str(folder),
            "environment": dict(environment),
            "output": str(output),
        }
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return Started(pid=self._answer()["pid"])

    def wait(self, started: Started, seconds: float) -> int:
        """The run's exit status, negative for a signal. Kills the run after that time.

        Raises TimeoutError.
        """
        late = threading.Event()

        def end() -> None:
            late.set()
            os.killpg(started.pid, 9)

        timer = threading.Timer(seconds, end)
        timer.start()
        try:
            status: int = self._answer()["status"]
        finally:
            timer.cancel()
        if late.is_set():
            raise TimeoutError(f"expected the run to end within {seconds:.0f} s, it did not")
        return status

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("expected an answer of the process that starts runs, it ended")
        answer: dict[str, Any] = json.loads(line)
        return answer


def main() -> None:
    """Import what is slow, then start a run for each line of standard input."""
    for name in SLOW:
        try:
            __import__(name)
        except ImportError:
            continue
    assert threading.active_count() == 1, threading.enumerate()
    # What is there now is never garbage: no run shall copy it only to find that out.
    gc.freeze()
    for line in sys.stdin:
        order = json.loads(line)
        child = os.fork()
        if child == 0:
            _run(order)
        print(json.dumps({"pid": child}), flush=True)
        _, status = os.waitpid(child, 0)
        print(json.dumps({"status": os.waitstatus_to_exitcode(status)}), flush=True)


def _run(order: dict[str, Any]) -> None:
    """Become the run. Leaves by SystemExit, as `python -m pytest` does."""
    os.setsid()
    os.chdir(order["folder"])
    os.environ.clear()
    os.environ.update(order["environment"])
    printed = os.open(order["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for own, descriptor in ((nothing, 0), (printed, 1), (printed, 2)):
        os.dup2(own, descriptor)
    sys.stdin = os.fdopen(0, closefd=False)
    sys.path[0] = order["folder"]
    sys.argv = ["pytest", *order["arguments"]]
    runpy.run_module("pytest", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
