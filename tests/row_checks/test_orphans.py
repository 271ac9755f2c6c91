"""Rows whose counterpart is gone: chunks without their source, store rows without their table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from checks.items.cases import cases_of
from checks.items.judgements import judge
from remediation.journal.outcomes import Outcome
from tests.builders.tables import examined, failing, rows, run, says, table
from tests.drivers.repairs import environment, repaired, settings
from tests.servers.provider_server import ProviderServer

if TYPE_CHECKING:
    from pathlib import Path

    from checks.examination.examination import Examination
    from checks.findings.finding import Finding
    from tests.drivers.runs import Site

pytest_plugins = ("pytester",)

CHUNKS = """
CREATE TABLE chunks (
    id integer PRIMARY KEY, tenant text, document_id integer, body text, embedding vector(3)
)
"""
SOURCE = {"name": "documents", "key": ["id"], "source_key": ["document_id"]}


def chunks(url: str, *statements: str) -> None:
    """Documents 1 to 4, of which 3 has no chunk; chunks of 1, 2, 4, of 9 that is gone, of none."""
    run(
        url,
        "CREATE TABLE documents (id bigint PRIMARY KEY, tenant text)",
        CHUNKS,
        "INSERT INTO documents SELECT n, 'acme' FROM generate_series(1, 4) AS n",
        "INSERT INTO chunks VALUES (1, 'acme', 1, 'a', '[1,0,0]'), (2, 'acme', 1, 'b', '[0,1,0]'),"
        " (3, 'acme', 2, 'c', '[0,0,1]'), (4, 'acme', 9, 'd', '[1,1,0]'),"
        " (5, 'globex', 4, 'e', '[0,1,1]'), (6, 'globex', NULL, 'f', '[1,0,1]'),"
        " (7, NULL, 8, 'g', '[1,2,3]')",
        *statements,
    )


def entry(**keys: Any) -> str:
    return table("chunks", **{"tenant": "tenant", "source": SOURCE, **keys})


def of_whole_table(examination: Examination, check: str) -> list[Finding]:
    found = [f for f in examination.findings if f.check == check and f.whole_table]
    assert all(f.beside is not None for f in found)
    return found


def of_rows(examination: Examination, check: str) -> dict[str | None, int]:
    return {
        f.tenant: f.failing for f in examination.findings if f.check == check and not f.whole_table
    }


def test_a_chunk_whose_source_row_is_gone_or_unnamed_is_an_orphan_of_its_tenant(
    database: str,
) -> None:
    chunks(database)
    examination = examined(database, entry())
    assert of_rows(examination, "orphans") == {"acme": 1, "globex": 1, None: 1}
    shown = {}
    for finding in examination.findings:
        if finding.check == "orphans":
            assert finding.query is not None
            shown[finding.tenant] = [row[0] for row in rows(database, finding.query)]
    assert shown == {"acme": [4], "globex": [6], None: [7]}


def test_no_chunk_of_a_whole_table_is_an_orphan(database: str) -> None:
    chunks(
        database,
        "DELETE FROM chunks WHERE id IN (4, 6, 7)",
        "INSERT INTO chunks VALUES (8, 'acme', 3, 'h', '[2,1,0]')",
    )
    examination = examined(database, entry())
    assert examination.findings == ()
    assert {(c.check, c.beside) for c in cases_of(examination) if c.beside} == {
        ("completeness", "public.documents")
    }


def test_a_source_row_without_any_chunk_is_told_of_the_whole_table(database: str) -> None:
    chunks(database)
    (finding,) = of_whole_table(examined(database, entry()), "completeness")
    assert finding.says == "1 of 4 rows of public.documents have no chunk in public.chunks"
    assert (finding.rows, finding.failing) == (4, 1)
    assert finding.query is not None
    assert finding.query in finding.message
    assert rows(database, finding.query) == [(3,)]


def test_rows_out_of_the_declared_scope_cover_their_source_all_the_same(database: str) -> None:
    chunks(database, "INSERT INTO chunks VALUES (8, 'acme', 3, 'h', '[2,1,0]')")
    examination = examined(database, entry(where="id < 3"))
    assert examination.findings == ()


@pytest.mark.parametrize(("least", "found"), [(0.75, 0), (0.76, 1)])
def test_as_many_gaps_as_min_tolerates_are_none(database: str, least: float, found: int) -> None:
    chunks(database)
    checks = {"completeness": {"min": least, "severity": "warning"}}
    findings = of_whole_table(examined(database, entry(checks=checks)), "completeness")
    assert [finding.severity for finding in findings] == ["warning"] * found


def test_a_gap_has_an_item_of_its_own_beside_those_of_the_tenants(database: str) -> None:
    chunks(database)
    examination = examined(database, entry())
    cases = [case for case in cases_of(examination) if case.check == "completeness"]
    judged = {(case.tenant, case.beside): judge(case, examination).message for case in cases}
    assert {key: bool(message) for key, message in judged.items()} == {
        ("acme", None): False,
        ("globex", None): False,
        (None, None): False,
        (None, "public.documents"): True,
    }
    assert len({case.id for case in cases_of(examination)}) == len(cases_of(examination))


def test_gaps_belong_to_no_tenant_and_are_not_looked_at_for_some(database: str) -> None:
    chunks(database)
    examination = examined(database, entry(), tenants=("globex",))
    assert of_whole_table(examination, "completeness") == []
    assert of_rows(examination, "orphans") == {"globex": 1}
    assert [case for case in cases_of(examination) if case.beside] == []


def test_a_composite_source_key_is_matched_column_by_column(database: str) -> None:
    run(
        database,
        'CREATE TABLE "Doc" ("tenantId" text, "docNo" integer, PRIMARY KEY ("tenantId", "docNo"))',
        'CREATE TABLE "Chunk" (id integer PRIMARY KEY, "docNo" integer, "tenantId" text,'
        " body text, embedding vector(3))",
        "INSERT INTO \"Doc\" VALUES ('acme', 1), ('globex', 2)",
        "INSERT INTO \"Chunk\" VALUES (1, 1, 'acme', 'a', '[1,2,3]'),"
        " (2, 1, 'globex', 'b', '[1,2,4]'), (3, 2, NULL, 'c', '[1,2,5]')",
    )
    source = {
        "name": '"Doc"',
        "key": ['"tenantId"', '"docNo"'],
        "source_key": ['"tenantId"', '"docNo"'],
    }
    declared = table('"Chunk"', tenant='"tenantId"', source=source)
    examination = examined(database, declared)
    assert of_rows(examination, "orphans") == {"globex": 1, None: 1}
    (finding,) = of_whole_table(examination, "completeness")
    assert finding.query is not None
    assert rows(database, finding.query) == [("globex", 2)]


@pytest.mark.parametrize(
    ("source", "statement", "expected"),
    [
        ({"name": "papers"}, "", "source.name: table papers, declared beside public.chunks"),
        ({"key": ["uid"]}, "", "source.key: column 'uid' does not exist in public.documents"),
        (
            {"source_key": ["documentid"]},
            "",
            "source.source_key: column 'documentid' does not exist in public.chunks; did you mean"
            ' "document_id"?',
        ),
        (
            {},
            "ALTER TABLE documents ALTER id TYPE text",
            "(id) of public.documents cannot be matched with (document_id) of public.chunks:"
            " operator does not exist: text pg_catalog.= integer",
        ),
    ],
)
def test_what_is_wrong_with_a_source_is_told_with_its_setting(
    database: str, source: dict[str, Any], statement: str, expected: str
) -> None:
    chunks(database, *([statement] if statement else []))
    (problem,) = says(examined(database, entry(source={**SOURCE, **source})), "schema")
    assert expected in problem


def test_orphans_are_left_alone_by_a_repair_that_mends_the_chunks_beside_them(
    database: str, tmp_path: Path
) -> None:
    chunks(database, "UPDATE chunks SET embedding = NULL WHERE id IN (1, 4)")
    declared = {"name": "chunks", "tenant": "tenant", "text": "body", "source": SOURCE}
    with ProviderServer(dimensions=3) as server:
        config = settings(
            server, tables=[declared], provider={"dimensions": 3}, repair={"probe": 0}
        )
        done = repaired(database, config, tmp_path, keys=environment("acme"))
    (result,) = done.results
    assert result.account.count(Outcome.FIXED) == 2
    assert done.after is not None
    assert of_rows(done.after, "orphans") == {"acme": 1, "globex": 1, None: 1}
    assert rows(database, "SELECT count(*) FROM chunks") == [(7,)]


def store(url: str) -> None:
    run(
        url,
        "CREATE TABLE docs (id integer PRIMARY KEY, body text, gone boolean DEFAULT false)",
        "CREATE TABLE vectors (doc_id integer, embedding vector(3), UNIQUE (doc_id))",
        "INSERT INTO docs (id, body) VALUES (1, 'a'), (2, 'b')",
        "INSERT INTO vectors VALUES (1, '[1,0,0]'), (2, '[0,1,0]'), (7, '[0,0,1]'),"
        " (NULL, '[1,1,1]')",
    )


VECTORS = {"name": "vectors", "key": ["doc_id"]}


def test_store_rows_whose_table_row_is_gone_are_told_of_the_whole_table(database: str) -> None:
    store(database)
    examination = examined(database, table(store=VECTORS))
    (finding,) = examination.findings
    assert (finding.check, finding.beside) == ("orphans", "public.vectors")
    assert finding.says == "2 of 4 rows of public.vectors have no row in public.docs"
    assert finding.query is not None
    assert rows(database, finding.query) == [(7,), (None,)]
    run(database, "DELETE FROM vectors WHERE doc_id IS NULL OR doc_id = 7")
    assert examined(database, table(store=VECTORS)).findings == ()


def test_a_store_row_of_a_row_out_of_scope_is_no_orphan(database: str) -> None:
    store(database)
    run(
        database,
        "DELETE FROM vectors WHERE doc_id IS NULL OR doc_id = 7",
        "UPDATE docs SET gone = true WHERE id = 2",
    )
    assert examined(database, table(store=VECTORS, where="NOT gone")).findings == ()


def test_a_store_that_several_tables_share_holds_no_orphans_of_one_of_them(database: str) -> None:
    store(database)
    run(
        database,
        "CREATE TABLE notes (id integer PRIMARY KEY, body text)",
        "INSERT INTO notes VALUES (7, 'n')",
    )
    examination = examined(database, table(store=VECTORS), table("notes", store=VECTORS))
    assert examination.findings == ()
    assert failing(examination, "orphans") == {}


def test_a_gap_is_an_item_of_a_run_and_shows_its_statement(site: Site) -> None:
    store(site.database)
    site.settings(table(store=VECTORS))
    result = site.run()
    assert result.status == 1
    assert "orphans of public.docs" in result.output
    assert "2 of 4 rows of public.vectors have no row in public.docs" in result.output
    assert "WHERE NOT EXISTS (SELECT FROM" in result.output
