"""What a repair says of the vectors it writes, and rows whose words contradict their vectors."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import pytest

from remediation.journal.outcomes import Outcome
from tests.builders.tables import examined as examined_by
from tests.builders.tables import run, says, table
from tests.drivers.repairs import docs, environment, examined, repaired, settings
from tests.servers.provider_server import MODEL, ProviderServer

if TYPE_CHECKING:
    from pathlib import Path

    from checks.settings.integrity_toml import Settings
    from tests.drivers.repairs import Docs

KEYS = environment("acme")


def declared(server: ProviderServer | str, **columns: Any) -> Settings:
    return settings(server, table=columns)


def counts(url: str, of: Settings) -> dict[str, int]:
    examination = examined(url, of)
    assert examination.error is None, examination.error
    return {check.name: examination.failing(check.name) for check in examination.checks}


def add(rows: Docs, *columns: str) -> None:
    for column in columns:
        rows.execute(f"ALTER TABLE docs ADD {column}")


def test_vectors_with_an_empty_tag_or_none_are_embedded_again_and_never_merely_stamped(
    database: str, tmp_path: Path
) -> None:
    with docs(database, {"acme": (9, 0)}) as rows, ProviderServer() as server:
        add(rows, f"model text DEFAULT '{MODEL}'")
        rows.execute("UPDATE docs SET model = '' WHERE id IN (1, 2)")
        rows.execute("UPDATE docs SET model = NULL WHERE id = 3")
        rows.execute("UPDATE docs SET embedding = '[1,2,3,4,5,6,7,8]' WHERE id = 2")
        of = declared(server, model_column="model")
        assert counts(database, of)["provenance"] == 3
        done = repaired(database, of, tmp_path, keys=KEYS)
        assert done.counts() == {"selected": 3, "fixed": 3}
        sent = [text for request in server.requests for text in request.texts]
        assert {f"document {number} of acme" for number in (1, 2, 3)} <= set(sent)
        assert rows.wrong() == []
        assert rows.execute("SELECT DISTINCT model FROM docs") == [(MODEL,)]


def test_a_stale_vector_whose_hash_was_stamped_with_the_new_text_is_found_by_its_time(
    database: str, tmp_path: Path
) -> None:
    with docs(database, {"acme": (6, 0)}) as rows, ProviderServer() as server:
        add(rows, "hash text", "edited timestamptz DEFAULT now()", "embedded timestamptz")
        rows.execute("UPDATE docs SET hash = md5(body), embedded = now()")
        rows.execute(
            "UPDATE docs SET body = 'a new text', hash = md5('a new text'),"
            " edited = now() + interval '1 hour' WHERE id = 2"
        )
        hashed = declared(server, content_hash="hash")
        assert counts(database, hashed)["freshness"] == 0
        both = declared(server, content_hash="hash", updated_at="edited", embedded_at="embedded")
        assert counts(database, both)["freshness"] == 1
        done = repaired(database, both, tmp_path, keys=KEYS)
        assert done.counts() == {"selected": 1, "fixed": 1}
        assert rows.wrong() == []
        assert counts(database, both)["freshness"] == 0


@pytest.mark.parametrize(
    ("updated", "embedded"),
    [
        ("timestamptz", "timestamptz"),
        ("timestamptz", "timestamptz(0)"),
        ("timestamptz", "timestamp(3)"),
        ("timestamp", "timestamp(3)"),
        ("timestamptz", "date"),
        ("date", "timestamp"),
    ],
)
def test_the_time_that_is_written_is_never_before_the_last_edit(
    database: str, tmp_path: Path, updated: str, embedded: str
) -> None:
    edits = ("now()", "now() + interval '3 days 0.0004 s'", "NULL", "'infinity'", "'2026-01-01'")
    with docs(database, {"acme": (5, 5)}) as rows, ProviderServer() as server:
        rows.execute(
            "ALTER DATABASE \"{}\" SET TimeZone = 'Asia/Tokyo'".format(database.rpartition("/")[2])
        )
        add(rows, f"edited {updated}", f"embedded {embedded}")
        for number, edited in enumerate(edits):
            rows.execute(f"UPDATE docs SET edited = {edited} WHERE id % 5 = {number}")
        of = declared(server, updated_at="edited", embedded_at="embedded")
        done = repaired(database, of, tmp_path, keys=KEYS)
        assert done.counts() == {"selected": 10, "fixed": 10}
        assert counts(database, of)["freshness"] == 0


def test_a_trigger_that_dates_every_update_does_not_make_the_row_stale(
    database: str, tmp_path: Path
) -> None:
    with docs(database, {"acme": (3, 4)}) as rows, ProviderServer() as server:
        add(rows, "edited timestamptz DEFAULT now()", "embedded timestamp(3) DEFAULT now()")
        _dated_by_trigger(rows, "now()")
        of = declared(server, updated_at="edited", embedded_at="embedded")
        done = repaired(database, of, tmp_path, keys=KEYS)
        assert done.counts()["fixed"] == done.counts()["selected"]
        assert counts(database, of) == dict.fromkeys(counts(database, of), 0)


def test_a_trigger_that_dates_every_update_after_it_stops_the_check(
    database: str, tmp_path: Path
) -> None:
    with docs(database, {"acme": (30, 0)}) as rows, ProviderServer() as server:
        add(rows, "edited timestamptz", "embedded timestamptz")
        _dated_by_trigger(rows, "now() + interval '1 minute'")
        of = declared(server, updated_at="edited", embedded_at="embedded")
        done = repaired(database, of, tmp_path, keys=KEYS)
        assert done.counts() == {"selected": 30, "failed": 5, "skipped": 25}
        assert done.reasons(Outcome.FAILED) == {"still fails freshness after it was written"}
        assert done.docs.stopped is not None


def test_an_edit_as_soon_as_the_repair_ends_is_later_than_its_vectors(
    database: str, tmp_path: Path
) -> None:
    with docs(database, {"acme": (0, 6)}) as rows, ProviderServer() as server:
        add(rows, "edited timestamptz DEFAULT now()", "embedded timestamptz")
        _dated_by_trigger(rows, "clock_timestamp()")
        of = declared(server, updated_at="edited", embedded_at="embedded")
        done = repaired(database, of, tmp_path, keys=KEYS)
        rows.execute("UPDATE docs SET body = body || ', edited' WHERE id = 4")
        assert done.counts() == {"selected": 6, "fixed": 6}
        assert counts(database, of)["freshness"] == 1


def _dated_by_trigger(rows: Docs, time: str) -> None:
    rows.execute(
        f"CREATE FUNCTION dated() RETURNS trigger LANGUAGE plpgsql AS"
        f" $$ BEGIN NEW.edited := {time}; RETURN NEW; END $$"
    )
    rows.execute("CREATE TRIGGER dated BEFORE UPDATE ON docs FOR EACH ROW EXECUTE FUNCTION dated()")


@pytest.mark.parametrize("kind", ["text", "varchar", "char(32)", "varchar(64)", "uuid", "bytea"])
def test_the_hash_is_that_of_the_whole_text_that_was_sent(
    database: str, tmp_path: Path, kind: str
) -> None:
    with docs(database, {"acme": (2, 3)}) as rows, ProviderServer() as server:
        add(rows, f'"Hash 100%" {kind}')
        rows.execute("UPDATE docs SET note = '100% ' || id")
        text = "note || E'\\n' || body"
        of = declared(server, content_hash='"Hash 100%"', text=text)
        done = repaired(
            database, of.model_copy(update={"repair": _no_probe(of)}), tmp_path, keys=KEYS
        )
        assert done.counts() == {"selected": 5, "fixed": 5}
        assert counts(database, of)["freshness"] == 0
        for number, stored in rows.rows('id, "Hash 100%"'):
            sent = f"100% {number}\ndocument {number} of acme"
            expected = hashlib.md5(sent.encode())
            assert sent in server.texts
            if kind == "bytea":
                assert stored == expected.digest()
            else:
                assert str(stored).replace("-", "") == expected.hexdigest()


def _no_probe(of: Settings) -> Any:
    return of.repair.model_copy(update={"probe": 0})


def test_a_generated_hash_is_left_to_postgresql(database: str, tmp_path: Path) -> None:
    with docs(database, {"acme": (2, 3)}) as rows, ProviderServer() as server:
        add(rows, "hash text GENERATED ALWAYS AS (md5(body)) STORED")
        of = declared(server, content_hash="hash")
        done = repaired(database, of, tmp_path, keys=KEYS)
        assert done.counts() == {"selected": 3, "fixed": 3}


def test_a_text_that_is_edited_meanwhile_keeps_its_words_about_the_old_vector(
    database: str, tmp_path: Path
) -> None:
    with docs(database, {"acme": (3, 5)}) as rows, ProviderServer() as server:
        add(rows, "hash text", f"model text DEFAULT '{MODEL}'")
        rows.execute("UPDATE docs SET hash = md5(body)")
        of = declared(server, content_hash="hash", model_column="model")
        edited: list[bool] = []

        def edit(_: object) -> None:
            if len(server.requests) == 2 and not edited:
                edited.append(True)
                rows.execute("UPDATE docs SET body = 'edited meanwhile' WHERE id = 5")

        server.always(edit)
        done = repaired(database, of, tmp_path, keys=KEYS)
        assert edited
        assert done.counts() == {"selected": 5, "fixed": 5}
        assert rows.wrong() == []
        assert counts(database, of) == dict.fromkeys(counts(database, of), 0)


@pytest.mark.parametrize(
    ("setting", "kind", "expected"),
    [
        ("content_hash", "integer", "is of type integer; expected one of bytea, character,"),
        ("content_hash", "char(16)", "too short for the 32 digits of md5"),
        ("embedded_at", "bigint", "is of type bigint; expected one of timestamp with time zone,"),
    ],
)
def test_a_column_that_cannot_hold_what_it_is_declared_to_tell_is_named(
    database: str, setting: str, kind: str, expected: str
) -> None:
    run(
        database,
        f"CREATE TABLE docs (id int PRIMARY KEY, body text, embedding vector(3), told {kind},"
        " edited timestamptz)",
    )
    keys = {setting: "told", **({"updated_at": "edited"} if setting == "embedded_at" else {})}
    (words,) = says(examined_by(database, table(**keys)), "schema")
    assert words.startswith(f"{setting}: column 'told' of public.docs ")
    assert expected in words
