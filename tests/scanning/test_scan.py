"""One statement counts every check of every tenant."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from checks.expectations.measurements import tolerated_failures
from checks.row_checks.applied import applied_checks
from checks.scanning.scan import scan
from checks.scanning.scan_statement import compile_scan
from tests.builders.tables import (
    DOCS,
    HOSTILE_TENANTS,
    examined,
    looking,
    run,
    table,
    words_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from checks.expectations.measurements import Measurement
    from tests.builders.tables import Looker

WHITE_SPACE = " \t\n\r\f\v"
GRACE = timedelta(minutes=15)
NEAR, FAR = timedelta(minutes=5), timedelta(minutes=30)


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """A row of `docs` as a test makes it; `age` None is an unknown creation time."""

    tenant: str | None
    body: str | None
    dimension: int | None
    age: timedelta | None
    archived: bool


ROWS = st.lists(
    st.builds(
        Row,
        tenant=st.none() | st.sampled_from(("acme", "Acme", *HOSTILE_TENANTS)),
        body=st.none()
        | st.text(st.sampled_from(WHITE_SPACE), max_size=3)
        | st.sampled_from(("x", "100% %s", " ; -- x\n", "\u00a0", "<b>", "Ж" * 300)),
        dimension=st.sampled_from((None, None, 3, 3, 3, 1, 2, 600)),
        age=st.sampled_from((None, NEAR, FAR)),
        archived=st.booleans(),
    ),
    max_size=40,
)

OTHERS_OFF = {"degenerate": {"enabled": False}, "uniqueness": {"enabled": False}}
"""They have property tests of their own (test_row_checks)."""

CUSTOM = "body LIKE '%\\%%' -- has a %"


def naive(
    made: list[Row], *, where: bool, grace: bool
) -> tuple[dict[str | None, dict[str, int]], dict[str | None, int]]:
    """Failing rows by tenant and check, and all rows by tenant, counted without any SQL."""
    totals: dict[str | None, int] = defaultdict(int)
    counts: dict[str | None, dict[str, int]] = {}
    for row in made:
        if where and row.archived:
            continue
        totals[row.tenant] += 1
        count = counts.setdefault(
            row.tenant, {"completeness": 0, "dimensionality": 0, "percent": 0}
        )
        has_text = row.body is not None and row.body.strip(WHITE_SPACE) != ""
        pending = grace and row.age == NEAR
        count["completeness"] += row.dimension is None and has_text and not pending
        count["dimensionality"] += row.dimension not in (None, 3)
        count["percent"] += row.body is not None and "%" in row.body
    return counts, totals


@pytest.fixture(scope="module")
def docs(server_url: str) -> Iterator[str]:
    """One table for all examples: a database for each would take most of the time."""
    from demo.postgres import create_database, drop_database

    url = create_database(server_url, "randomly_broken")
    run(url, "CREATE EXTENSION vector", DOCS)
    yield url
    drop_database(server_url, "randomly_broken")


def vector(dimension: int | None) -> str | None:
    return None if dimension is None else str([1] * dimension)


def fill(connection: psycopg.Connection[Any], made: list[Row]) -> None:
    connection.execute("TRUNCATE docs")
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO docs VALUES (%s, %s, %s, %s, now() - %s::interval, %s)",
            [
                (i, r.tenant, r.body, vector(r.dimension), r.age, r.archived)
                for i, r in enumerate(made)
            ],
        )


@settings(
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    made=ROWS,
    where=st.booleans(),
    grace=st.booleans(),
    share=st.sampled_from((None, "0.5", "0.9")),
)
def test_what_fails_is_exactly_what_is_broken(
    docs: str, made: list[Row], where: bool, grace: bool, share: str | None
) -> None:
    declared = table(
        tenant="tenant",
        custom=[{"name": "percent", "failing_when": CUSTOM}],
        **({"where": "not archived"} if where else {}),
        created_at="created_at",
        **({"grace": "15 minutes"} if grace else {}),
        checks={**OTHERS_OFF, **({"completeness": {"min": float(share)}} if share else {})},
    )
    with psycopg.connect(docs, autocommit=True) as connection:
        fill(connection, made)
    examination = examined(docs, declared)
    (seen,) = examination.tables
    counts, totals = naive(made, where=where, grace=grace)
    assert seen.error is None
    assert {m.segment.tenant: dict(m.failing) for m in seen.measurements} == counts
    assert {m.segment.tenant: m.rows for m in seen.measurements} == totals
    tolerated = {"completeness": Decimal(share or 1)}
    broken = {
        (check, tenant): count
        for tenant, by_check in counts.items()
        for check, count in by_check.items()
        if count > tolerated_failures(totals[tenant], tolerated.get(check, Decimal(1)))
    }
    found = {(f.check, f.tenant): f.failing for f in examination.findings if f.check != "tenants"}
    assert found == broken
    with psycopg.connect(docs, autocommit=True) as connection:
        for finding in examination.findings:
            if finding.query is not None:
                assert len(connection.execute(finding.query).fetchall()) == finding.failing


def test_a_scan_is_one_statement_in_a_read_only_transaction(hostile: str) -> None:
    executed: list[str] = []

    class Recording(psycopg.Cursor[tuple[Any, ...]]):
        def execute(self, query: Any, *args: Any, **keywords: Any) -> Recording:
            executed.append(words_of(query))
            return super().execute(query, *args, **keywords)

    settings_in_force = " OR ".join(
        f"current_setting('{name}') <> '{value}'"
        for name, value in {
            "transaction_isolation": "repeatable read",
            "transaction_read_only": "on",
            "row_security": "off",
            "statement_timeout": "1min",
            "TimeZone": "UTC",
        }.items()
    )
    declared = table(
        tenant="tenant",
        custom=[
            {"name": "elsewhere", "failing_when": settings_in_force},
            {"name": "every", "failing_when": "true"},
        ],
    )
    with looking(hostile, declared) as looker:
        (target,) = looker.targets()
        looker.connection.cursor_factory = Recording
        seen = looker.examine(target)
    assert seen.failing("elsewhere") == 0
    assert seen.failing("every") == seen.rows > 0
    assert len([statement for statement in executed if "docs" in statement]) == 1


def measured(looker: Looker, tenants: tuple[str, ...] | None) -> dict[str | None, Measurement]:
    (target,) = looker.targets()
    seen = scan(looker.connection, target, applied_checks(target), tenants=tenants)
    assert seen.segments_seen == len(seen.measurements)
    return {m.segment.tenant: m for m in seen.measurements}


def test_a_scan_of_some_tenants_measures_them_as_a_scan_of_all_does(hostile: str) -> None:
    with looking(hostile, table(tenant="tenant")) as looker:
        everything = measured(looker, None)
        some = measured(looker, HOSTILE_TENANTS[:3])
        none = measured(looker, ())
    assert set(everything) == {None, *HOSTILE_TENANTS}
    assert some == {tenant: everything[tenant] for tenant in HOSTILE_TENANTS[:3]}
    assert none == {}


def test_a_table_without_tenants_is_one_segment(hostile: str) -> None:
    with looking(hostile, table()) as looker:
        assert set(measured(looker, None)) == {None}


def test_a_segment_says_when_its_failing_rows_were_created(database: str) -> None:
    run(
        database,
        DOCS,
        """INSERT INTO docs (id, tenant, body, embedding, created_at) VALUES
           (1, 'a', 'x', '[1,2,3]', '2026-01-01'), (2, 'a', 'x', NULL, '2026-01-02 10:00+00'),
           (3, 'a', 'x', NULL, '2026-01-02 12:30+01'), (4, 'a', 'x', NULL, NULL),
           (5, 'b', 'x', NULL, NULL), (6, 'c', 'x', NULL, '-infinity'),
           (7, 'c', 'x', NULL, '0044-03-15 BC'), (8, 'c', 'x', NULL, 'infinity')""",
    )
    declared = table(tenant="tenant", created_at="created_at")
    examination = examined(database, declared)
    messages = {f.tenant: f.message.splitlines()[0] for f in examination.findings}
    assert messages["a"].endswith("created 2026-01-02 10:00 to 2026-01-02 11:30 UTC")
    assert messages["b"].endswith("have text but no embedding")
    assert messages["c"].startswith("completeness: 3 of 3 rows of tenant 'c'")
    assert messages["c"].endswith("have text but no embedding")


def test_a_table_with_all_checks_off_is_measured_all_the_same(hostile: str) -> None:
    off = {"enabled": False}
    declared = table(tenant="tenant", checks={"completeness": off, "dimensionality": off})
    (seen,) = examined(hostile, declared).tables
    assert seen.error is None
    assert len(seen.measurements) == len(HOSTILE_TENANTS) + 1
    assert seen.findings == ()


def test_vectors_are_not_read_for_what_the_catalog_proves(database: str) -> None:
    run(database, DOCS, "ALTER TABLE docs ALTER embedding TYPE vector(3)")
    with looking(database, table(tenant="tenant")) as looker:
        (target,) = looker.targets()
        statement = compile_scan(target, applied_checks(target)).as_string(None)
    assert "vector_dims" not in statement
