"""Rows for which an expression of the settings raises an error hide no other row."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.drivers.repairs import docs, environment, examined, repaired, settings
from tests.servers.provider_server import ProviderServer

if TYPE_CHECKING:
    from pathlib import Path

KEYS = environment("acme", "globex")


@pytest.mark.parametrize(
    ("changed", "table", "expression", "reason"),
    [
        ('meta = \'{"lang": "\\u0000"}\'', {"where": "meta ->> 'lang' = 'en'"}, "where", "Unicode"),
        ("note = '0'", {"text": "left(body, 100 / note::int)"}, "text", "division by zero"),
        ("note = 'x'", {"text": "left(body, 100 / note::int)"}, "text", "invalid input syntax"),
        (
            "meta = '[]'",
            {
                "tenant": "coalesce((meta::jsonb) #>> '{t}', jsonb_path_query_first(meta::jsonb,"
                " 'strict $.lang') ->> 0, tenant)",
                "where": "true",
            },
            "tenant",
            "jsonpath",
        ),
        (
            "note = 'soon'",
            {"created_at": "(note || '-01-01')::date"},
            "created_at",
            "invalid input",
        ),
    ],
)
def test_a_row_that_raises_is_named_and_the_others_are_measured_and_repaired(
    database: str,
    tmp_path: Path,
    changed: str,
    table: dict[str, str],
    expression: str,
    reason: str,
) -> None:
    with docs(database, {"acme": (20, 9), "globex": (8, 3)}) as rows, ProviderServer() as server:
        rows.execute('ALTER TABLE docs ADD meta json DEFAULT \'{"lang": "en"}\'')
        rows.execute("UPDATE docs SET note = '1'")
        rows.execute(f"UPDATE docs SET {changed} WHERE id IN (7, 25)")
        before = rows.execute("SELECT id, ctid FROM docs WHERE id IN (7, 25)")
        if expression == "tenant":
            # The path gives the rows' language, which is nobody's key: everybody is one tenant.
            rows.execute('UPDATE docs SET meta = \'{"t": "acme"}\' WHERE id NOT IN (7, 25)')
        chosen = settings(server, table=table)
        table_seen = examined(database, chosen)
        assert table_seen.measured
        assert table_seen.rows == 38
        (finding,) = table_seen.findings_of("schema")
        assert f"{expression} raises an error for 2 of 40 rows, with the key (7) or (25)" in (
            finding.says
        )
        assert reason in finding.says
        done = repaired(database, chosen, tmp_path, keys=KEYS)
        assert done.docs.stopped is None
        assert done.counts() == {"selected": 11, "fixed": 11}
        assert rows.execute("SELECT id, ctid FROM docs WHERE id IN (7, 25)") == before
        assert done.after is not None
        assert done.after.table("public.docs").failing("completeness") == 0


@pytest.mark.parametrize(
    ("store", "custom", "expression"),
    [
        ({"where": "age::int = 1"}, {}, "store.where"),
        ({"text": "(meta ->> 'body')"}, {}, "store.text"),
        ({}, {"name": "is_young", "failing_when": "store.age::int > 9"}, "custom.is_young"),
    ],
)
def test_so_is_one_for_whose_row_of_the_store_an_expression_raises(
    database: str, tmp_path: Path, store: dict[str, str], custom: dict[str, str], expression: str
) -> None:
    with docs(database, {"acme": (6, 3)}) as rows, ProviderServer() as server:
        rows.execute(
            "CREATE TABLE store (number bigint PRIMARY KEY, age text DEFAULT '1', meta json,"
            " embedding vector(8));"
            "INSERT INTO store SELECT id, '1', json_build_object('body', body), embedding"
            " FROM docs WHERE embedding IS NOT NULL;"
            """UPDATE store SET age = 'x', meta = '{"body": "\\u0000"}' WHERE number = 4"""
        )
        entry = {"store": {"name": "store", "key": ["number"], **store}}
        chosen = settings(server, table={**entry, "custom": [custom] if custom else []})
        seen = examined(database, chosen)
        assert (seen.measured, seen.rows, seen.failing("completeness")) == (True, 8, 3)
        said = " ".join(finding.says for finding in seen.findings_of("schema"))
        assert f"{expression} raises an error for 1 of 9 rows, with the key (4)" in said
        if expression == "store.text":
            return  # which a repair would have to write
        done = repaired(database, chosen, tmp_path, keys=KEYS)
        assert done.counts() == {"selected": 3, "fixed": 3}


def test_rows_are_found_by_a_key_of_several_columns_with_any_characters(database: str) -> None:
    with docs(database, {"acme": (60, 0)}) as rows, ProviderServer() as server:
        rows.execute(
            "ALTER TABLE docs DROP CONSTRAINT docs_pkey, ADD part text NOT NULL DEFAULT '100%''s';"
            "UPDATE docs SET part = chr(64 + id % 26), note = '1';"
            "ALTER TABLE docs ADD PRIMARY KEY (part, id);"
            "UPDATE docs SET part = '5%s ''', note = '0' WHERE id IN (1, 30, 31, 60)"
        )
        custom = [{"name": "even", "failing_when": "1 / note::int = 0"}]
        seen = examined(database, settings(server, table={"custom": custom}))
        (finding,) = seen.findings_of("schema")
        assert seen.rows == 56
        assert "custom.even raises an error for 4 of 60 rows" in finding.says
        assert "(5%s ', 1) or (5%s ', 30)" in finding.says


def test_a_table_of_nothing_but_such_rows_is_not_measured_and_says_which(database: str) -> None:
    with docs(database, {"acme": (5, 0)}) as rows, ProviderServer() as server:
        rows.execute(
            "INSERT INTO docs (id, tenant, body) SELECT n, 'acme', 'b'"
            " FROM generate_series(6, 900) AS n"
        )
        seen = examined(database, settings(server, table={"text": "left(body, id / 0)"}))
        assert not seen.measured
        said = [finding.says for finding in seen.findings_of("schema")]
        assert any("could not be measured: division by zero" in one for one in said)
        assert any("raises an error for at least" in one and "of 900 rows" in one for one in said)
