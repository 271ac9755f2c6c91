"""Rows that share a vector: scan, diagnosis, selection and frozen selection find the same ones."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING

import pytest
from psycopg import sql

from checks.diagnosis.facet_statement import compile_facets
from checks.row_checks.applied import applied_checks
from checks.row_checks.essence import essence
from checks.row_checks.row_check import with_sets
from checks.row_checks.row_relation import rows_of
from checks.scanning.scan import scan
from remediation.selection.row_statements import compile_failing_keys
from tests.builders.tables import looking, run, table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from checks.database.connection import Connection
    from checks.row_checks.row_check import AppliedCheck
    from checks.targets.target import Target

TEXTS = ["One text", "one  TEXT!", "two", "three", None, "  "]
TENANTS = ["a", "b", None]
TAIL = (3.0, 4.0)
"""The last eighth, by whose length vectors are told apart at first: all have the same."""
PLAIN = "CREATE TABLE docs (id integer PRIMARY KEY, tenant text, body text, embedding {})"
LAYOUTS = {
    "table": [PLAIN],
    "view": [PLAIN, "CREATE VIEW shown AS SELECT * FROM docs"],
    "partitions": [
        PLAIN + " PARTITION BY HASH (id)",
        "CREATE TABLE p0 PARTITION OF docs FOR VALUES WITH (MODULUS 2, REMAINDER 0)",
        "CREATE TABLE p1 PARTITION OF docs FOR VALUES WITH (MODULUS 2, REMAINDER 1)",
    ],
    "store": [
        "CREATE TABLE docs (id integer PRIMARY KEY, tenant text, body text)",
        "CREATE TABLE held (doc integer PRIMARY KEY, embedding {})",
    ],
    "two entries": [PLAIN],
}


def entries(layout: str) -> list[str]:
    shared: dict[str, object] = {"tenant": "tenant", "dimensions": 16}
    if layout == "two entries":
        return [table(where="id % 2 = 0", **shared), table(**shared)]
    if layout == "view":
        return [table("shown", key=["id"], **shared)]
    store = {"store": {"name": "held", "key": ["doc"]}} if layout == "store" else {}
    return [table(**shared, **store)]


def rows_with_shared_vectors() -> list[
    tuple[int, str | None, str | None, tuple[float, ...] | None]
]:
    chosen = random.Random(7)
    pool = [(*map(float, chosen.choices(range(1, 5), k=14)), *TAIL) for _ in range(8)]
    return [
        (n, chosen.choice(TENANTS), chosen.choice(TEXTS), chosen.choice([*pool, None]))
        for n in range(60)
    ]


def found_by(
    connection: Connection, target: Target, check: AppliedCheck, predicate: sql.Composable
) -> set[str]:
    statement = sql.SQL("{}SELECT identity FROM {} AS r WHERE {}").format(
        with_sets([check]), rows_of(target), predicate
    )
    return {identity for (identity,) in connection.execute(statement)}


def diagnosed(connection: Connection, target: Target, checks: Sequence[AppliedCheck]) -> set[str]:
    statement = compile_facets(
        target, checks, tenants=None, longest=99, failing_only=False, keys=True
    )
    facets = connection.execute(statement).fetchall()
    return {json.loads(value)[0] for facet, value, *_ in facets if facet == "key"}


@pytest.mark.parametrize(
    ("layout", "kind"),
    [*((layout, "vector(16)") for layout in LAYOUTS), ("table", "vector"), ("table", "real[]")],
)
def test_whatever_looks_finds_the_same_rows(each_database: str, layout: str, kind: str) -> None:
    made = rows_with_shared_vectors()
    statements = [statement.format(kind) for statement in LAYOUTS[layout]]
    brackets = "{{{}}}" if kind == "real[]" else "[{}]"
    for n, tenant, body, vector in made:
        stored = "NULL" if vector is None else f"'{brackets.format(str(vector)[1:-1])}'"
        row = ", ".join("NULL" if v is None else f"'{v}'" for v in (n, tenant, body))
        if layout != "store":
            statements.append(f"INSERT INTO docs VALUES ({row}, {stored})")
            continue
        statements.append(f"INSERT INTO docs VALUES ({row})")
        if vector is not None:
            statements.append(f"INSERT INTO held VALUES ({n}, {stored})")
    run(each_database, *statements)
    held: dict[tuple[float, ...], dict[int, str]] = {}
    for n, _, body, vector in made:
        if vector is not None and body is not None and body.strip():
            held.setdefault(vector, {})[n] = essence(body)
    wrong = {f"({n})" for of in held.values() if len(set(of.values())) > 1 for n in of}
    assert 10 < len(wrong) < 50

    counted, seen = 0, {"diagnosis": set[str](), "selection": set[str](), "frozen": set[str]()}
    with looking(each_database, *entries(layout)) as looker:
        connection = looker.connection
        for target in looker.targets():
            (check,) = (one for one in applied_checks(target) if one.name == "uniqueness")
            (*measured,) = scan(connection, target, [check], tenants=None).measurements
            counted += sum(one.failing["uniqueness"] for one in measured)
            members = connection.execute(
                sql.SQL("{}SELECT DISTINCT print, member FROM {}").format(
                    with_sets([check]), check.set_name
                )
            ).fetchall()
            frozen = check.frozen(members)
            seen["diagnosis"] |= diagnosed(connection, target, [check])
            seen["selection"] |= found_by(connection, target, check, check.predicate)
            seen["frozen"] |= found_by(connection, target, frozen, frozen.predicate)
    assert counted == len(wrong)
    assert seen == dict.fromkeys(seen, wrong)


def test_only_vectors_that_may_be_shared_are_hashed(database: str) -> None:
    run(
        database,
        "CREATE TABLE docs (id int PRIMARY KEY, body text, embedding vector(16))",
        "INSERT INTO docs SELECT i, 'b' || i, array_fill(CASE WHEN i < 9 THEN 1 ELSE i END,"
        " ARRAY[16])::vector FROM generate_series(1, 1000) AS i",
    )
    with looking(database, table(dimensions=16)) as looker:
        (target,) = looker.targets()
        (check,) = (one for one in applied_checks(target) if one.name == "uniqueness")
        diagnosis = compile_facets(
            target, [check], tenants=None, longest=99, failing_only=False, keys=True
        )
        selection = compile_failing_keys(target, [check], tenants=None, first=True)
        for statement, passes in ((diagnosis, 1), (selection, 2)):
            hashed, normed = _calls(looker.connection, statement)
            assert 8 <= hashed <= 5 * 8
            assert 1000 <= normed <= passes * 1000 + 5 * 8


def _calls(connection: Connection, statement: sql.Composed) -> tuple[int, int]:
    """How often a statement took a vector's bytes, and its norm."""

    def so_far(function: str) -> int:
        calls = f"SELECT pg_stat_get_xact_function_calls('{function}'::regproc)"
        (row,) = connection.execute(calls).fetchall()
        return row[0] or 0

    functions = ("vector_send", "vector_norm")
    before = [so_far(function) for function in functions]
    with connection.transaction(force_rollback=True):
        connection.execute("SET LOCAL track_functions = 'all'")
        connection.execute(statement).fetchall()
        hashed, normed = (
            so_far(function) - earlier for function, earlier in zip(functions, before, strict=True)
        )
    return hashed, normed
