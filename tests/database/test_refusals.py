"""What is said of a server's error holds nothing of a row, and still says what is the matter."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest

from checks.database.errors import reason_of
from remediation.journal.outcomes import Outcome
from tests.builders.tables import run
from tests.drivers.repairs import docs, environment, repaired, settings
from tests.servers.provider_server import ProviderServer

if TYPE_CHECKING:
    from pathlib import Path

SECRET = "the patient is called Ada"

SAYS_IT = f"""
CREATE FUNCTION says() RETURNS integer LANGUAGE plpgsql AS $body$ BEGIN %s END $body$;
CREATE TABLE said (body text CHECK (body <> '{SECRET}'), number integer UNIQUE)
"""


def raised(database: str, body: str, statement: str = "SELECT says()") -> str:
    """What is said of the error of a statement, or of that of a function's body."""
    run(database, *(SAYS_IT % body).split(";\n"))
    with psycopg.connect(database) as connection, pytest.raises(psycopg.Error) as caught:
        connection.execute(statement)
    return reason_of(caught.value)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (f"RAISE '{SECRET}';", "a trigger or function raised SQLSTATE P0001"),
        (f"RAISE 'no' USING HINT = '{SECRET}';", "a trigger or function raised SQLSTATE P0001"),
        (f"RAISE check_violation USING MESSAGE = '{SECRET}';", "raised SQLSTATE 23514"),
        (f"ASSERT false, '{SECRET}';", "raised SQLSTATE P0004"),
        (f"RETURN '{SECRET}'::text;", "invalid input syntax for type integer: …"),
        (f"EXECUTE 'SELECT {SECRET}';", "syntax error at or near …"),
    ],
)
def test_what_the_code_of_a_function_says_is_not_repeated(
    database: str, body: str, said: str
) -> None:
    reason = raised(database, body)
    assert said in reason
    assert not [word for word in SECRET.split() if len(word) > 2 and word in reason.split()[3:]]


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        (f"SELECT '{SECRET}'::text::vector", "invalid input syntax for type vector: …"),
        (f"SELECT to_date('{SECRET}'::text, 'YYYY')", "invalid value …"),
        (f"INSERT INTO said VALUES ('{SECRET}')", 'violates check constraint "said_body_check"'),
        ("SELECT 1 / 0", "division by zero"),
        ("SELECT nothing FROM said", 'column "nothing" does not exist'),
    ],
)
def test_what_the_server_itself_says_is_repeated_without_the_value(
    database: str, statement: str, said: str
) -> None:
    reason = raised(database, "RETURN 1;", statement)
    assert said in reason
    assert "patient" not in reason


def test_a_trigger_that_quotes_the_text_brings_it_into_no_outcome_and_no_file(
    database: str, tmp_path: Path
) -> None:
    with docs(database, {"acme": (1, 3)}) as table, ProviderServer() as server:
        table.execute(
            "CREATE FUNCTION quotes() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN RAISE 'not this: %', NEW.body; END $$"
        )
        table.execute(
            "CREATE TRIGGER quotes BEFORE UPDATE ON docs FOR EACH ROW EXECUTE FUNCTION quotes()"
        )
        done = repaired(database, settings(server), tmp_path, keys=environment("acme"))
        assert done.counts()["failed"] > 0
        assert {
            "the database refused the write: a trigger or function raised SQLSTATE P0001"
            " (PL/pgSQL function quotes() line 1 at RAISE)"
        } == done.reasons(Outcome.FAILED)
        for path in tmp_path.rglob("*"):
            assert path.is_dir() or "document" not in path.read_text("utf-8"), path
