"""A diagnosis tells from the data alone what failing rows have in common, and what that is not."""

from __future__ import annotations

import json
from datetime import timedelta

import psycopg
import pytest

from checks.database.connection_url import parse_url
from checks.diagnosis.diagnosis import Diagnosis, diagnose
from reports.page.html import render
from reports.values.diagnosed import diagnosis_of
from tests.builders.incidents import incident
from tests.builders.tables import HOSTILE_TENANTS, examined, rows, run, settings, table
from tests.drivers.page import Page

NOTES = """
CREATE TABLE notes (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, tenant text, body text, embedding vector,
    created_at timestamptz, "Kind" text, model text
)
"""
ENTRY = {
    "tenant": "tenant",
    "created_at": "created_at",
    "group_by": ['"Kind"'],
    "model_column": "model",
    "model": "new-model",
    "checks": {"degenerate": {"enabled": False}, "uniqueness": {"enabled": False}},
}


@pytest.fixture
def notes(database: str) -> str:
    """600 healthy rows of four tenants over 100 days, each written by a transaction of its own."""
    run(database, NOTES)
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(
            """DO $$ BEGIN FOR n IN 1..600 LOOP
            INSERT INTO notes (tenant, body, embedding, created_at, "Kind", model)
            VALUES ('t' || n % 4, 'note ' || n, ARRAY[n, 1, 2]::vector,
                    '2026-01-01 00:00+00'::timestamptz + n * interval '4 hours',
                    CASE n % 5 WHEN 0 THEN 'import' ELSE 'chat' END, 'new-model');
            COMMIT; END LOOP; END $$"""
        )
    return database


def diagnosed(url: str, **changed: object) -> Diagnosis:
    """The diagnosis of `notes`."""
    entry = table("notes", **{**ENTRY, **changed})
    found = diagnose(parse_url(url, variable="DATABASE_URL"), settings(entry), examined(url, entry))
    (diagnosis,) = found.values()
    assert diagnosis.missing is None
    return diagnosis


def said(diagnosis: Diagnosis, topic: str) -> str:
    return "\n".join(one.says for one in diagnosis.evidence if one.topic == topic)


def pointing(diagnosis: Diagnosis, direction: str) -> set[str]:
    return {one.topic for one in diagnosis.evidence if one.migration == direction}


def test_rows_written_during_an_outage_are_told_by_their_window_and_what_lies_outside_it(
    notes: str,
) -> None:
    """Row by row, some healthy ones between them; and three long texts at other times."""
    run(
        notes,
        """DO $$ BEGIN FOR n IN 1..60 LOOP
        INSERT INTO notes (tenant, body, embedding, created_at, "Kind", model)
        VALUES ('t1', 'outage ' || n, CASE WHEN n % 6 = 0 THEN '[1,2,3]'::vector END,
                '2026-02-03 21:40+00'::timestamptz + n * interval '7 minutes', 'import',
                'new-model');
        COMMIT; END LOOP; END $$""",
        """INSERT INTO notes (tenant, body, created_at, "Kind")
        SELECT 't2', repeat('long ', 9000) || n, '2026-01-02 10:00+00'::timestamptz
               + n * interval '20 days', 'chat' FROM generate_series(1, 3) AS n""",
    )
    diagnosis = diagnosed(notes)
    assert diagnosis.found.failing == 53
    assert said(diagnosis, "when").startswith(
        "50 of 53 failing rows were created from 2026-02-03 21:47 to 2026-02-04 04:33 UTC"
    )
    assert "the other 3 failing rows have mostly in common: a text over 32,764 characters" in said(
        diagnosis, "outside"
    )
    assert 'tenant "t2"' in said(diagnosis, "outside")
    assert '"t1" holds 50 of 53 failing rows (94.3%)' in said(diagnosis, "tenant")
    assert 'the value "import" of Kind holds 50 of 53 failing rows' in said(diagnosis, "group")
    assert "times its share" in said(diagnosis, "group")
    assert "3 failing rows have texts over 32,764 characters" in said(diagnosis, "text")
    assert pointing(diagnosis, "against") >= {"when", "written"}
    assert pointing(diagnosis, "for") == set()


def test_one_statement_over_stored_rows_is_told_by_its_transaction_and_the_spread_of_its_rows(
    notes: str,
) -> None:
    run(notes, "UPDATE notes SET embedding = NULL WHERE id % 2 = 0")
    diagnosis = diagnosed(notes)
    assert diagnosis.window is None
    assert diagnosis.keys is not None
    told = [json.loads(line) for line in diagnosis.keys.lines()]
    assert {row["key"] for row in told} == {f"({2 * n})" for n in range(1, 301)}
    assert told[0] == {
        "table": "public.notes",
        "tenant": "t2",
        "key": "(10)",
        "checks": ["completeness"],
    }
    assert "no stretch of time stands out" in said(diagnosis, "when")
    assert "300 of 300 failing rows were last written by one transaction" in said(
        diagnosis, "written"
    )
    assert pointing(diagnosis, "for") >= {"when", "written"}
    assert said(diagnosis, "group") == "no value of Kind stands out among failing rows"


def test_of_very_many_failing_rows_the_first_are_listed_and_the_page_says_of_how_many(
    notes: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(notes, "UPDATE notes SET embedding = NULL WHERE id % 2 = 0")
    monkeypatch.setattr("checks.diagnosis.facet_statement.MOST_KEYS", 40)
    diagnosis = diagnosed(notes)
    assert diagnosis.keys is not None
    assert len(list(diagnosis.keys.lines())) == diagnosis.keys.listed == 40
    reported = diagnosis_of({"public.notes": diagnosis})
    page = Page(render(incident().model_copy(update={"diagnosis": reported}))).words
    assert "The first 40 of 300 are listed with tenant and checks in failing-keys.jsonl" in page


def test_kinds_models_and_dimensions_are_told_apart_by_name(notes: str) -> None:
    run(
        notes,
        "UPDATE notes SET model = 'old-model' WHERE id <= 40",
        "UPDATE notes SET embedding = ARRAY[1, 2]::vector WHERE id <= 20",
        "UPDATE notes SET embedding = NULL WHERE id > 590",
    )
    diagnosis = diagnosed(notes)
    assert diagnosis.found.failing == 50
    kinds = said(diagnosis, "kind")
    assert kinds == (
        "40 carry another model's name; 20 have a vector of another dimension;"
        " 10 have no embedding; 20 of these fail several checks"
    )
    assert '"old-model" (40)' in said(diagnosis, "model")
    assert "other dimensions than 3, as declared: 20 rows of 2" in said(diagnosis, "dimension")


def test_stale_rows_are_told_by_their_edits_as_they_may_be_of_any_age(notes: str) -> None:
    run(
        notes,
        "ALTER TABLE notes ADD updated_at timestamptz, ADD embedded_at timestamptz",
        "UPDATE notes SET embedded_at = '2026-05-01 00:00+00'",
        "UPDATE notes SET updated_at = '2026-06-01 03:00+00'::timestamptz + id * interval '12 s'"
        " WHERE id % 10 = 0",
        "UPDATE notes SET updated_at = '2026-09-09 09:30+00' WHERE id = 5",
        "UPDATE notes SET updated_at = '-infinity', embedding = NULL WHERE id = 6",
    )
    diagnosis = diagnosed(notes, updated_at="updated_at", embedded_at="embedded_at")
    assert said(diagnosis, "edited") == (
        "60 of 61 stale rows edited last from 2026-06-01 03:00 to 2026-06-01 06:00 UTC,"
        " by updated_at"
    )


def test_a_table_that_one_transaction_loaded_as_a_whole_tells_nothing_of_its_writer(
    database: str,
) -> None:
    run(
        database,
        NOTES,
        """INSERT INTO notes (tenant, body, model, embedding)
        SELECT 't', 'x' || n, 'new-model', CASE WHEN n % 3 > 0 THEN ARRAY[n, 1, 2]::vector END
        FROM generate_series(1, 90) AS n""",
    )
    diagnosis = diagnosed(database, created_at="created_at")
    assert diagnosis.found.failing == 30
    assert said(diagnosis, "written") == ""
    without = diagnosed(database, group_by=['"Kind"', "tenant"])
    assert {one.topic for one in without.evidence} >= {"kind"}


@pytest.mark.parametrize("kept", ["store", "view", "partitioned", "set"])
def test_every_layout_of_a_table_is_diagnosed(database: str, kept: str) -> None:
    """With names that break whatever builds SQL by hand."""
    run(
        database,
        NOTES
        if kept != "partitioned"
        else NOTES.replace("PRIMARY KEY", "").rstrip().removesuffix(")")
        + ") PARTITION BY LIST (tenant)",
        *(["CREATE TABLE rest PARTITION OF notes DEFAULT"] if kept == "partitioned" else []),
        "CREATE TABLE kept (note bigint PRIMARY KEY, embedding vector, model text)",
        "CREATE VIEW seen AS SELECT * FROM notes",
    )
    with psycopg.connect(database, autocommit=True) as connection:
        for n, tenant in enumerate(HOSTILE_TENANTS):
            connection.execute(
                'INSERT INTO notes (tenant, body, created_at, "Kind", embedding)'
                " VALUES (%s, 'x' || %s, now() - interval '1 day', %s, %s)",
                (tenant, n, tenant, "[1,2,3]" if kept == "set" else None),
            )
    name = "seen" if kept == "view" else "notes"
    changed: dict[str, object] = {"key": ["id"]} if kept in ("view", "partitioned") else {}
    if kept == "store":
        changed = {"store": {"name": "kept", "key": ["note"]}, "model_column": None}
    checks: object = {"uniqueness": {"enabled": True}} if kept == "set" else ENTRY["checks"]
    entry = table(
        name,
        **{k: v for k, v in {**ENTRY, "checks": checks, **changed}.items() if v is not None},
    )
    place = parse_url(database, variable="DATABASE_URL")
    (diagnosis,) = diagnose(place, settings(entry), examined(database, entry)).values()
    assert diagnosis.missing is None
    assert diagnosis.found.failing == len(HOSTILE_TENANTS)
    assert rows(database, "SELECT count(*) FROM notes") == [(len(HOSTILE_TENANTS),)]


def test_what_takes_too_long_is_said_to_be_missing_and_ends_no_run(
    notes: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from checks.diagnosis import diagnosis

    run(notes, "UPDATE notes SET embedding = NULL")
    monkeypatch.setattr(diagnosis, "PATIENCE", timedelta(milliseconds=1))
    entry = table("notes", **ENTRY)
    place = parse_url(notes, variable="DATABASE_URL")
    (found,) = diagnose(place, settings(entry), examined(notes, entry)).values()
    # So short a timeout may be told as a cancellation.
    assert "canceling statement" in (found.missing or "")
    assert found.evidence == ()
