"""Every row check against a naive evaluation in Python, over random tables of every type."""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from checks.row_checks.applied import applied_checks
from demo.postgres import create_database, drop_database
from tests.builders.tables import looking, run, table
from tests.databases import NEW, OLD, SERVERS

if TYPE_CHECKING:
    from collections.abc import Iterator

Vector: TypeAlias = "list[Any] | None"
"""Elements, where None stands for a NULL one and a list for a second axis; None for no vector."""

DIMENSIONS = 16
MODEL = "text-embedding-3-small"
TIMES = (None, "2026-01-01 00:00Z", "2026-01-01 00:00:00.000001Z", "2026-02-01 00:00Z", "infinity")
TYPES = {
    NEW: ("vector", "vector(16)", "halfvec", "sparsevec", "real[]", "double precision[]"),
    OLD: ("vector", "vector(16)", "real[]", "double precision[]"),
}
HASHES = ("text", "char(32)", "uuid", "bytea")
AGES = (None, "-infinity", "16 minutes", "1 minute", "-1 day")
"""How long ago a row was made: of no known age, before all time, out of its grace, or within it."""
ODD = "archived IS DISTINCT FROM false OR NULLIF(body, 'b') = 'a' OR body LIKE '100%'"
"""A check of one's own, NULL of a row with the text b."""
NAN, INFINITY = math.nan, math.inf


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One random row, as Python knows it."""

    tenant: str | None
    body: str | None
    vector: Vector
    updated_at: str | None
    embedded_at: str | None
    hashed: str | None
    """The text that its hash is of."""
    model: str | None
    archived: bool | None
    age: str | None

    @property
    def has_text(self) -> bool:
        return self.body is not None and self.body.strip() != ""


def _vectors(kind: str) -> st.SearchStrategy[Vector]:
    """Whole vectors, and every way of having no meaning that the type admits."""
    ones: list[Any] = [1.0] * DIMENSIONS
    values: list[Vector] = [
        None,
        ones,
        [2.0, *ones[1:]],
        [-1.0, 1.0] * 8,
        [0.0] * DIMENSIONS,
        [1.0, *[0.0] * 15],
        [*ones[:14], 0.0, 0.0],
        [*ones[:14], 0.5, 0.0],
        [*ones[:13], 0.0, 0.0, -0.5],
        [0.0] * 15 + [1.0],
    ]
    if kind != "vector(16)":
        values += [[1.0], [0.0], [0.0] * 17, [*ones, 0.0, 0.0], [1.0] * 17, [*ones[:7], 0.0]]
    if kind.endswith("[]"):
        values += [
            [],
            [NAN, *ones[1:]],
            [*ones[:15], INFINITY],
            [-INFINITY],
            [*ones[:15], None],
            [None, *[0.0] * 15],
            [None] * DIMENSIONS,
            [ones[:8], ones[8:]],
            [[1.0] * 16, [1.0] * 16],
            [[0.0]],
        ]
    # Whole ones and none are the most frequent: a row that fails one check alone must not be rare.
    return st.none() | st.sampled_from(values[1:4]) | st.sampled_from(values)


def _rows(kind: str) -> st.SearchStrategy[list[Row]]:
    return st.lists(
        st.builds(
            Row,
            tenant=st.sampled_from((None, "acme", "")),
            body=st.sampled_from((None, "", " \n", "a", "a", "b", "b", "c", "c", "100% %s")),
            vector=_vectors(kind),
            updated_at=st.sampled_from(TIMES),
            embedded_at=st.sampled_from(TIMES),
            hashed=st.sampled_from((None, "", "a", "a", "b")),
            model=st.sampled_from((None, "", MODEL, MODEL, MODEL, "ada", MODEL.upper())),
            archived=st.sampled_from((False, False, False, True, None)),
            age=st.sampled_from(AGES),
        ),
        min_size=5,
        max_size=25,
    )


def naive(
    made: list[Row], *, timed: bool, hashed: bool, graced: bool
) -> dict[str | None, dict[str, int]]:
    """Failing rows by tenant and check, counted without any SQL."""
    # Whether a row is archived may not be known; then the filter does not hold of it either.
    rows = [row for row in made if row.archived is False]
    texts: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        if row.vector is not None and row.has_text:
            texts[repr(row.vector)].add(row.body or "")
    counts: dict[str | None, dict[str, int]] = {}
    for row in rows:
        present = row.vector is not None
        count = counts.setdefault(row.tenant, defaultdict(int))
        failing = {
            "completeness": not present and row.has_text and not (graced and _is_young(row)),
            "dimensionality": present and len(_flat(row.vector)) != DIMENSIONS,
            "degenerate": present and _has_no_meaning(row.vector or []),
            "provenance": present and row.model != MODEL,
            "uniqueness": present and row.has_text and len(texts[repr(row.vector)]) > 1,
            "odd": row.body is not None and (row.body == "a" or row.body.startswith("100")),
        }
        if timed or hashed:
            stale = (timed and _is_older(row)) or (hashed and row.hashed != row.body)
            failing["freshness"] = present and row.has_text and stale
        for check, fails in failing.items():
            count[check] += fails
    return {tenant: dict(count) for tenant, count in counts.items()}


def _is_young(row: Row) -> bool:
    return row.age is not None and AGES.index(row.age) > AGES.index("16 minutes")


def _is_older(row: Row) -> bool:
    if row.embedded_at is None:
        return True
    return row.updated_at is not None and TIMES.index(row.embedded_at) < TIMES.index(row.updated_at)


def _flat(vector: Vector) -> list[float | None]:
    nested = [element if isinstance(element, list) else [element] for element in vector or []]
    return [element for elements in nested for element in elements]


def _has_no_meaning(vector: list[Any]) -> bool:
    if any(isinstance(element, list) or element is None for element in vector):
        return True
    if not all(math.isfinite(element) for element in vector):
        return True
    return not any(vector) or (len(vector) == DIMENSIONS and not any(vector[-2:]))


def _literal(vector: Vector, kind: str) -> str | None:
    if vector is None:
        return None
    if kind == "sparsevec":
        elements = ",".join(f"{i}:{x}" for i, x in enumerate(vector, start=1) if x)
        return f"{{{elements}}}/{len(vector)}"
    brackets = "{}" if kind.endswith("[]") else "[]"
    words = (
        "NULL" if x is None else _literal(x, kind) if isinstance(x, list) else str(x)
        for x in vector
    )
    return f"{brackets[0]}{','.join(w or '' for w in words)}{brackets[1]}"


def _hash(text: str | None, kind: str) -> str | None:
    if text is None:
        return None
    md5 = hashlib.md5(text.encode()).hexdigest()
    return f"\\x{md5}" if kind == "bytea" else md5


@contextmanager
def random_table(server: str, number: int, kind: str, shape: str) -> Iterator[str]:
    name = f"random_rows_{number}"
    url = create_database(server, name)
    hashes = ", ".join(f"hash_{position} {hash_type}" for position, hash_type in enumerate(HASHES))
    run(
        url,
        "CREATE EXTENSION vector",
        f"CREATE TABLE held (id int PRIMARY KEY, tenant text, body text, embedding {kind},"
        " updated_at timestamptz, embedded_at timestamptz, model text, archived boolean,"
        f" created_at timestamptz, {hashes}) {'PARTITION BY HASH (id)' * (shape == 'partitions')}",
        *(f"CREATE TABLE {part} PARTITION OF held {bounds}" for part, bounds in PARTITIONS)
        if shape == "partitions"
        else (),
        "CREATE VIEW docs AS SELECT * FROM held"
        if shape == "view"
        else "ALTER TABLE held RENAME TO docs",
    )
    yield url
    drop_database(server, name)


PARTITIONS = (
    ("even", "FOR VALUES WITH (MODULUS 2, REMAINDER 0)"),
    ("odd", "FOR VALUES WITH (MODULUS 2, REMAINDER 1)"),
)
SHAPES = ("table", "partitions", "view")
CASES = [
    (server, kind, shape)
    for server in SERVERS
    for kind in TYPES[server]
    for shape in (SHAPES if (server, kind) == (NEW, "vector") else SHAPES[:1])
]


@pytest.fixture(scope="module", params=CASES, ids=" ".join)
def place(request: pytest.FixtureRequest) -> Iterator[tuple[str, str]]:
    """The URL of a database with one table for all examples, and the type of its embeddings."""
    server, kind, shape = request.param
    url = request.getfixturevalue("old_server_url" if server == OLD else "server_url")
    with random_table(url, CASES.index(request.param), kind, shape) as database:
        yield database, kind


def fill(connection: psycopg.Connection[Any], made: list[Row], kind: str) -> None:
    connection.execute("DELETE FROM docs")
    with connection.cursor() as cursor:
        cursor.executemany(
            f"INSERT INTO docs VALUES (%s, %s, %s, %s::text::{kind}, %s, %s, %s, %s,"
            " coalesce(now() - nullif(%s, '-infinity')::interval, %s::timestamptz),"
            + ", ".join(f"%s::{hash_type}" for hash_type in HASHES)
            + ")",
            [
                (
                    *(i, r.tenant, r.body, _literal(r.vector, kind), r.updated_at, r.embedded_at),
                    *(r.model, r.archived, r.age, "-infinity" if r.age == "-infinity" else None),
                    *(_hash(r.hashed, hash_type) for hash_type in HASHES),
                )
                for i, r in enumerate(made)
            ],
        )


@settings(
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    choices=st.data(),
    timed=st.booleans(),
    hashed=st.none() | st.integers(0, 3),
    graced=st.booleans(),
)
def test_every_row_check_agrees_with_a_naive_evaluation(
    place: tuple[str, str],
    choices: st.DataObject,
    timed: bool,
    hashed: int | None,
    graced: bool,
) -> None:
    url, kind = place
    made = choices.draw(_rows(kind))
    keys: dict[str, object] = {
        "model_column": "model",
        "dimensions": DIMENSIONS,
        "model": MODEL,
        "custom": [{"name": "odd", "failing_when": ODD}],
    }
    if timed:
        keys |= {"updated_at": "updated_at", "embedded_at": "embedded_at"}
    if graced:
        keys |= {"created_at": "created_at", "grace": "15 minutes"}
    if hashed is not None:
        keys["content_hash"] = f"hash_{hashed}"
    with psycopg.connect(url, autocommit=True) as connection:
        fill(connection, made, kind)
    with looking(url, table(tenant="tenant", where="NOT archived", **keys)) as looker:
        (target,) = looker.targets()
        checks = applied_checks(target)
        seen = looker.scan(target)
        counts = {m.segment.tenant: dict(m.failing) for m in seen.measurements}
        assert counts == naive(made, timed=timed, hashed=hashed is not None, graced=graced)
        for tenant, failing in counts.items():
            for check in checks:
                if check.proof is None:
                    assert looker.shown(target, check, tenant) == failing[check.name]
        for measured in seen.measurements if target.key else ():
            assert measured.affected == looker.shown_once(target, measured.segment.tenant)
