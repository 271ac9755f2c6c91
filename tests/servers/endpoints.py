"""The demo's offline endpoint in a thread of this process, where its own takes long to start."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import uvicorn

from demo.answers import application
from demo.endpoint import Running

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path


@contextmanager
def endpoint(
    keys: Mapping[str, str],
    *,
    latency: float = 0.0,
    vectors_of: str | None = None,
    record: Path | None = None,
) -> Iterator[Running]:
    """Run the endpoint until the block ends; the parameters are those of `demo.endpoint`."""
    answers = application(keys, latency=latency, vectors_of=vectors_of, record=record)
    server = uvicorn.Server(
        uvicorn.Config(answers, log_config=None, access_log=False, lifespan="off", ws="none")
    )
    with socket.create_server(("127.0.0.1", 0), backlog=2048) as listener:
        port = listener.getsockname()[1]
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield Running(base_url=f"http://127.0.0.1:{port}/v1", port=port, record=record)
        finally:
            # Whoever still waits for an answer is gone.
            server.should_exit = server.force_exit = True
            thread.join()
