"""The mistakes of the first day: each is told by one line that says what to correct."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from checks.database.connection import connect
from checks.database.connection_url import parse_url
from checks.errors import CannotExamineError, ConnectionUrlError, SettingsError
from checks.examination.first_look import first_look
from checks.examination.selection import Selection
from checks.row_checks.rules import ROW_CHECK_NAMES
from checks.settings.integrity_toml import load_settings
from tests.builders.tables import DOCS, examined, run, says, settings, table

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def docs(database: str) -> str:
    run(database, DOCS, "INSERT INTO docs (id, tenant, body) VALUES (1, 'acme', 'text')")
    return database


def refused(folder: Path, text: str) -> str:
    """The one line about a settings file that cannot be loaded."""
    path = folder / "integrity.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SettingsError) as caught:
        load_settings(path, row_checks=ROW_CHECK_NAMES)
    (line,) = caught.value.errors
    return line


def unconnected(url: str) -> str:
    with pytest.raises(CannotExamineError) as caught:
        connect(parse_url(url, variable="DATABASE_URL"))
    return str(caught.value)


def test_a_table_of_another_name(docs: str) -> None:
    (line,) = says(examined(docs, table("docz")), "schema")
    assert line.startswith("table docz does not exist in database")
    assert line.endswith("did you mean public.docs?")


def test_a_column_of_another_name(docs: str) -> None:
    (line,) = says(examined(docs, table(text="boddy")), "schema")
    assert line.startswith('public.docs: text: column "boddy" does not exist')
    assert "docs.body" in line


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        ({"key": ["idd"]}, "key: column 'idd' does not exist in public.docs; did you mean \"id\"?"),
        # None is near, and "id" would send a person astray.
        ({"group_by": ["kindd"]}, "group_by: column 'kindd' does not exist in public.docs"),
    ],
)
def test_a_column_that_stands_in_a_list(docs: str, keys: dict[str, object], line: str) -> None:
    assert says(examined(docs, table(**keys)), "schema") == [line]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("concat_ws(' ', body, tenant", "its parentheses do not balance: 1 opened, 0 closed"),
        ("left(body, 3))", "its parentheses do not balance: 1 opened, 2 closed"),
        ("concat_ws('), body)", "a ' is not closed"),
        ('"body', 'a " is not closed'),
    ],
)
def test_sql_that_is_not_closed(docs: str, text: str, words: str) -> None:
    (line,) = says(examined(docs, table(text=text)), "schema")
    assert line.startswith(f"public.docs: text: {words}; found {text!r}")


def test_parentheses_in_quotes_and_comments_are_none(docs: str) -> None:
    text = "concat_ws(') (', body, E'\\')', $x$($x$) /* ( */ -- )"
    assert says(examined(docs, table(text=text)), "schema") == []


def test_a_key_of_another_name(tmp_path: Path) -> None:
    line = refused(tmp_path, '[[tables]]\nname = "public.docs"\ntext = "body"\nembeding = "e"\n')
    assert line == (
        'integrity.toml: tables[public.docs].embeding: unknown key; did you mean "embedding"?'
    )


def test_a_line_that_is_no_toml(tmp_path: Path) -> None:
    line = refused(tmp_path, '[[tables]]\nname = "public.docs"\ntext = body\n')
    assert line.startswith("integrity.toml: not valid TOML: ")
    assert "line 3" in line


def test_a_variable_that_is_not_set() -> None:
    with pytest.raises(ConnectionUrlError) as caught:
        first_look(settings(table()), {"DATABSE_URL": "postgresql://host/app"}, Selection())
    assert "the environment variable DATABASE_URL is not set; expected the URL" in str(caught.value)


def test_a_url_that_is_none() -> None:
    with pytest.raises(ConnectionUrlError) as caught:
        parse_url("postgres//host/app", variable="DATABASE_URL")
    assert "DATABASE_URL is not a PostgreSQL connection URL: expected postgresql://" in str(
        caught.value
    )


def test_an_sslmode_that_is_none(database: str) -> None:
    words = unconnected(f"{database}?sslmode=requird")
    assert "correct sslmode in the URL in DATABASE_URL" in words
    assert words.endswith(" (an unknown sslmode is taken as sslmode=require)")


def test_a_parameter_of_another_name(database: str) -> None:
    place = parse_url(f"{database}?sslmoed=disable&pool_timeout=3", variable="DATABASE_URL")
    assert place.note == (
        "DATABASE_URL: without effect here: sslmoed (did you mean sslmode?), pool_timeout"
    )


def test_a_server_that_is_not_there() -> None:
    words = unconnected("postgresql://app:pw-1234@127.0.0.1:1/app")
    assert words == (
        "cannot connect to database 'app' at 127.0.0.1:1 as role 'app': Connection refused; check"
        " the URL in DATABASE_URL, and that the server runs and lets this machine in"
    )


def test_a_server_that_speaks_no_tls(database: str) -> None:
    words = unconnected(f"{database}?sslmode=require")
    assert "server does not support SSL" in words
    assert "correct sslmode in the URL in DATABASE_URL" in words


def test_a_database_of_another_name(database: str) -> None:
    words = unconnected(f"{database}_s")
    assert words.endswith("does not exist; correct it in the URL in DATABASE_URL")
