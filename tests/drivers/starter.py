"""Starts whole runs from a warm process, and sends them signals: `warm_process` is that one.

A run behaves as a subprocess does: its own session, folder, environment and output. What only the
start of an interpreter reads from the environment is refused: such a run must be started cold.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

PROGRAM = Path(__file__).with_name("warm_process.py")
ENDING_SECONDS = 10.0
AT_THE_START = ("LANG", "LC_ALL", "LC_CTYPE")
"""Beside PYTHON*: what decides on the encoding of the standard streams."""


@dataclass(kw_only=True, slots=True)
class Started:
    """A run under way, or ended. `pid` leads its session and its process group."""

    pid: int
    _control: socket.socket
    output: Path
    status: int | None = None
    """The exit status once it was waited for, negative for a signal."""

    def send_signal(self, number: int) -> None:
        """Signal the run, if it has not ended yet: never a later process of the same number."""
        try:
            self._control.send(bytes([number]))
        except OSError:
            return

    def kill(self) -> None:
        """SIGKILL, unless it has ended."""
        self.send_signal(signal.SIGKILL)

    def wait(self, seconds: float) -> int:
        """The exit status. Kills the run after that time, with what it started.

        Raises TimeoutError.
        """
        if self.status is None:
            self._control.settimeout(seconds)
            try:
                self.status = _answer(self._control)["status"]
            except TimeoutError:
                self.close()
                raise TimeoutError(
                    f"expected the run to end within {seconds:.0f} s, it did not; it printed:\n"
                    + self.printed()
                ) from None
            self.close()
        return self.status

    def printed(self) -> str:
        """What it has printed until now."""
        return self.output.read_text(encoding="utf-8", errors="replace")

    def close(self) -> None:
        """Let go of the run. One that goes on is killed, with its process group."""
        self._control.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class Starter:
    """The warm process, begun with the first run; `with` ends it."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process is None:
            return
        self._orders.close()
        try:
            self._process.wait(ENDING_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def start(
        self,
        module: str,
        *arguments: str,
        folder: Path,
        environment: Mapping[str, str],
        output: Path,
        errors: Path | None = None,
        largest_file: int | None = None,
        with_ours: bool = False,
    ) -> Started:
        """Begin `python -m module arguments` in a folder.

        What it prints goes to the file `output`, what it writes to standard error too, unless there
        is a file for that. `largest_file` is the size in bytes beyond which it can write no file.
        `with_ours`: modules of this repository may be in its memory already.

        Raises ValueError where the environment holds what only the start of an interpreter reads.
        """
        if self._process is None:
            self._begin()
        elif self._process.poll() is not None:
            raise RuntimeError("expected the warm process to be there, it has ended")
        if wrong := _read_at_the_start(environment) ^ self._read_at_the_start:
            names = ", ".join(sorted({name for name, _ in wrong}))
            raise ValueError(f"expected {names} as the warm process has it; start this run cold")
        ours, theirs = socket.socketpair()
        with theirs:
            socket.send_fds(self._orders, [b"\0"], [theirs.fileno()])
        order = {
            "module": module,
            "arguments": arguments,
            "folder": str(folder),
            "environment": dict(environment),
            "output": str(output),
            "errors": None if errors is None else str(errors),
            "largest_file": largest_file,
            "with_ours": with_ours,
        }
        output.touch()
        ours.sendall(json.dumps(order).encode() + b"\n")
        return Started(pid=_answer(ours)["pid"], _control=ours, output=output)

    def _begin(self) -> None:
        self._read_at_the_start = _read_at_the_start(os.environ)
        self._orders, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, str(PROGRAM), str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                # Its libraries would start threads to calculate with, which no fork takes along.
                env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                start_new_session=True,
            )


def _read_at_the_start(environment: Mapping[str, str]) -> set[tuple[str, str]]:
    return {
        (name, value)
        for name, value in environment.items()
        if name in AT_THE_START or (name.startswith("PYTHON") and name != "PYTHONPATH")
    }


def _answer(control: socket.socket) -> dict[str, Any]:
    """The next line of the warm process. Raises RuntimeError where it ended, and TimeoutError."""
    received = b""
    while not received.endswith(b"\n"):
        # Not a byte more: the next line may be there already.
        if not (part := control.recv(1)):
            raise RuntimeError("expected an answer of the warm process, it ended")
        received += part
    answer: dict[str, Any] = json.loads(received)
    return answer
