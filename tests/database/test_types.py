"""Checks and repair on every type that holds an embedding, on each server, with its provenance."""

from __future__ import annotations

import base64
import hashlib
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import psycopg
import pytest

from demo.postgres import create_database, drop_database
from remediation.journal.journal import Journal
from tests.databases import NEW, OLD, SERVERS
from tests.drivers.repairs import TABLE, environment, examined, repaired, settings
from tests.servers.provider_server import MODEL, ProviderServer, vector_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from checks.examination.table_examination import TableExamination
    from checks.settings.integrity_toml import Settings

KEYS = environment("acme", "globex")
OTHER_MODEL = "an-older-model"
DIMENSIONS = 16
EXTENSION_TYPES = {
    NEW: ("vector", "vector(16)", "halfvec(16)", "halfvec", "sparsevec(16)", "sparsevec"),
    OLD: ("vector", "vector(16)"),
}
ARRAYS = ("real[]", "double precision[]")
CASES = [
    (server, with_extension, kind)
    for server in SERVERS
    for with_extension in (True, False)
    for kind in ((*EXTENSION_TYPES[server], *ARRAYS) if with_extension else ARRAYS)
]


@dataclass(kw_only=True)
class Things:
    """A table `docs` of one embedding type with every column that tells of an embedding."""

    url: str
    type: str
    link: psycopg.Connection[Any] = field(init=False)

    def __post_init__(self) -> None:
        self.link = psycopg.connect(self.url, autocommit=True)
        self.link.execute(
            f"""CREATE TABLE docs (
                id integer PRIMARY KEY, tenant text, body text, note text, embedding {self.type},
                updated_at timestamptz, embedded_at timestamptz, hash char(32), model varchar(40),
                UNIQUE (note))"""
        )

    def add(self, number: int, tenant: str | None, embedding: str | None, **columns: Any) -> None:
        """A whole row with this embedding, but for the columns given."""
        body = f"document {number} of {tenant}"
        row = {
            "id": number,
            "tenant": tenant,
            "body": body,
            "note": f"note {number}",
            "updated_at": "2026-01-01Z",
            "embedded_at": "2026-01-01Z",
            "hash": md5(body),
            "model": MODEL,
            **columns,
        }
        names = ", ".join(row)
        places = ", ".join("%s" for _ in row)
        self.link.execute(
            f"INSERT INTO docs ({names}, embedding) VALUES ({places}, %s::text::{self.type})",
            [*row.values(), embedding],
        )

    def literal(self, vector: Any) -> str:
        """A vector as the column's type writes it."""
        numbers = [float(x) for x in vector]
        if self.type.startswith("sparsevec"):
            elements = ",".join(f"{i}:{x}" for i, x in enumerate(numbers, start=1) if x)
            return f"{{{elements}}}/{len(numbers)}"
        brackets = "{}" if self.type.endswith("[]") else "[]"
        return f"{brackets[0]}{','.join(map(str, numbers))}{brackets[1]}"

    def own(self, number: int, tenant: str) -> str:
        """The literal of a row's own vector."""
        return self.literal(vector_of(f"document {number} of {tenant}", DIMENSIONS))

    def rows(self) -> dict[int, dict[str, Any]]:
        """The whole table, each row by its key, with each value as text."""
        cursor = self.link.execute("SELECT * FROM docs ORDER BY id")
        names = [column.name for column in cursor.description or ()]
        texts = ", ".join(f"{name}::text" for name in names)
        found = self.link.execute(f"SELECT {texts} FROM docs ORDER BY id").fetchall()
        return {int(row[0]): dict(zip(names, row, strict=True)) for row in found}

    def is_own(self, row: dict[str, Any]) -> bool:
        """Whether a row holds the vector of its text, as precisely as the type admits."""
        stored = self.numbers(row["embedding"])
        expected = vector_of(row["body"], DIMENSIONS)
        return stored.shape == expected.shape and bool(np.allclose(stored, expected, atol=2e-3))

    def numbers(self, stored: str) -> Any:
        if not self.type.startswith("sparsevec"):
            return np.array([float(x) for x in stored.strip("[]{}").split(",")])
        elements, _, dimension = stored.strip("{").partition("}/")
        vector = np.zeros(int(dimension))
        for element in filter(None, elements.split(",")):
            position, _, value = element.partition(":")
            vector[int(position) - 1] = float(value)
        return vector


def md5(text: str) -> str:
    return hashlib.md5(text.encode()).hexdigest()


def chosen(server: ProviderServer, **table: Any) -> Settings:
    return settings(
        server,
        provider={"dimensions": DIMENSIONS},
        table={
            "where": "true",
            "updated_at": "updated_at",
            "embedded_at": "embedded_at",
            "content_hash": "hash",
            "model_column": "model",
            **table,
        },
    )


@contextmanager
def things(request: pytest.FixtureRequest, case: tuple[str, bool, str]) -> Iterator[Things]:
    server, with_extension, kind = case
    server_url = request.getfixturevalue("old_server_url" if server == OLD else "server_url")
    url = create_database(server_url, f"types_{CASES.index(case)}")
    with psycopg.connect(url, autocommit=True) as link:
        if with_extension:
            link.execute("CREATE EXTENSION vector")
    table = Things(url=url, type=kind)
    try:
        yield table
    finally:
        table.link.close()
        drop_database(server_url, f"types_{CASES.index(case)}")


def failing(examination: TableExamination) -> dict[str, int]:
    assert examination.error is None
    counts = {check.name: examination.failing(check.name) for check in examination.checks}
    return {name: count for name, count in counts.items() if count}


@pytest.mark.parametrize(
    "case", CASES, ids=lambda c: f"{c[0]}, {'with' if c[1] else 'without'}, {c[2]}"
)
def test_every_broken_row_is_healed_and_nothing_else_is_touched(
    request: pytest.FixtureRequest, tmp_path: Path, case: tuple[str, bool, str]
) -> None:
    with things(request, case) as table, ProviderServer(dimensions=DIMENSIONS) as server:
        undimensioned = "(" not in table.type
        zeros, tail = [0.0] * 16, [*vector_of("padded", 14), 0.0, 0.0]
        for number in range(1, 6):
            table.add(number, "acme", table.own(number, "acme"))
        for number in range(6, 9):
            table.add(number, "globex", table.own(number, "globex"))
        table.add(10, "acme", None)
        table.add(11, "globex", None, embedded_at=None, hash=None, model=None)
        table.add(12, "acme", table.literal(zeros))
        table.add(13, "globex", table.literal(tail))
        table.add(14, "acme", table.own(99, "acme"), hash=md5("document 99 of acme"))
        table.add(15, "acme", table.own(98, "acme"), embedded_at="2025-12-31Z")
        table.add(16, "globex", table.own(97, "globex"), model="")
        table.add(17, "globex", table.own(96, "globex"), model=None)
        table.add(18, "acme", table.own(95, "acme"), model=OTHER_MODEL)
        table.add(19, "acme", table.own(94, "acme"))
        table.add(20, "globex", table.own(94, "acme"))
        expected = {
            "completeness": 2,
            "degenerate": 2,
            "freshness": 2,
            "provenance": 3,
            "uniqueness": 2,
        }
        if undimensioned:
            table.add(21, "acme", table.literal(vector_of("too short", 15)))
            expected["dimensionality"] = 1
        of = chosen(server)
        assert failing(examined(table.url, of)) == expected
        before = table.rows()
        done = repaired(table.url, of, tmp_path, keys=KEYS)
        rows = sum(expected.values())
        assert done.docs.stopped is None
        assert {probe.tenant: len(probe.cosines) for probe in done.docs.probes} == {
            "acme": 3,
            "globex": 3,
        }
        assert done.counts() == {"selected": rows, "fixed": rows}
        assert done.after is not None
        assert failing(done.after.table(TABLE)) == {}

        after = table.rows()
        assert after.keys() == before.keys()
        touched = {number for number in before if before[number] != after[number]}
        assert touched == {number for number in before if number >= 10}
        assert all(table.is_own(row) for row in after.values())
        told = {"embedding", "embedded_at", "hash", "model"}
        for number in touched:
            old, new = before[number], after[number]
            assert {k: v for k, v in old.items() if k not in told} == {
                k: v for k, v in new.items() if k not in told
            }
            assert new["model"] == MODEL
            assert new["hash"] == md5(new["body"])

        again = repaired(table.url, of, tmp_path, keys=KEYS)
        assert again.results == ()
        assert table.rows() == after

        assert done.folder is not None
        journal = Journal(done.folder)
        kept = {
            event["key"][0]: event["vector"]
            for event in journal.read()
            if event["event"] == "replacing"
        }
        journal.close()
        send = f"{'array' if table.type.endswith('[]') else table.type.partition('(')[0]}_send"
        for number in touched:
            old_bytes = table.link.execute(
                f"SELECT {send}(%s::text::{table.type})", [before[number]["embedding"]]
            ).fetchone()
            vector = kept[str(number)]
            assert old_bytes == (None if vector is None else base64.b64decode(vector),)
