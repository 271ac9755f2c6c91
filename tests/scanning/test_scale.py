"""A pattern that stands for a thousand tables: how many statements, validations and items."""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from checks.database.connection import connect, read_only
from checks.database.connection_url import parse_url
from checks.database.server import read_server
from checks.examination.measuring import examine_targets
from checks.expectations import engine
from checks.items.cases import cases_of
from checks.items.judgements import judge
from checks.targets.resolution import resolve
from demo.postgres import create_database, drop_database
from tests.builders.tables import examined, run, settings, table, words_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from checks.database.connection import Connection
    from checks.examination.examination import Examination
    from checks.targets.target import Target

TABLES = 1_000
BROKEN = ("t0007", "t0500", "t0999")
PATTERN = "t*.documents"
TEN = "t000*.documents"

SCHEMAS = """
DO $$ BEGIN
    FOR i IN {first}..{last} LOOP
        EXECUTE format('CREATE SCHEMA %1$I;
            CREATE TABLE %1$I.documents (id int PRIMARY KEY, body text, embedding vector(3));
            INSERT INTO %1$I.documents VALUES (1, ''x'', ''[1,2,3]''), (2, ''y'', ''[3,2,1]'')',
            't' || lpad(i::text, 4, '0'));
    END LOOP;
END $$
"""


@pytest.fixture(scope="module")
def many(server_url: str) -> Iterator[str]:
    """A database with a schema for each of a thousand tenants; three lack an embedding."""
    url = create_database(server_url, "many_tables")
    # In pieces: a transaction can only hold so many locks.
    pieces = [SCHEMAS.format(first=i, last=i + 199) for i in range(0, TABLES, 200)]
    broken = [f"UPDATE {name}.documents SET embedding = NULL WHERE id = 1" for name in BROKEN]
    try:
        run(url, "CREATE EXTENSION vector", *pieces, *broken)
        yield url
    finally:
        drop_database(server_url, "many_tables")


def declared(name: str = PATTERN, **keys: object) -> str:
    return table(name, tenant_from="schema", index="hnsw", **keys)


class Statements:
    """Counts what a connection executes."""

    def __init__(self, connection: Connection) -> None:
        counted = self.counted = Counter[str]()

        class Counting(psycopg.Cursor[tuple[Any, ...]]):
            def execute(self, query: Any, *args: Any, **keywords: Any) -> Counting:
                text = words_of(query)
                counted["scan" if "count(*) OVER ()" in text else text.split()[0]] += 1
                return super().execute(query, *args, **keywords)

        connection.cursor_factory = Counting

    def taken(self) -> int:
        """How many were executed since the last time this was asked."""
        total = self.counted.total()
        self.counted.clear()
        return total


def resolved(connection: Connection, url: str, name: str, **keys: object) -> tuple[Target, ...]:
    place, chosen = parse_url(url, variable="DATABASE_URL"), settings(declared(name, **keys))
    timeout = chosen.database.statement_timeout
    with read_only(connection, place, statement_timeout=timeout):
        targets = resolve(connection, chosen, read_server(connection))
        (locks,) = connection.execute(
            "SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'relation'"
        ).fetchone() or (0,)
    assert locks < 100
    return targets


@pytest.mark.parametrize("keys", [{}, {"where": "body <> 'z'", "text": "upper(body)"}])
def test_the_catalog_takes_as_many_statements_for_a_thousand_tables_as_for_ten(
    many: str, keys: dict[str, object]
) -> None:
    with connect(parse_url(many, variable="DATABASE_URL")) as connection:
        statements = Statements(connection)
        assert len(resolved(connection, many, TEN, **keys)) == 10
        for_ten = statements.taken()
        assert len(resolved(connection, many, PATTERN, **keys)) == TABLES
        assert statements.taken() == for_ten


def test_each_table_takes_one_scan_in_one_short_transaction(many: str) -> None:
    place = parse_url(many, variable="DATABASE_URL")
    with connect(place) as connection:
        targets = resolved(connection, many, PATTERN)
        statements = Statements(connection)
        timeout = settings(declared()).database.statement_timeout
        tables = examine_targets(connection, place, targets, timeout=timeout, tenants=None)
    assert sum(seen.rows for seen in tables) == 2 * TABLES
    assert statements.counted["BEGIN"] == TABLES
    assert statements.counted["scan"] == TABLES
    assert statements.taken() <= 2 * TABLES


@contextmanager
def segments_judged() -> Iterator[list[int]]:
    """The number of segments of each suite that judges within the block."""
    segments: list[int] = []
    validate = engine.validate_frame

    def counting(suite: Any, frame: Any, *, segments_seen: int) -> Any:
        segments.append(len(frame))
        return validate(suite, frame, segments_seen=segments_seen)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "validate_frame", counting)
        yield segments


@pytest.fixture(scope="module")
def whole(many: str) -> tuple[Examination, list[int]]:
    """The examination of all tables, and the number of segments of each suite that judged them."""
    with segments_judged() as segments:
        return examined(many, declared()), segments


def test_one_suite_judges_all_tables_of_a_declaration(
    many: str, whole: tuple[Examination, list[int]]
) -> None:
    examination, segments = whole
    assert segments == [TABLES]
    failing = {f.tenant: f.table for f in examination.findings if f.check == "completeness"}
    assert failing == {name[1:]: f"{name}.documents" for name in BROKEN}
    with segments_judged() as of_two:
        examined(many, declared("t000*.documents"), declared("t001*.documents"))
    assert of_two == [10, 10]


def test_each_check_is_an_item_that_lists_its_failing_tables(
    whole: tuple[Examination, list[int]],
) -> None:
    examination, _ = whole
    cases = cases_of(examination)
    assert set(Counter(case.check for case in cases).values()) == {1}
    assert all(case.whole_table and case.table == PATTERN for case in cases)
    (missing,) = (case for case in cases if case.check == "completeness")
    message = judge(missing, examination).message
    for name in BROKEN:
        assert f"1 of 2 rows of tenant '{name[1:]}' in {name}.documents" in message


def test_a_layout_that_differs_is_validated_by_itself(many: str) -> None:
    run(many, "ALTER TABLE t0003.documents RENAME body TO content")
    try:
        examination = examined(many, declared(TEN))
    finally:
        run(many, "ALTER TABLE t0003.documents RENAME content TO body")
    broken = [f for f in examination.findings if f.check == "schema"]
    assert [finding.table for finding in broken] == ["t0003.documents"]
    assert 'column "body" does not exist' in broken[0].says


def test_an_expression_that_names_its_table_is_validated_for_each(many: str) -> None:
    entry = declared(TEN, text="t0001.documents.body")
    examination = examined(many, entry)
    assert [f.table for f in examination.findings if f.check == "schema"] == [
        f"t000{i}.documents" for i in range(10) if i != 1
    ]


def test_one_table_that_cannot_be_read_leaves_the_others_judged(many: str) -> None:
    run(
        many,
        "ALTER TABLE t0004.documents RENAME TO kept",
        "CREATE VIEW t0004.documents AS SELECT id, (1 / (id - id))::text AS body, embedding"
        " FROM t0004.kept",
    )
    try:
        examination = examined(many, declared(TEN))
    finally:
        run(many, "DROP VIEW t0004.documents", "ALTER TABLE t0004.kept RENAME TO documents")
    unmeasured = [seen.target.name for seen in examination.tables if not seen.measured]
    assert unmeasured == ["t0004.documents"]
    assert "division by zero" in (examination.table("t0004.documents").error or "")
    assert [f.table for f in examination.findings if f.check == "completeness"] == [
        "t0007.documents"
    ]
