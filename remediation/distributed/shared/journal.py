"""Brings a worker's lines of the journal to the coordinator's file, through the shared schema.

A line is committed before its row is overwritten, and leaves the schema only once it is in a file
on disk: what was replaced is always in one of the two.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql
from pydantic_core import from_json

from checks.database.connection import connect, read_only, reason_of, short_transaction
from checks.errors import IntegrityError
from remediation.distributed.shared.schema import (
    SCHEMA,
    SET_UP_TIMEOUT,
    ForeignSchemaError,
    is_installed,
)
from remediation.journal.journal import FILE_NAME, FIXED, Journal
from remediation.journal.past_journals import RUN_ID
from remediation.journal.throughput import OF_A_PART

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path
    from typing import Any

    from checks.database.connection import Connection, ConnectionTarget
    from remediation.journal.throughput import Throughput
    from remediation.selection.batching import FailingRow

PUT_ASIDE = "put_aside"
"""In the line that a worker sends of a row that it leaves for later."""
LINES_AT_ONCE = 64
"""Entries taken in together; each has the lines of one batch, with the vectors it replaced."""

_SCHEMA = sql.Identifier(SCHEMA)
_ADD = sql.SQL("""
WITH durable AS MATERIALIZED (SELECT pg_catalog.set_config('synchronous_commit', 'on', true))
INSERT INTO {schema}.journal (run_id, lines) SELECT %s, %s FROM durable
""").format(schema=_SCHEMA)
_TAKE = sql.SQL("""
SELECT id, lines FROM {schema}.journal WHERE run_id = %s ORDER BY id LIMIT %s
""").format(schema=_SCHEMA)
_DELETE = sql.SQL("DELETE FROM {schema}.journal WHERE id = ANY(%s)").format(schema=_SCHEMA)
_WAITING = sql.SQL("""
SELECT DISTINCT j.run_id, r.header
FROM {schema}.journal AS j JOIN {schema}.run AS r USING (run_id)
WHERE NOT EXISTS (
    SELECT FROM {schema}.work AS w JOIN pg_catalog.pg_locks AS l
      ON l.locktype = 'advisory' AND l.granted AND l.objsubid = 2
     AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
     AND l.classid = %s::bigint::oid AND l.objid = w.token::bigint::oid
    WHERE w.run_id = j.run_id
)
""").format(schema=_SCHEMA)


class ShippedJournal(Journal):
    """A worker's side: has no file; keeps what it fixed in memory, for one job."""

    def __init__(self, connection: Connection, run_id: str) -> None:
        self._connection = connection
        self._run_id = run_id
        self._fixed: list[bytes] = []

    def take_in(self, lines: Iterable[bytes], *, sync: bool = True) -> None:  # noqa: ARG002 - always
        lines = list(lines)
        self._fixed += [line for line in lines if FIXED in line]
        try:
            self._connection.execute(_ADD, (self._run_id, b"\n".join(lines).decode()))
        except psycopg.Error as error:
            raise OSError(errno.EIO, reason_of(error)) from None

    def put_aside(self, table: str, rows: Iterable[FailingRow]) -> None:
        """Tell the coordinator of rows of late tenants, which are for later. Raises OSError."""
        self._append(
            {"event": PUT_ASIDE, "table": table, "key": row.key, "tenant": row.tenant}
            for row in rows
        )

    def throughputs(self, measured: Iterable[Throughput]) -> None:
        self._append({**one.entry, "event": OF_A_PART} for one in measured)

    def sync(self) -> None:
        """Nothing waits."""

    def read(self, *, holding: bytes = b"") -> Iterator[dict[str, Any]]:
        """The events of fixed rows, which are all that an engine reads."""
        return (from_json(line) for line in list(self._fixed) if holding in line)

    def close(self) -> None:
        """Nothing is open."""


def take_lines(connection: Connection, run_id: str, journal: Journal) -> Iterator[bytes]:
    """Move a run's waiting lines into its journal, and return each. Raises OSError."""
    while entries := connection.execute(_TAKE, (run_id, LINES_AT_ONCE)).fetchall():
        lines = [line for _, text in entries for line in text.encode().splitlines()]
        journal.take_in(lines)
        connection.execute(_DELETE, ([number for number, _ in entries],))
        yield from lines
        if len(entries) < LINES_AT_ONCE:
            return


def collect_left(place: ConnectionTarget, report_directory: Path) -> list[str]:
    """Move the lines of runs whose coordinator is gone to their journals; the runs' ids.

    Through a pooler too: a rollback asks for it, of whatever run. Raises `IntegrityError` where a
    journal cannot be written, and psycopg's errors.
    """
    from remediation.distributed.shared.alive import RUN_LOCK_CLASS

    with connect(place) as connection:
        try:
            with read_only(connection, place, statement_timeout=SET_UP_TIMEOUT):
                if not is_installed(connection):
                    return []
        except ForeignSchemaError:
            return []  # no worker has used it
        with short_transaction(connection, place, statement_timeout=SET_UP_TIMEOUT):
            found = connection.execute(_WAITING, (RUN_LOCK_CLASS,)).fetchall()
            # A run's id is a folder's name here, and no path.
            waiting = [(run_id, header) for run_id, header in found if RUN_ID.fullmatch(run_id)]
            for run_id, header in waiting:
                try:
                    _collect(connection, run_id, header, report_directory)
                except OSError as error:
                    raise IntegrityError(
                        f"what workers replaced in run {run_id} waits in the database, as its"
                        f" journal below {report_directory} cannot be written: {error.strerror}"
                    ) from None
    return [run_id for run_id, _ in waiting]


def _collect(connection: Connection, run_id: str, header: str, report_directory: Path) -> None:
    new = not (report_directory / run_id / FILE_NAME).exists()
    journal = Journal(report_directory / run_id)
    try:
        if new:
            journal.take_in([header.encode()])
        for _ in take_lines(connection, run_id, journal):
            pass
    finally:
        journal.close()
