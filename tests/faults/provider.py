"""A provider in a process of its own, with scripted or seeded faults.

What it answers is `tests.servers.provider_server`'s and `tests.faults.replies`'; here is the
process, and its two pipes: orders on its standard input, what came to it on its standard output.

    with Provider(seed=7) as provider:
        provider.script(None, "503", "shuffled")   # the first three requests; None is healthy
        provider.trouble(0.3, *MALFORMED)          # then three of ten go wrong
        provider.when(4, killer.kill)              # held until the action has returned
"""

from __future__ import annotations

import argparse
import json
import queue
import random
import subprocess
import sys
import threading
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from tests.faults.replies import FAULTS, LEGAL
from tests.servers.provider_server import ProviderServer, Reply

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from tests.servers.provider_server import ReceivedRequest

REPOSITORY = Path(__file__).resolve().parents[2]
STOP_SECONDS = 10.0
HOLD_SECONDS = 30.0
OBEYED = {"obeyed": True}


@dataclass(frozen=True, kw_only=True, slots=True)
class Received:
    """A request as it came; `fault` is what it was answered with, None where it was healthy."""

    number: int
    key: str | None
    texts: tuple[str, ...]
    fault: str | None

    @property
    def paid(self) -> bool:
        """Whether its vectors could be used, if they arrived."""
        return self.fault is None or self.fault in LEGAL


class Provider:
    """The process, from this side. `base_url` is what `OPENAI_BASE_URL` takes."""

    def __init__(self, *, seed: int, pause: float = 0.0) -> None:
        """`pause` is what each healthy answer takes, in seconds."""
        self._arguments = [f"--seed={seed}", f"--pause={pause}"]
        self.received: list[Received] = []
        self.base_url = ""
        self._actions: dict[int, Callable[[Received], object]] = {}
        self._obeyed: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._writing = threading.Lock()

    def script(self, *faults: str | None) -> None:
        """What the next requests are answered with, in order of arrival; None is healthy."""
        self._order(script=list(faults))

    def trouble(self, share: float, *faults: str) -> None:
        """Answer that share of the other requests with one of the faults."""
        self._order(share=share, faults=list(faults))

    def trouble_for(self, key: str, fault: str) -> None:
        """Answer every request that comes with a key so."""
        self._order(by_key={key: fault})

    def when(self, number: int, action: Callable[[Received], object]) -> None:
        """Call the action when that request has come (from 1), before it is answered.

        It is called on the thread that obeys orders, and so can give none.
        """
        self._actions[number] = action
        self._order(hold=sorted(self._actions))

    def forget(self) -> None:
        """Do nothing at any request that is still to come."""
        self._actions.clear()
        self._order(hold=[])

    def calm(self) -> None:
        """Healthy answers from now on."""
        self._order(script=[], share=0.0, by_key={}, hold=[])

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.provider", *self._arguments],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self._process.stdout is not None
        first = self._process.stdout.readline()
        if not first:
            raise RuntimeError("expected the provider to announce its port, it ended")
        self.base_url = f"http://127.0.0.1:{json.loads(first)['port']}/v1"
        self._reader = threading.Thread(target=self._read, daemon=True, name="provider")
        self._reader.start()
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
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(STOP_SECONDS)
        self._process.stdout.close()

    def _order(self, **order: Any) -> None:
        """Give an order, and wait until it is obeyed: the next request comes after it."""
        self._write(**order)
        self._obeyed.get(timeout=STOP_SECONDS)

    def _write(self, **order: Any) -> None:
        assert self._process.stdin is not None
        with self._writing:
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            entry = json.loads(line)
            if entry == OBEYED:
                self._obeyed.put(None)
                continue
            received = Received(**{**entry, "texts": tuple(entry["texts"])})
            self.received.append(received)
            action = self._actions.pop(received.number, None)
            if action is not None:
                action(received)
                self._write(go=received.number)


class _Scripted(ProviderServer):
    """In the process: chooses what each request is answered with, and tells of it."""

    def __init__(self, *, seed: int, pause: float) -> None:
        super().__init__()
        self._random = random.Random(seed)
        self._pause = pause
        self._deciding = threading.Lock()
        self._count = 0
        self._script: deque[str | None] = deque()
        self._share = 0.0
        self._faults: list[str] = []
        self._by_key: dict[str, str] = {}
        self._held: dict[int, threading.Event] = {}

    def obey(self, order: dict[str, Any]) -> None:
        with self._deciding:
            if "script" in order:
                self._script = deque(order["script"])
            if "share" in order:
                self._share = order["share"]
                self._faults = order.get("faults", [])
            if "by_key" in order:
                self._by_key = order["by_key"]
            if "hold" in order:
                self._held = {number: threading.Event() for number in order["hold"]}
            if "go" in order and (held := self._held.get(order["go"])):
                held.set()
            if "go" not in order:
                print(json.dumps(OBEYED), flush=True)

    def receive(self, request: ReceivedRequest) -> Reply:
        with self._deciding:
            self._count += 1
            number = self._count
            fault = self._fault(request.key)
            reply = FAULTS[fault](self._random) if fault else Reply(pause=self._pause)
            held = self._held.get(number)
            print(
                json.dumps(
                    {
                        "number": number,
                        "key": request.key,
                        "texts": request.texts,
                        "fault": fault,
                    }
                ),
                flush=True,
            )
        if held is not None:
            held.wait(HOLD_SECONDS)
        return reply

    def _fault(self, key: str | None) -> str | None:
        if key in self._by_key:
            return self._by_key[key]
        if self._script:
            return self._script.popleft()
        if self._faults and self._random.random() < self._share:
            return self._random.choice(self._faults)
        return None


def main() -> None:
    """Serve until standard input closes. Announces `{"port": N}` first."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.provider", description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pause", type=float, default=0.0, help="seconds for each answer")
    options = parser.parse_args()
    with _Scripted(seed=options.seed, pause=options.pause) as server:
        print(json.dumps({"port": int(server.base_url.split(":")[2].split("/")[0])}), flush=True)
        for line in sys.stdin:
            server.obey(json.loads(line))


if __name__ == "__main__":
    main()
