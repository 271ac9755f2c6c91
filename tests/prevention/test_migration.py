"""What else the migration makes, refuses, says and leaves alone."""

from __future__ import annotations

import threading

import psycopg
import pytest

from remediation.prevention.migration import NameTakenError
from tests.builders.tables import rows, run, settings, table
from tests.drivers.migrations import catalog, migrated, migration, psql

DOCS = "CREATE TABLE docs (id int PRIMARY KEY, body text, embedding {} )"


@pytest.mark.parametrize("column", ["vector", "halfvec", "sparsevec", "real[]"])
def test_no_vector_of_another_dimension_is_let_in(database: str, column: str) -> None:
    run(database, DOCS.format(column))
    good, bad = {
        "sparsevec": ("{1:1}/3", "{1:1}/4"),
        "real[]": ("{1,2,3}", "{1,2}"),
    }.get(column, ("[1,2,3]", "[1,2]"))
    made = migrated(database, settings(table()))
    run(database, f"INSERT INTO docs VALUES (1, 'x', '{good}'), (2, 'y', NULL)")
    with pytest.raises(psycopg.errors.CheckViolation):
        run(database, f"INSERT INTO docs VALUES (3, 'x', '{bad}')")
    assert "embedding_integrity_dimension" in made.up


def test_rows_of_another_dimension_stop_the_proof_and_nothing_else(database: str) -> None:
    run(database, DOCS.format("vector"), "INSERT INTO docs VALUES (1, 'x', '[1,2]')")
    script = migration(database, settings(table())).up
    done = psql(database, script)
    assert "violated by some row" in done.stderr
    valid = "SELECT convalidated FROM pg_constraint WHERE conname = 'embedding_integrity_dimension'"
    assert rows(database, valid) == [(False,)]
    run(database, "UPDATE docs SET embedding = '[1,2,3]'")
    assert psql(database, script).returncode == 0
    assert rows(database, valid) == [(True,)]


def test_a_changed_declaration_replaces_what_an_earlier_one_made(database: str) -> None:
    run(database, DOCS.format("vector") + "; ALTER TABLE docs ADD content_hash text")
    before = catalog(database)
    migrated(database, settings(table(dimensions=2)))
    run(database, "INSERT INTO docs VALUES (1, 'x', NULL)")
    migrated(database, settings(table(checks={"freshness": {"enabled": False}})))
    assert not any(name.startswith("zz_") for kind, name in catalog(database) if kind == "trigger")
    run(database, "UPDATE docs SET embedding = '[1,2,3]'")
    run(database, "ALTER TABLE docs ALTER body SET NOT NULL")
    down = migration(database, settings(table(text="no_such_column"))).down
    # The view is that of scannable tables, and there is none now.
    run(database, "DROP VIEW embedding_integrity")
    assert psql(database, down).returncode == 0
    run(database, "ALTER TABLE docs ALTER body DROP NOT NULL")
    assert catalog(database) == before


@pytest.mark.parametrize(
    ("taken", "named"),
    [
        ("CREATE TABLE embedding_integrity (a int)", "view public.embedding_integrity"),
        (
            "CREATE FUNCTION embedding_integrity_stale_docs() RETURNS int LANGUAGE sql RETURN 1",
            "function public.embedding_integrity_stale_docs",
        ),
        (
            "CREATE INDEX embedding_integrity_missing_docs ON docs (body)",
            "index public.embedding_integrity_missing_docs",
        ),
        (
            "ALTER TABLE docs ADD CONSTRAINT embedding_integrity_dimension CHECK (id > 0)",
            "constraint embedding_integrity_dimension on public.docs",
        ),
    ],
)
def test_a_name_that_something_else_has_is_refused_before_and_while_it_is_run(
    database: str, taken: str, named: str
) -> None:
    run(database, DOCS.format("vector"))
    made = migration(database, settings(table()))
    run(database, taken)
    theirs = [each for each in catalog(database) if "embedding_integrity" in each[1]]
    with pytest.raises(NameTakenError, match=f"{named}: there already"):
        migration(database, settings(table()))
    for script in (made.up, made.down):
        done = psql(database, script)
        assert f"{named}: there already" in done.stderr
    assert set(theirs) <= set(catalog(database))


def test_an_index_that_serves_is_kept_and_a_broken_one_is_made_anew(database: str) -> None:
    run(database, DOCS.format("vector(3)"), "CREATE INDEX own ON docs (id) WHERE embedding IS NULL")
    said = "another index finds the rows without an embedding already"
    assert said in migration(database, settings(table())).up
    run(
        database,
        "DROP INDEX own",
        "CREATE INDEX embedding_integrity_missing_docs ON docs (id) WHERE embedding IS NULL",
        "UPDATE pg_index SET indisvalid = false"
        " WHERE indexrelid = 'embedding_integrity_missing_docs'::regclass",
    )
    migrated(database, settings(table()))
    valid = "SELECT indisvalid FROM pg_index WHERE indrelid = 'docs'::regclass"
    assert rows(database, valid) == [(True,), (True,)]


def test_a_table_that_stays_locked_is_left_as_it_was_and_holds_nobody_up(database: str) -> None:
    run(database, DOCS.format("vector(3)"))
    script = migration(database, settings(table())).up
    before = catalog(database)
    with psycopg.connect(database) as holder:
        holder.execute("LOCK TABLE docs IN ROW EXCLUSIVE MODE")
        worker = threading.Thread(target=lambda: done.append(psql(database, script)))
        done: list[object] = []
        worker.start()
        worker.join(60)
        holder.rollback()
    (ended,) = done
    assert "lock timeout" in getattr(ended, "stderr", "")
    assert catalog(database) == before


def test_what_cannot_be_prevented_is_said_and_not_run(database: str) -> None:
    run(
        database,
        "CREATE TABLE keyless (body text, embedding vector(3) NOT NULL)",
        "CREATE VIEW seen AS SELECT * FROM keyless",
    )
    tables = (table("keyless"), table("seen"), table("gone"), table("later", required=False))
    script = migration(database, settings(*tables)).up
    for said in (
        "not repaired: public.keyless has no primary key",
        "column 'embedding' may not be NULL; declare content_hash",
        "public.seen is a view, whose rows have no triggers",
        "nothing is prevented: table gone does not exist",
        "nothing is prevented: later does not exist yet",
    ):
        assert f"-- {said}" in script or said in script, said
    assert psql(database, script).returncode == 0
    assert rows(database, "SELECT count(*) FROM embedding_integrity") == [(0,)]
