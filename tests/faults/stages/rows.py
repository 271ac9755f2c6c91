"""What is in the table `docs` of a stage: its rows as values, and whether a row is whole."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from tests.servers.provider_server import vector_of

if TYPE_CHECKING:
    import psycopg
    from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """A row, its vector as the md5 of its binary form, and where its version lies."""

    id: int
    tenant: str
    body: str
    note: str
    vector: str | None
    content_hash: str | None
    version: str


def snapshot(
    connection: psycopg.Connection[Any], table: str = "docs", *, stored: bool = False
) -> dict[int, Row]:
    """The table at one moment, by id; `stored`: with its store `vectors`."""
    version = "d.ctid || ' by ' || d.xmin"
    store = "d"
    if stored:
        table, store = "docs AS d LEFT JOIN vectors AS v ON doc_id = id", "v"
        version += " || coalesce(' beside ' || v.ctid || ' by ' || v.xmin, '')"
    else:
        table += " AS d"
    found = connection.execute(
        f"SELECT id, tenant, body, note, md5(vector_send({store}.embedding)),"
        f" {store}.content_hash, {version} FROM {table}"
    )
    return {
        row[0]: Row(
            id=row[0],
            tenant=row[1],
            body=row[2],
            note=row[3],
            vector=row[4],
            content_hash=row[5],
            version=row[6],
        )
        for row in found
    }


@lru_cache(maxsize=100_000)
def vector_md5(text: str) -> str:
    """The md5 of what pgvector sends for the vector of a text."""
    return _md5_of(vector_of(text))


def _md5_of(vector: NDArray[np.float32]) -> str:
    """Of pgvector's binary form: the dimension and a zero as int16, then float4, big-endian."""
    sent = struct.pack(">HH", vector.size, 0) + vector.astype(">f4").tobytes()
    return hashlib.md5(sent, usedforsecurity=False).hexdigest()


@lru_cache(maxsize=100_000)
def own_md5(text: str) -> str:
    """The same of the vector that a racer gives a text: as good, and not the provider's."""
    return _md5_of(own_vector(text))


def own_vector(text: str) -> NDArray[np.float32]:
    """Twice as long, in the same direction: no check and no probe can tell."""
    return vector_of(text) * np.float32(2)


ZERO = _md5_of(np.zeros(8, np.float32))
"""Of the vector without a length, which fails `degenerate` by itself."""


def healthy(row: Row) -> bool:
    """Whether the row holds a vector of its text as it is, and says so."""
    return row.vector in (vector_md5(row.body), own_md5(row.body)) and not marked(row)


def marked(row: Row) -> bool:
    """Whether its content hash says that the text was edited."""
    return row.content_hash != hashlib.md5(row.body.encode(), usedforsecurity=False).hexdigest()
