"""What becomes a finding, what an error, and what ends the run: on a database that misbehaves."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from checks.database.connection import ConnectionTarget
from checks.database.connection_url import parse_url
from checks.database.open_sockets import open_sockets
from checks.errors import CannotExamineError
from checks.examination.examination import examine
from checks.examination.selection import Selection, UnknownNameError
from demo.postgres import database_url
from tests.builders.tables import (
    DOCS,
    examined,
    failing,
    looking,
    role,
    rows,
    run,
    says,
    settings,
    table,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from checks.examination.table_examination import TableExamination
    from checks.findings.finding import Finding

WAITING = """SELECT pid, xact_start FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event_type = 'Lock'"""


@pytest.fixture
def docs(database: str) -> str:
    """Ten rows of tenant `a`, one of which has no vector, and one row of `b`, which is whole."""
    run(
        database,
        DOCS,
        "INSERT INTO docs SELECT i, 'a', 'x', '[1,2,3]' FROM generate_series(1, 10) AS i",
        "UPDATE docs SET embedding = NULL WHERE id = 1",
        "INSERT INTO docs VALUES (11, 'b', 'x', '[1,2,3]')",
    )
    return database


@contextmanager
def locked(url: str, name: str = "docs") -> Iterator[psycopg.Connection[Any]]:
    """Another session that keeps everybody out of the table; leaving the block lets them in."""
    with psycopg.connect(url) as other:
        other.execute(f"LOCK TABLE {name} IN ACCESS EXCLUSIVE MODE")
        yield other


def waiting(
    url: str, thread: threading.Thread, *, before: tuple[Any, ...] | None
) -> tuple[Any, ...]:
    """The process and transaction that wait for a lock, once another than `before` does."""
    while thread.is_alive():
        for found in rows(url, WAITING):
            if found != before:
                return found
    raise AssertionError("the scan ended without waiting for the lock")


def examined_meanwhile(url: str, declared: str, *, cancels: int) -> TableExamination:
    """Examine a locked table, cancel its scan so many times, then let it in."""
    results: list[TableExamination] = []
    with looking(url, declared) as looker:
        (target,) = looker.targets()
        thread = threading.Thread(target=lambda: results.append(looker.examine(target)))
        with locked(url):
            thread.start()
            found = None
            for _ in range(cancels):
                found = waiting(url, thread, before=found)
                run(url, f"SELECT pg_cancel_backend({found[0]})")
            if cancels == 1:
                waiting(url, thread, before=found)
        thread.join()
    return results[0]


def unmeasured(seen: TableExamination, reason: str) -> Finding:
    """The one finding of a table that could not be measured, which holds no verdict."""
    assert seen.verdicts == ()
    assert seen.measurements == ()
    assert not seen.measured
    (finding,) = seen.findings
    assert finding.check == "schema"
    assert "public.docs could not be measured: " in finding.says
    assert reason in finding.says
    return finding


def test_a_failing_segment_is_a_finding_with_its_numbers(docs: str) -> None:
    (finding,) = examined(docs, table(tenant="tenant")).findings
    assert (finding.check, finding.table, finding.tenant) == ("completeness", "public.docs", "a")
    assert (finding.failing, finding.rows, finding.severity) == (1, 10, "error")
    assert finding.message.startswith(
        "completeness: 1 of 10 rows of tenant 'a' in public.docs have text but no embedding\n"
        "show them with:\nSELECT "
    )


@pytest.mark.parametrize(
    ("share", "found"), [(1, {"a": 1}), (0.91, {"a": 1}), (0.9, {}), (0.5, {}), (0, {})]
)
def test_a_threshold_tolerates_its_share_and_not_a_row_more(
    docs: str, share: float, found: dict[str, int]
) -> None:
    declared = table(tenant="tenant", checks={"completeness": {"min": share}})
    examination = examined(docs, declared)
    assert failing(examination, "completeness") == found
    assert examination.tables[0].failing("completeness") == 1


def test_severity_and_enabled_come_from_the_settings(docs: str) -> None:
    warning = table(tenant="tenant", checks={"completeness": {"severity": "warning"}})
    assert [f.severity for f in examined(docs, warning).findings] == ["warning"]
    disabled = table(tenant="tenant", checks={"completeness": {"enabled": False}})
    assert examined(docs, disabled).findings == ()


def test_a_declared_tenant_without_rows_is_a_finding(docs: str) -> None:
    declared = table(tenant="tenant", tenants=["a", "gone", "'; DROP TABLE docs; --"])
    assert says(examined(docs, declared), "tenants") == [
        "declared tenant 'gone' has no rows in public.docs",
        'declared tenant "\'; DROP TABLE docs; --" has no rows in public.docs',
    ]


def test_the_tenants_check_has_a_severity_and_can_be_switched_off(docs: str) -> None:
    keys = {"tenant": "tenant", "tenants": ["gone"], "where": "tenant <> 'a'"}
    warning = table(**keys, checks={"tenants": {"severity": "warning"}})
    assert [f.severity for f in examined(docs, warning).findings] == ["warning"]
    assert examined(docs, table(**keys, checks={"tenants": {"enabled": False}})).findings == ()


def test_a_wiped_table_is_a_warning(docs: str) -> None:
    run(docs, "TRUNCATE docs")
    (finding,) = examined(docs, table()).findings
    assert (finding.check, finding.severity, finding.whole_table) == ("tenants", "warning", True)
    assert finding.message == "tenants: public.docs has no rows"
    (finding,) = examined(docs, table(where="not archived")).findings
    assert finding.says == "public.docs has no rows where not archived"
    stated = table(checks={"tenants": {"severity": "error"}})
    assert [f.severity for f in examined(docs, stated).findings] == ["error"]


def test_a_table_that_may_be_empty_is_no_finding(docs: str) -> None:
    run(docs, "TRUNCATE docs")
    assert examined(docs, table(required=False)).findings == ()
    assert examined(docs, table(checks={"tenants": {"enabled": False}})).findings == ()


def test_a_wiped_table_with_declared_tenants_names_each(docs: str) -> None:
    run(docs, "TRUNCATE docs")
    examination = examined(docs, table(tenant="tenant", tenants=["a", "b"]))
    assert [(f.tenant, f.severity) for f in examination.findings] == [
        ("a", "error"),
        ("b", "error"),
    ]


def test_only_selected_tenants_are_looked_at(docs: str) -> None:
    declared = table(tenant="tenant", tenants=["a", "b", "gone"])
    examination = examined(docs, declared, tenants=("b",))
    assert examination.findings == ()
    assert examination.restricted
    assert [m.segment.tenant for m in examination.tables[0].measurements] == ["b"]
    assert says(examined(docs, declared, tenants=("gone",)), "tenants") == [
        "declared tenant 'gone' has no rows in public.docs"
    ]


def test_an_unknown_tenant_is_refused(docs: str) -> None:
    declared = table(tenant="tenant"), table("later", required=False)
    with pytest.raises(UnknownNameError, match="--tenant=c has no rows in any selected table"):
        examined(docs, *declared, tenants=("a", "c"))


def test_a_tenant_is_not_unknown_where_a_table_could_not_be_looked_at(docs: str) -> None:
    examination = examined(docs, table(tenant="tenant"), table("gone"), tenants=("c",))
    assert "table gone does not exist" in says(examination, "schema")[0]


def test_a_table_dropped_during_the_run_is_an_error_of_that_table_alone(docs: str) -> None:
    run(docs, "CREATE TABLE other AS SELECT * FROM docs")
    with looking(docs, table(tenant="tenant"), table("other")) as looker:
        first, second = looker.targets()
        run(docs, "DROP TABLE docs")
        unmeasured(looker.examine(first), 'relation "public.docs" does not exist')
        assert looker.examine(second).failing("completeness") == 1


def test_rows_hidden_during_the_run_are_an_error_and_no_verdict(docs: str) -> None:
    with role(docs, "late_policy") as url:
        run(docs, "GRANT SELECT ON docs TO late_policy")
        with looking(url, table(tenant="tenant")) as looker:
            (target,) = looker.targets()
            run(docs, "ALTER TABLE docs ENABLE ROW LEVEL SECURITY")
            unmeasured(looker.examine(target), "row-level security policy")


def test_a_statement_timeout_is_an_error_and_no_verdict(docs: str) -> None:
    with looking(docs, table(), statement_timeout="100ms") as looker:
        (target,) = looker.targets()
        with locked(docs):
            unmeasured(looker.examine(target), "statement timeout")
        assert looker.examine(target).failing("completeness") == 1


def test_a_table_that_somebody_keeps_locked_does_not_hide_the_others(docs: str) -> None:
    run(docs, "CREATE TABLE other AS SELECT * FROM docs")
    with locked(docs):
        declared = table(tenant="tenant"), table("other", tenant="tenant")
        examination = examined(docs, *declared, statement_timeout="100ms")
    (text,) = says(examination, "schema")
    assert text.startswith("public.docs: its expressions could not be validated: ")
    assert "statement timeout" in text
    assert [(f.table, f.tenant) for f in examination.findings[1:]] == [("public.other", "a")]


def test_a_cancelled_scan_is_tried_once_more(docs: str) -> None:
    seen = examined_meanwhile(docs, table(tenant="tenant"), cancels=1)
    assert seen.error is None
    assert seen.failing("completeness") == 1


def test_a_scan_cancelled_twice_is_an_error_and_no_verdict(docs: str) -> None:
    seen = examined_meanwhile(docs, table(tenant="tenant"), cancels=2)
    unmeasured(seen, "canceling statement due to user request")


def test_values_that_cannot_be_read_without_a_key_are_an_error_and_no_verdict(docs: str) -> None:
    run(docs, "ALTER TABLE docs DROP CONSTRAINT docs_pkey")
    run(docs, "UPDATE docs SET body = 'no time' WHERE id = 3")
    (seen,) = examined(docs, table(created_at="body")).tables
    unmeasured(seen, "invalid input syntax for type timestamp with time zone")


def test_a_condition_that_would_write_is_an_error_and_writes_nothing(docs: str) -> None:
    run(
        docs,
        """CREATE FUNCTION writes(bigint) RETURNS boolean LANGUAGE plpgsql AS $$
           BEGIN DELETE FROM docs; RETURN true; END $$""",
    )
    custom = [{"name": "writes", "failing_when": "writes(id)"}]
    (seen,) = examined(docs, table(custom=custom)).tables
    unmeasured(seen, "read-only transaction")
    assert rows(docs, "SELECT count(*) FROM docs") == [(11,)]


def test_a_lost_connection_is_an_error_of_each_table_that_was_left(docs: str) -> None:
    run(docs, "CREATE TABLE other AS SELECT * FROM docs")
    with looking(docs, table(), table("other")) as looker:
        first, second = looker.targets()
        # Cut by ourselves, as where a run ends: one that the server ends is opened again.
        open_sockets.cut_one(looker.connection)
        for target in (first, second):
            seen = looker.examine(target)
            assert seen.verdicts == ()
            assert seen.error is not None
            assert "could not be measured" in seen.error


def test_an_unreachable_server_ends_the_run(database: str) -> None:
    place = parse_url(database, variable="DATABASE_URL")
    gone = ConnectionTarget(parameters={**place.parameters, "port": "1"})
    with pytest.raises(CannotExamineError, match="cannot connect to database 'test_"):
        examine(gone, settings(table()), Selection())


def test_a_database_that_is_not_there_ends_the_run(server_url: str) -> None:
    with pytest.raises(CannotExamineError, match='database "no_such" does not exist'):
        examined(database_url(server_url, "no_such"), table())


def test_measuring_again_replaces_only_what_was_measured(docs: str) -> None:
    run(docs, "CREATE TABLE other AS SELECT * FROM docs")
    declared = table(tenant="tenant"), table("other", tenant="tenant")
    before = examined(docs, *declared)
    run(docs, "UPDATE docs SET embedding = '[1,2,3]'")
    again = examined(docs, *declared, only=["docs"])
    after = before.updated(again.tables)
    assert [(f.table, f.tenant) for f in after.findings] == [("public.other", "a")]
    assert [t.target.name for t in after.tables] == ["public.docs", "public.other"]
    assert after.table("public.other") is before.table("public.other")


def test_examining_again_finds_the_same(docs: str) -> None:
    declared = table(tenant="tenant", tenants=["gone"])
    assert examined(docs, declared).findings == examined(docs, declared).findings
