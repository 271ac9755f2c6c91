"""Measures a repair against a client without a database, the incident's own loop, and bare writers.

Builds a database and removes it; provider and server run on this machine, each in a process of its
own.
"""

from __future__ import annotations

import base64
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import openai
import psycopg
from pgvector.psycopg import register_vector

from bench.figures import Table, in_turn, scaled
from bench.provider import DIMENSIONS, provider
from checks.database.connection_url import parse_url
from checks.examination.examination import examine
from checks.examination.selection import Selection
from checks.settings.integrity_toml import Settings
from demo.postgres import create_database, drop_database, server
from remediation.journal.outcomes import Outcome
from remediation.run.opening import open_repair
from remediation.run.repair_run import new_run_id

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

Item = TypeVar("Item")

ROWS = 5_000
INDEXED_ROWS = 1_000
TENANTS = 20
KEY = "sk-of-a-benchmark"
WRITERS = 2
CHUNK = 50
"""Rows of one transaction of the bare writers."""

SCHEMA = f"""
CREATE EXTENSION vector;
CREATE TABLE documents (
    id bigint PRIMARY KEY, tenant text, body text, embedding vector({DIMENSIONS})
)
"""
FILL = """
INSERT INTO documents (id, tenant, body)
SELECT n, 'tenant ' || n %% %(tenants)s, 'What document ' || n || ' says is of no importance.'
FROM generate_series(1, %(rows)s) AS n
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Way:
    """How many requests at a time, of how many texts, of a provider of which latency in seconds."""

    requests: int
    texts: int
    latency: float
    up_to: float | None = None

    def __str__(self) -> str:
        most = "" if self.up_to is None else f" to {self.up_to * 1000:,.0f}"
        return f"{self.latency * 1000:.0f}{most} ms, {self.requests} requests of {self.texts} texts"


WAYS = (
    Way(requests=8, texts=50, latency=0.15),
    Way(requests=16, texts=256, latency=0.15),
    Way(requests=8, texts=50, latency=0.0),
    Way(requests=16, texts=256, latency=0.0),
)


def parts(rows: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    return (rows[start : start + size] for start in range(0, len(rows), size))


def read_texts(url: str) -> Iterator[list[tuple[int, str]]]:
    """The rows without an embedding, tenant by tenant."""
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            "SELECT tenant, id, body FROM documents WHERE embedding IS NULL ORDER BY tenant, id"
        ).fetchall()
    for tenant in sorted({tenant for tenant, _, _ in rows}):
        yield [(number, body) for other, number, body in rows if other == tenant]


def asked(client: openai.OpenAI, texts: Sequence[str]) -> list[NDArray[np.float32]]:
    """One request, and its vectors."""
    answer = client.embeddings.create(
        input=list(texts), model="text-embedding-3-small", encoding_format="base64"
    )
    return [
        np.frombuffer(base64.b64decode(str(item.embedding)), dtype="<f4") for item in answer.data
    ]


def bare_client(url: str, base_url: str, way: Way) -> float:
    """Seconds of the same requests without a database."""
    groups = [
        [body for _, body in some] for rows in read_texts(url) for some in parts(rows, way.texts)
    ]
    with (
        openai.OpenAI(base_url=base_url, api_key=KEY) as client,
        ThreadPoolExecutor(way.requests) as threads,
    ):
        begun = perf_counter()
        for _ in threads.map(lambda texts: asked(client, texts), groups):
            pass
        return perf_counter() - begun


def incidents_loop(url: str, base_url: str) -> float:
    """Seconds of one request of 50 texts, then 50 UPDATEs, tenant by tenant."""
    with (
        openai.OpenAI(base_url=base_url, api_key=KEY) as client,
        psycopg.connect(url, autocommit=True) as connection,
    ):
        register_vector(connection)
        begun = perf_counter()
        for rows in read_texts(url):
            for some in parts(rows, 50):
                vectors = asked(client, [body for _, body in some])
                for (number, _), vector in zip(some, vectors, strict=True):
                    connection.execute(
                        "UPDATE documents SET embedding = %s WHERE id = %s", (vector, number)
                    )
        return perf_counter() - begun


def bare_writers(url: str) -> float:
    """Seconds of two writers that COPY vectors in hand and UPDATE from them, without any guard."""
    numbers = [number for rows in read_texts(url) for number, _ in rows]
    vectors = np.random.default_rng(8).standard_normal((len(numbers), DIMENSIONS), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    chunks = list(parts(list(zip(numbers, vectors, strict=True)), CHUNK))

    def write(mine: list[Any]) -> None:
        with psycopg.connect(url, autocommit=True) as connection:
            register_vector(connection)
            for chunk in mine:
                with connection.transaction(), connection.cursor() as cursor:
                    cursor.execute(
                        "CREATE TEMPORARY TABLE new (id bigint, embedding vector) ON COMMIT DROP"
                    )
                    with cursor.copy("COPY new FROM STDIN (FORMAT BINARY)") as copy:
                        copy.set_types(["int8", "vector"])
                        for row in chunk:
                            copy.write_row(row)
                    cursor.execute(
                        "UPDATE documents AS d SET embedding = new.embedding"
                        " FROM new WHERE new.id = d.id"
                    )

    with ThreadPoolExecutor(WRITERS) as threads:
        begun = perf_counter()
        list(threads.map(write, [chunks[start::WRITERS] for start in range(WRITERS)]))
        return perf_counter() - begun


def settings_of(base_url: str, way: Way) -> Settings:
    return Settings.model_validate(
        {
            "provider": {
                "base_url": base_url,
                "dimensions": DIMENSIONS,
                "batch_size": way.texts,
                "concurrency": way.requests,
            },
            "keys": {"fallback_env": "KEY"},
            "repair": {"write_concurrency": WRITERS},
            "tables": [{"name": "public.documents", "tenant": "tenant", "text": "body"}],
        }
    )


def repair(url: str, base_url: str, way: Way, *, rows: int) -> float:
    """Seconds of the whole repair, from its lock to its last look at what it wrote."""
    settings = settings_of(base_url, way)
    place = parse_url(url, variable="DATABASE_URL")
    with (
        tempfile.TemporaryDirectory() as folder,
        open_repair(
            run_id=new_run_id(),
            settings=settings,
            environment={"KEY": KEY},
            examination=examine(place, settings, Selection()),
            read_place=place,
            tenants=None,
        ) as work,
    ):
        plan = work.plan()
        begun = perf_counter()
        work.run(plan, Path(folder), lambda _: None)
        seconds = perf_counter() - begun
        (result,) = work.results
        assert result.account.count(Outcome.FIXED) == rows, result
    return seconds


def emptied(url: str, *, indexed: bool = False, rows: int) -> None:
    """The table as it is before each measurement, in new pages."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("TRUNCATE documents")
        connection.execute("DROP INDEX IF EXISTS documents_hnsw")
        connection.execute(FILL, {"tenants": TENANTS, "rows": rows})
        if indexed:
            connection.execute(
                "CREATE INDEX documents_hnsw ON documents USING hnsw (embedding vector_cosine_ops)"
            )
        connection.execute("VACUUM ANALYZE documents")
        connection.execute("CHECKPOINT")


def compared(name: str, rows: int, baseline: float, ours: float) -> tuple[str, ...]:
    return (name, f"{rows / baseline:,.0f}", f"{rows / ours:,.0f}", f"{baseline / ours:.2f}")


def measured(scale: float = 1.0) -> Table:
    """Rows per second of each baseline and of the repair."""
    rows, indexed = scaled(ROWS, scale, 2 * TENANTS), scaled(INDEXED_ROWS, scale, 2 * TENANTS)
    lines = []
    with server() as server_url:
        url = create_database(server_url, "bench_repair")
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(SCHEMA)
        for way in WAYS:
            with provider(way.latency) as base_url:
                bare, loop, ours = in_turn(
                    partial(bare_client, url, base_url, way),
                    # The loop is the same whatever the way, and slow.
                    partial(incidents_loop, url, base_url) if way.latency else lambda: 0.0,
                    partial(repair, url, base_url, way, rows=rows),
                    before=partial(emptied, url, rows=rows),
                )
            lines.append(compared(f"{way}, against requests alone", rows, bare, ours))
            if way.latency:
                lines.append(compared(f"{way}, against the incident's loop", rows, loop, ours))
        with provider(0.0) as base_url:
            bare, ours = in_turn(
                partial(bare_writers, url),
                partial(repair, url, base_url, WAYS[2], rows=indexed),
                before=partial(emptied, url, indexed=True, rows=indexed),
            )
        name = f"an HNSW index, {indexed:,} rows, against bare writers"
        lines.append(compared(name, indexed, bare, ours))
        drop_database(server_url, "bench_repair")
    return Table(columns=("", "baseline, rows/s", "repair, rows/s", "ratio"), rows=lines)
