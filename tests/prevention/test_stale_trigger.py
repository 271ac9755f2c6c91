"""An edit of a text is seen at once, and a repair's own write never counts as one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.drivers.migrations import catalog, migrated, migration, psql
from tests.drivers.repairs import Docs, docs, environment, examined, repaired, settings
from tests.drivers.rollbacks import rolled_back, run_of
from tests.servers.provider_server import ProviderServer

if TYPE_CHECKING:
    from pathlib import Path

    from checks.settings.integrity_toml import Settings

KEYS = environment("acme", "globex")
ROWS = {"acme": (6, 0), "globex": (4, 0)}

HASH = {"content_hash": "content_hash"}
TIME = {"updated_at": "updated_at", "embedded_at": "embedded_at"}


@pytest.mark.parametrize(
    ("columns", "declared", "check"),
    [
        ("ADD content_hash text", HASH, "freshness"),
        ("ADD updated_at timestamptz, ADD embedded_at timestamp(3)", TIME, "freshness"),
        ("ADD unused int", {}, "completeness"),
    ],
    ids=["by hash", "by time", "by NULL"],
)
def test_an_edit_is_seen_at_once_and_repaired_once(
    each_database: str, tmp_path: Path, columns: str, declared: dict[str, Any], check: str
) -> None:
    with ProviderServer() as server, docs(each_database, ROWS) as table:
        chosen = settings(server, table=declared)
        table.execute(f"ALTER TABLE docs {columns}")
        if declared:
            table.execute(
                "UPDATE docs SET content_hash = md5(body)"
                if declared is HASH
                else "UPDATE docs SET embedded_at = now(), updated_at = now() - interval '1 day'"
            )
        before = catalog(each_database)
        made = migrated(each_database, chosen)
        assert failing(each_database, chosen) == {}

        table.execute("UPDATE docs SET note = 'no text', tenant = tenant WHERE id < 9")
        table.execute("UPDATE docs SET body = body")
        assert failing(each_database, chosen) == {}
        table.execute("UPDATE docs SET body = 'edited ' || id WHERE id IN (1, 7)")
        assert failing(each_database, chosen) == {check: 2}

        done = repaired(each_database, chosen, tmp_path, keys=KEYS)
        assert done.counts() == {"selected": 2, "fixed": 2}
        assert table.wrong() == []
        assert failing(each_database, chosen) == {}
        again = psql(each_database, migration(each_database, chosen).up)
        assert again.returncode == 0, again.stderr
        assert failing(each_database, chosen) == {}

        down = psql(each_database, made.down)
        assert down.returncode == 0, down.stderr
        assert catalog(each_database) == before
        assert psql(each_database, made.down).returncode == 0


@pytest.mark.parametrize(
    ("columns", "declared"),
    [
        ("ADD content_hash text", HASH),
        ("ADD updated_at timestamptz, ADD embedded_at timestamp(3)", TIME),
        ("ADD unused int", {}),
    ],
    ids=["by hash", "by time", "by NULL"],
)
def test_a_rollback_puts_back_what_stood_there_and_marks_nothing(
    database: str, tmp_path: Path, columns: str, declared: dict[str, Any]
) -> None:
    with ProviderServer() as server, docs(database, ROWS) as table:
        chosen = settings(server, table=declared)
        table.execute(f"ALTER TABLE docs {columns}")
        if declared is HASH:
            table.execute("UPDATE docs SET content_hash = md5(body)")
        if declared is TIME:
            table.execute(
                "UPDATE docs SET embedded_at = now(), updated_at = now() - interval '1 day'"
            )
        # Vectors that fail, which a mark by NULL would lose; and an edit that is marked.
        table.execute("UPDATE docs SET embedding = array_fill(0, ARRAY[8])::vector WHERE id < 4")
        migrated(database, chosen)
        table.execute("UPDATE docs SET body = 'edited ' || id WHERE id IN (3, 7)")
        everything = "SELECT to_jsonb(docs)::text FROM docs ORDER BY id"
        before, failed = table.execute(everything), failing(database, chosen)
        assert failed

        done = repaired(database, chosen, tmp_path, keys=KEYS)
        assert done.counts() == {"selected": 4, "fixed": 4}
        assert failing(database, chosen) == {}
        undone = rolled_back(database, chosen, tmp_path, run_of(done))
        assert undone.counts() == {"selected": 4, "restored": 4}
        assert table.execute(everything) == before
        assert failing(database, chosen) == failed


def test_who_writes_text_and_vector_together_marks_nothing(database: str) -> None:
    with docs(database, ROWS) as table:
        migrated(database, settings("http://127.0.0.1:9"))
        vector = table.literal("together")
        table.execute("UPDATE docs SET body = 'together', embedding = %s WHERE id = 1", (vector,))
        assert table.wrong() == []


def test_a_hash_that_the_application_moves_with_the_text_alone_stays_that_of_the_vector(
    database: str,
) -> None:
    with docs(database, ROWS) as table:
        chosen = settings("http://127.0.0.1:9", table=HASH)
        table.execute("ALTER TABLE docs ADD content_hash uuid NOT NULL DEFAULT gen_random_uuid()")
        table.execute("UPDATE docs SET content_hash = md5(body)::uuid")
        migrated(database, chosen)
        edit = "UPDATE docs SET body = body || %s, content_hash = md5(body || %s)::uuid"
        table.execute(edit, ("!", "!"))
        assert failing(database, chosen) == {"freshness": 10}
        table.execute("UPDATE docs SET body = rtrim(body, '!')")
        assert failing(database, chosen) == {}


def test_rows_outside_of_the_scope_keep_their_vector(database: str) -> None:
    with docs(database, ROWS) as table:
        migrated(database, settings("http://127.0.0.1:9"))
        table.execute("UPDATE docs SET body = 'edited', hidden = true WHERE id = 1")
        assert table.execute("SELECT count(*) FROM docs WHERE embedding IS NULL") == [(0,)]


def test_a_text_that_cannot_be_told_keeps_nobody_from_editing(database: str) -> None:
    with docs(database, ROWS) as table:
        table.execute("UPDATE docs SET note = '1'")
        migrated(database, settings("http://127.0.0.1:9", table={"text": "1 / note::int || body"}))
        table.execute("UPDATE docs SET note = 'no number', body = 'kept' WHERE id = 1")
        assert table.execute("SELECT body, embedding IS NULL FROM docs WHERE id = 1") == [
            ("kept", False)
        ]


HOSTILE = 'A "we;ird" 100% %s\n$integrity$ ' + "Ж" * 13
"""63 bytes and more: PostgreSQL cuts what is longer."""


def test_hostile_names_and_expressions_are_marked_like_any_other(
    each_database: str, tmp_path: Path
) -> None:
    name = HOSTILE.encode()[:63].decode(errors="ignore")
    quoted = '"' + name.replace('"', '""') + '"'
    schema = '"Back\\slash; --"'
    where = f"{schema}.{quoted}"
    text = "concat_ws($x$ %s ; ' $x$, title /* ' */, public.shout(twice)) -- $integrity1$ ;"
    with ProviderServer() as server:
        table = {"name": where, "text": text, "embedding": quoted, "where": "true"}
        chosen = settings(server, table=table)
        connection = Docs(url=each_database)
        connection.execute(
            f"CREATE SCHEMA {schema};"
            "CREATE FUNCTION shout(text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT upper($1)';"
            f"CREATE TABLE {where} (a int, \"B\" int, tenant text DEFAULT 'acme', title text,"
            f" body text, twice text GENERATED ALWAYS AS (shout(body) || body) STORED,"
            f' {quoted} vector, PRIMARY KEY (a, "B")) PARTITION BY RANGE (a);'
            f"CREATE TABLE {schema}.old PARTITION OF {where} FOR VALUES FROM (0) TO (10);"
            f"CREATE TABLE {schema}.more PARTITION OF {where} FOR VALUES FROM (10) TO (99)"
            ' PARTITION BY HASH ("B");'
            f"CREATE TABLE {schema}.part PARTITION OF {schema}.more"
            " FOR VALUES WITH (MODULUS 1, REMAINDER 0)"
        )
        before = catalog(each_database)
        made = migrated(each_database, chosen)
        connection.execute(
            f"INSERT INTO {where} (a, \"B\", title, body) SELECT n, n, 't', n FROM"
            " generate_series(1, 20) AS n"
        )
        assert failing(each_database, chosen, where) == {"completeness": 20}
        done = repaired(each_database, chosen, tmp_path, keys=KEYS)
        assert done.after is not None
        assert done.after.findings == ()
        connection.execute(f"UPDATE {where} SET body = 'edited' WHERE a IN (2, 13)")
        assert failing(each_database, chosen, where) == {"completeness": 2}
        connection.execute(f"UPDATE {where} SET a = 15 WHERE a = 3")
        again = psql(each_database, migration(each_database, chosen).up)
        assert again.returncode == 0, again.stderr
        valid = "SELECT bool_and(indisvalid) FROM pg_index WHERE indexrelid::regclass::text ~ %s"
        assert connection.execute(valid, ("embedding_integrity_missing",)) == [(True,)]
        down = psql(each_database, made.down)
        assert down.returncode == 0, down.stderr
        connection.close()
        assert catalog(each_database) == before


def failing(url: str, chosen: Settings, table: str = "public.docs") -> dict[str, int]:
    """The checks that fail, with how many rows."""
    counts: dict[str, int] = {}
    for finding in examined(url, chosen, table).findings:
        counts[finding.check] = counts.get(finding.check, 0) + finding.failing
    return counts
