"""Builds tables and settings for the tests that examine them; asserts nothing about a rule."""

from __future__ import annotations

import json
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit, urlunsplit

import psycopg

from checks.database.connection import connect, read_only
from checks.database.connection_url import parse_url
from checks.database.server import read_server
from checks.examination.examination import examine
from checks.examination.measuring import examine_targets
from checks.examination.selection import Selection
from checks.findings.failing_rows import failing_rows
from checks.row_checks.applied import applied_checks
from checks.row_checks.rules import ROW_CHECK_NAMES
from checks.scanning.scan import scan
from checks.settings.integrity_toml import load_settings
from checks.targets.resolution import resolve

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from checks.database.connection import Connection, ConnectionTarget
    from checks.examination.examination import Examination
    from checks.examination.table_examination import TableExamination
    from checks.row_checks.row_check import AppliedCheck
    from checks.scanning.sample import Sample
    from checks.scanning.scan import Scan
    from checks.settings.integrity_toml import Settings
    from checks.targets.target import Target

HOSTILE_TENANTS = (
    "'; DROP TABLE docs; --",
    "<script>alert(1)</script>",
    "two\nlines\r\n",
    "100%",
    "%s %(tenant)s {} :tenant $1",
    "Ж" * 300,
    "",
    " ",
    "back\\slash 'quote' \"double\"",
    "null",
)
"""Names that break whatever builds SQL, ids or markup by hand; NULL is another matter."""

DOCS = """
CREATE TABLE docs (
    id         bigint PRIMARY KEY,
    tenant     text,
    body       text,
    embedding  vector,
    created_at timestamptz,
    archived   boolean NOT NULL DEFAULT false
)
"""
"""The table of most tests: a column that admits any dimension."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Looker:
    """A connection with what it takes to examine one target by hand."""

    connection: Connection
    place: ConnectionTarget
    settings: Settings

    def targets(self) -> tuple[Target, ...]:
        """Every target, resolved in a transaction of its own."""
        timeout = self.settings.database.statement_timeout
        with read_only(self.connection, self.place, statement_timeout=timeout):
            return resolve(self.connection, self.settings, read_server(self.connection))

    def scan(self, target: Target) -> Scan:
        """The counts of a target, judged by nobody."""
        timeout = self.settings.database.statement_timeout
        with read_only(self.connection, self.place, statement_timeout=timeout):
            return scan(self.connection, target, applied_checks(target))

    def shown(self, target: Target, check: AppliedCheck, tenant: str | None) -> int:
        """How many rows the statement of a finding shows, counted by the server: Python has no
        time before all time.
        """
        query = failing_rows(target, check).of(tenant).removesuffix(";")
        row = self.connection.execute(f"SELECT count(*) FROM ({query}) AS shown").fetchone()
        assert row is not None
        return int(row[0])

    def shown_once(self, target: Target, tenant: str | None) -> int:
        """How many rows the statements of all findings of a tenant show, each row once."""
        queries = [
            failing_rows(target, check).of(tenant).removesuffix(";")
            for check in applied_checks(target)
            if check.proof is None
        ]
        ids = " UNION ".join(f"SELECT id FROM ({query}) AS shown" for query in queries)
        row = self.connection.execute(f"SELECT count(*) FROM ({ids}) AS all_of_them").fetchone()
        assert row is not None
        return int(row[0])

    def examine(
        self, target: Target, *, tenants: tuple[str, ...] | None = None
    ) -> TableExamination:
        """The examination of one target, scanned over this connection."""
        timeout = self.settings.database.statement_timeout
        (table,) = examine_targets(
            self.connection, self.place, [target], timeout=timeout, tenants=tenants
        )
        return table


def run(url: str, *statements: str) -> None:
    """Run statements, each on its own."""
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)


def rows(url: str, statement: str) -> list[tuple[Any, ...]]:
    """What a statement returns."""
    with psycopg.connect(url, autocommit=True) as connection:
        return connection.execute(statement).fetchall()


def table(name: str = "docs", /, **keys: object) -> str:
    """A [[tables]] entry: `body` is the text; a dictionary or a list of them becomes a section."""
    keys = {"text": "body", "dimensions": 3, **keys}
    plain = {key: value for key, value in keys.items() if not _sections(value)}
    lines = ["[[tables]]", f"name = {json.dumps(name)}"]
    lines += [f"{key} = {_toml(value)}" for key, value in plain.items()]
    for key, value in keys.items():
        for section in _sections(value):
            lines.append(f"[[tables.{key}]]" if isinstance(value, list) else f"[tables.{key}]")
            lines += [f"{name} = {_toml(entry)}" for name, entry in section.items()]
    return "\n".join(lines) + "\n"


def settings(*tables: str, statement_timeout: str = "1min") -> Settings:
    """The settings that hold these entries."""
    head = f'[database]\nstatement_timeout = "{statement_timeout}"\n'
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "integrity.toml")
        path.write_text("\n".join((head, *tables)), encoding="utf-8")
        return load_settings(path, row_checks=ROW_CHECK_NAMES)


def examined(
    url: str,
    *tables: str,
    only: Sequence[str] | None = None,
    tenants: tuple[str, ...] | None = None,
    sample: Sample | None = None,
    since: timedelta | None = None,
    statement_timeout: str = "1min",
    today: date | None = None,
) -> Examination:
    """The examination of a database by settings with these entries."""
    return examine(
        parse_url(url, variable="DATABASE_URL"),
        settings(*tables, statement_timeout=statement_timeout),
        Selection(tables=only, tenants=tenants, sample=sample, since=since),
        today=today,
    )


@contextmanager
def looking(url: str, *tables: str, statement_timeout: str = "1min") -> Iterator[Looker]:
    """A connection to look at targets one by one, with a change of the database in between."""
    place = parse_url(url, variable="DATABASE_URL")
    with connect(place) as connection:
        yield Looker(
            connection=connection,
            place=place,
            settings=settings(*tables, statement_timeout=statement_timeout),
        )


@contextmanager
def role(url: str, name: str) -> Iterator[str]:
    """A role without any right but to connect; yields its URL. What it owns must be gone after."""
    password = "a-password-of-a-test"
    run(url, f"CREATE ROLE \"{name}\" LOGIN PASSWORD '{password}'")
    parts = urlsplit(url)
    place = parts.netloc.rpartition("@")[2]
    try:
        yield urlunsplit(parts._replace(netloc=f"{quote(name)}:{password}@{place}"))
    finally:
        run(url, f'DROP OWNED BY "{name}"', f'DROP ROLE "{name}"')


def says(examination: Examination, check: str) -> list[str]:
    """What the findings of a check say."""
    return [finding.says for finding in examination.findings if finding.check == check]


def failing(examination: Examination, check: str) -> dict[str | None, int]:
    """The tenants whose rows fail a check, with how many."""
    return {f.tenant: f.failing for f in examination.findings if f.check == check}


def _sections(value: object) -> list[dict[str, object]]:
    if isinstance(value, dict):
        return [value]
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return value
    return []


def _toml(value: object) -> str:
    if isinstance(value, dict):
        pairs = ", ".join(f"{key} = {_toml(entry)}" for key, entry in value.items())
        return f"{{ {pairs} }}"
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, date):
        return value.isoformat()
    return json.dumps(value, ensure_ascii=True)


def words_of(query: Any) -> str:
    """A statement as it is executed, in whatever form it is given."""
    if isinstance(query, bytes):
        return query.decode()
    return query if isinstance(query, str) else str(query.as_string(None))
