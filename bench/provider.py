"""Answers embeddings requests on loopback at little cost, in a process of its own, for benchmarks.

Knows no key and checks nothing; `demo.endpoint` does. Each new text gets another vector, and that
one again whenever it is asked for again.
"""

from __future__ import annotations

import asyncio
import base64
import json
import random
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

DIMENSIONS = 1536
DIFFERENT = 8_192
"""Vectors, given in turn: no two texts of a benchmark may share one."""


@contextmanager
def provider(
    latency: float,
    up_to: float | None = None,
    *,
    dimensions: int = DIMENSIONS,
    different: int = DIFFERENT,
) -> Iterator[str]:
    """Run it until the block ends; yields its base URL.

    A request takes `latency` seconds, or anything from that `up_to` more.
    """
    settings = (latency, up_to or latency, dimensions, different)
    with subprocess.Popen(  # noqa: S603 - our own module, no shell
        [sys.executable, "-m", "bench.provider", *map(str, settings)],
        cwd=Path(__file__).parents[1],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1"
        finally:
            process.terminate()


def _embeddings(dimensions: int, different: int) -> list[bytes]:
    shape = (different, dimensions)
    vectors = np.random.default_rng(7).standard_normal(shape, dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return [base64.b64encode(vector.tobytes()) for vector in vectors]


async def _serve(latency: float, up_to: float, dimensions: int, different: int) -> None:
    embeddings, seconds = _embeddings(dimensions, different), random.Random(7)
    given: dict[str, int] = {}

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except (asyncio.IncompleteReadError, ConnectionError):
                break
            fields = dict(line.split(b": ", 1) for line in head.lower().split(b"\r\n")[1:] if line)
            question = json.loads(await reader.readexactly(int(fields[b"content-length"])))
            await asyncio.sleep(seconds.uniform(latency, up_to))
            items = [
                b'{"object":"embedding","index":%d,"embedding":"%b"}'
                % (index, embeddings[given.setdefault(text, len(given)) % different])
                for index, text in enumerate(question["input"])
            ]
            body = b'{"object":"list","model":"%b","data":[%b],"usage":{"total_tokens":%d}}' % (
                question["model"].encode(),
                b",".join(items),
                len(items),
            )
            writer.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
                % (len(body), body)
            )
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, limit=2**24)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(float(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])))
