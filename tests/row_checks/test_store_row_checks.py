"""Row checks beside a store and a source against a naive evaluation, over random tables."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from checks.row_checks.applied import applied_checks
from demo.postgres import create_database, drop_database
from tests.builders.tables import looking, run, table
from tests.databases import OLD, SERVERS

if TYPE_CHECKING:
    from collections.abc import Iterator

MODEL = "text-embedding-3-small"
# Whole values are the most frequent: a row that fails by one sign alone must not be rare.
TEXTS = (None, " ", "a", "a", "a", "b", "b")
TIMES = (None, "2026-01-01 00:00Z", "2026-02-01 00:00Z")
KEYS = range(1, 5)


@dataclass(frozen=True, kw_only=True, slots=True)
class Own:
    """A row of the table, known by its place in the list."""

    tenant: str | None
    body: str | None
    updated_at: str | None
    archived: bool | None
    source: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Held:
    """A row of the store; `key` may name no row of the table, or nothing."""

    key: int | None
    text: str | None
    vector: str | None
    embedded_at: str | None
    hashed: str | None
    """The text that its hash is of."""
    model: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Tables:
    """What the database holds."""

    own: list[Own]
    held: list[Held]
    sources: set[int]


VECTORS = (None, "[1,2,3]", "[1,2,3]", "[3,2,1]", "[2,2,1]", "[0,0,0]", "[1,2]")
OWN = st.builds(
    Own,
    tenant=st.sampled_from((None, "acme")),
    body=st.sampled_from(TEXTS),
    updated_at=st.sampled_from(TIMES),
    archived=st.sampled_from((False, False, False, True, None)),
    source=st.none() | st.sampled_from(KEYS),
)
HELD = st.builds(
    Held,
    key=st.none() | st.sampled_from(KEYS),
    text=st.sampled_from(TEXTS),
    vector=st.sampled_from(VECTORS),
    embedded_at=st.sampled_from(TIMES),
    hashed=st.sampled_from((None, "a", "a", "b")),
    model=st.sampled_from((None, "", MODEL, MODEL, "ada")),
)


def _tables(*, repeats: bool) -> st.SearchStrategy[Tables]:
    held = st.lists(
        HELD,
        min_size=2,
        max_size=8,
        # A unique index admits NULL as often as one likes.
        unique_by=None if repeats else lambda row: object() if row.key is None else row.key,
    )
    own = st.lists(OWN, min_size=1, max_size=len(KEYS))
    return st.builds(Tables, own=own, held=held, sources=st.sets(st.sampled_from(KEYS)))


def is_text(text: str | None) -> bool:
    return text is not None and text.strip() != ""


def naive(
    tables: Tables, *, repeats: bool, text_held: bool, timed: bool, hashed: bool
) -> dict[str | None, dict[str, int]]:
    """Failing rows by tenant and check, and the gaps as those of no tenant, without any SQL."""
    nothing: list[Held | None] = [None]
    pairs = [
        (own, held)
        for key, own in enumerate(tables.own, start=1)
        if own.archived is False
        for held in [h for h in tables.held if h.key == key] or nothing
    ]

    def text(own: Own, held: Held | None) -> str | None:
        return held.text if repeats and text_held and held is not None else own.body

    shared: dict[str, set[str]] = defaultdict(set)
    for own, held in pairs:
        if held is not None and held.vector is not None and is_text(text(own, held)):
            shared[held.vector].add(text(own, held) or "")
    counts: dict[str | None, dict[str, int]] = {}
    for own, held in pairs:
        vector = None if held is None else held.vector
        embeddable = is_text(text(own, held))
        failing = {
            "completeness": vector is None and embeddable,
            "dimensionality": vector == "[1,2]",
            "degenerate": vector == "[0,0,0]",
            "orphans": own.source not in tables.sources,
            "provenance": held is not None and vector is not None and held.model != MODEL,
        }
        if not repeats or text_held:
            failing["uniqueness"] = vector is not None and embeddable and len(shared[vector]) > 1
        signs = [False]
        if held is not None and timed:
            signs.append(
                held.embedded_at is None
                or (own.updated_at is not None and held.embedded_at < own.updated_at)
            )
        if held is not None and hashed:
            signs.append(held.hashed != text(own, held))
        if held is not None and text_held and not repeats:
            signs.append(held.text != own.body)
        if timed or hashed or (text_held and not repeats):
            failing["freshness"] = vector is not None and embeddable and any(signs)
        count = counts.setdefault(own.tenant, defaultdict(int))
        for check, fails in failing.items():
            count[check] += fails
    return {tenant: dict(count) for tenant, count in counts.items()}


def naive_gaps(tables: Tables) -> dict[str, tuple[int, int]]:
    """Rows of the store and of the source, and how many of them stand alone."""
    keys = range(1, len(tables.own) + 1)
    named = {own.source for own in tables.own}
    return {
        "orphans": (len(tables.held), sum(held.key not in keys for held in tables.held)),
        "completeness": (len(tables.sources), len(tables.sources - named)),
    }


def _md5(text: str | None) -> str | None:
    return None if text is None else hashlib.md5(text.encode()).hexdigest()


CASES = [(server, kind) for server in SERVERS for kind in ("vector", "real[]")]


@pytest.fixture(scope="module", params=CASES, ids=" ".join)
def place(request: pytest.FixtureRequest) -> Iterator[tuple[str, str]]:
    """The URL of a database with a table, its source and two stores, and the type of vectors."""
    server, kind = request.param
    server_url = request.getfixturevalue("old_server_url" if server == OLD else "server_url")
    name = f"random_stores_{CASES.index(request.param)}"
    url = create_database(server_url, name)
    store = (
        f"(key integer UNIQUE, id integer DEFAULT 99, tenant text DEFAULT 'wrong', body text,"
        f" embedding {kind}, embedded_at timestamptz, hash text, model text)"
    )
    run(
        url,
        "CREATE EXTENSION vector",
        "CREATE TABLE docs (id integer PRIMARY KEY, tenant text, body text,"
        " updated_at timestamptz, archived boolean, source_id integer)",
        "CREATE TABLE sources (id integer PRIMARY KEY)",
        f"CREATE TABLE once {store}",
        f"CREATE TABLE often {store.replace(' UNIQUE', '')}",
    )
    yield url, kind
    drop_database(server_url, name)


def fill(url: str, kind: str, tables: Tables, store: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute("TRUNCATE docs, sources, once, often")
        cursor.executemany("INSERT INTO sources VALUES (%s)", [(key,) for key in tables.sources])
        cursor.executemany(
            "INSERT INTO docs VALUES (%s, %s, %s, %s, %s, %s)",
            [
                (key, own.tenant, own.body, own.updated_at, own.archived, own.source)
                for key, own in enumerate(tables.own, start=1)
            ],
        )
        literal = "%s::text::vector" if kind == "vector" else "translate(%s, '[]', '{}')::real[]"
        cursor.executemany(
            f"INSERT INTO {store} (key, body, embedded_at, hash, model, embedding)"
            f" VALUES (%s, %s, %s, %s, %s, {literal})",
            [
                (held.key, held.text, held.embedded_at, _md5(held.hashed), held.model, held.vector)
                for held in tables.held
            ],
        )


@settings(
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    choices=st.data(),
    repeats=st.booleans(),
    text_held=st.booleans(),
    timed=st.booleans(),
    hashed=st.booleans(),
)
def test_row_checks_beside_a_store_agree_with_a_naive_evaluation(
    place: tuple[str, str],
    choices: st.DataObject,
    repeats: bool,
    text_held: bool,
    timed: bool,
    hashed: bool,
) -> None:
    url, kind = place
    tables = choices.draw(_tables(repeats=repeats))
    name = "often" if repeats else "once"
    fill(url, kind, tables, name)
    store: dict[str, object] = {"name": name, "key": ["key"], "model_column": "model"}
    keys: dict[str, object] = {"tenant": "tenant", "where": "NOT archived", "model": MODEL}
    if text_held:
        store["text"] = "body"
    if timed:
        store["embedded_at"] = "embedded_at"
        keys["updated_at"] = "updated_at"
    if hashed:
        store["content_hash"] = "hash"
    source = {"name": "sources", "key": ["id"], "source_key": ["source_id"]}
    with looking(url, table(store=store, source=source, **keys)) as looker:
        (target,) = looker.targets()
        checks = applied_checks(target)
        seen = looker.scan(target)
        counts = {m.segment.tenant: dict(m.failing) for m in seen.measurements}
        assert counts == naive(
            tables, repeats=repeats, text_held=text_held, timed=timed, hashed=hashed
        )
        assert {gap.check: (gap.rows, gap.failing) for gap in seen.gaps} == naive_gaps(tables)
        for tenant, failing in counts.items():
            for check in checks:
                assert looker.shown(target, check, tenant) == failing[check.name]
