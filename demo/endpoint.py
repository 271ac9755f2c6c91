"""Runs an offline, OpenAI-compatible embeddings endpoint on loopback, in its own process.

Starts it, waits for it, ends it; `demo.answers` has the answers. Puts no key on a command line.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import select
import socket
import subprocess
import sys
import tempfile
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from checks.redaction import redactor
from demo.answers import Stats, application
from demo.embedding import DIMENSIONS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

KEYS_VARIABLE = "DEMO_ENDPOINT_KEYS"
"""Holds a JSON object, tenant to key: a command line would show the keys to every user (`ps`)."""

START_TIMEOUT = 30.0
STOP_TIMEOUT = 5.0
"""Seconds."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordedRequest:
    """A text that came to the endpoint, and the tenant whose key it came with."""

    tenant: str
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Running:
    """A started endpoint. `base_url` is what an OpenAI client takes, `/v1` included."""

    base_url: str
    port: int
    record: Path | None = None

    def stats(self) -> Stats:
        """What was asked so far. Raises OSError if the endpoint is gone."""
        # http.client takes no proxy from the environment; loopback must not leave the machine.
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=START_TIMEOUT)
        try:
            connection.request("GET", "/stats")
            return Stats.model_validate_json(connection.getresponse().read())
        finally:
            connection.close()

    def sent(self) -> tuple[RecordedRequest, ...]:
        """Every text that came with a known key, in order; needs `endpoint(..., record=PATH)`."""
        if self.record is None:
            raise ValueError("expected an endpoint that records, found none; pass record=PATH")
        lines = self.record.read_text(encoding="utf-8").splitlines() if self.record.exists() else []
        entries = [json.loads(line) for line in lines]
        return tuple(
            RecordedRequest(tenant=e["tenant"], text=text) for e in entries for text in e["texts"]
        )


@contextmanager
def endpoint(
    keys: Mapping[str, str],
    *,
    latency: float = 0.0,
    vectors_of: str | None = None,
    record: Path | None = None,
) -> Iterator[Running]:
    """Run the endpoint in a process of its own until the block, or the parent process, ends.

    `keys` is tenant to API key. `latency` is added to each request, in seconds. `vectors_of` names
    the model whose vectors are given whatever model is asked for, as if swapped in silence.
    `record` is a file that each accepted request's texts are appended to. At the end, requests in
    progress have twice `STOP_TIMEOUT` seconds. Raises RuntimeError if the process
    does not announce its port in `START_TIMEOUT` seconds.
    """
    for key in keys.values():
        redactor.add(key)
    command = [sys.executable, "-m", "demo.endpoint", "--port=0", "--until-stdin-closes"]
    command.append(f"--latency={latency}")
    if vectors_of is not None:
        command.append(f"--vectors-of={vectors_of}")
    if record is not None:
        command.append(f"--record={record}")
    with tempfile.TemporaryFile("w+", encoding="utf-8") as errors:
        process = subprocess.Popen(  # noqa: S603 - our own module, no shell
            command,
            cwd=Path(__file__).parents[1],
            env={**os.environ, KEYS_VARIABLE: json.dumps(dict(keys))},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            # Ctrl-C in a terminal reaches the whole group; the parent decides when this one ends.
            start_new_session=True,
        )
        try:
            port = _announced_port(process)
            if port is None:
                errors.seek(0)
                said = redactor.clean(errors.read())[-2000:]
                raise RuntimeError(
                    f"expected the offline endpoint to start in {START_TIMEOUT:.0f} s, it did not;"
                    f" it wrote: {said or 'nothing'}"
                )
            running = Running(base_url=f"http://127.0.0.1:{port}/v1", port=port, record=record)
            running.stats()
            yield running
        finally:
            _end(process)


def _announced_port(process: subprocess.Popen[str]) -> int | None:
    assert process.stdout is not None
    readable, _, _ = select.select([process.stdout], [], [], START_TIMEOUT)
    line = process.stdout.readline() if readable else ""
    return int(json.loads(line)["port"]) if line else None


def _end(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.close()
    for stop in (process.terminate, process.kill):
        try:
            process.wait(STOP_TIMEOUT)
            break
        except subprocess.TimeoutExpired:
            stop()
    process.wait()
    process.stdout.close()


def main(arguments: list[str] | None = None) -> int:
    """Serve until interrupted. Announces `{"port": N}` on the first line of standard output."""
    parser = argparse.ArgumentParser(prog="python -m demo.endpoint", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 (the default): any free one")
    parser.add_argument("--keys-file", type=Path, help=f"JSON, tenant to key; or ${KEYS_VARIABLE}")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds added to each request")
    parser.add_argument("--vectors-of", choices=sorted(DIMENSIONS), help="answer as this model")
    parser.add_argument("--record", type=Path, help="append the texts of each request to this file")
    parser.add_argument("--until-stdin-closes", action="store_true", help="end with the parent")
    options = parser.parse_args(arguments)
    written = options.keys_file.read_text() if options.keys_file else os.environ.get(KEYS_VARIABLE)
    if not written:
        parser.error(f"expected the tenants' keys, found none; use --keys-file or {KEYS_VARIABLE}")

    import uvicorn

    answers = application(
        json.loads(written),
        latency=options.latency,
        vectors_of=options.vectors_of,
        record=options.record,
    )
    server = uvicorn.Server(
        uvicorn.Config(answers, log_level="warning", access_log=False, lifespan="off")
    )
    if options.until_stdin_closes:

        def watch() -> None:
            sys.stdin.read()
            server.should_exit = True

        threading.Thread(target=watch, daemon=True).start()
    with socket.create_server(("127.0.0.1", options.port), backlog=2048) as listener:
        # Announced once it listens: requests that come before the server runs wait in the backlog.
        print(json.dumps({"port": listener.getsockname()[1]}), flush=True)
        server.run(sockets=[listener])
    return 0


if __name__ == "__main__":
    sys.exit(main())
