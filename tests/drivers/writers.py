"""Reads failing rows and writes vectors to them, with nothing of a repair around it."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from checks.database.connection import connect
from checks.database.connection_url import parse_url
from remediation.run.checks_to_heal import repairable_checks
from remediation.selection.row_reader import RowReader
from remediation.writing.changes import NewVectors
from remediation.writing.repair_lock import LockLostError
from remediation.writing.table_statements import NewVector
from remediation.writing.writer import Writer
from tests.drivers.repairs import examined, settings
from tests.servers.provider_server import vector_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from checks.database.connection import Connection
    from checks.settings.integrity_toml import Settings
    from remediation.journal.outcomes import Outcome
    from remediation.selection.batching import FailingRow
    from remediation.writing.verdicts import LockedRow


@contextmanager
def reading(url: str, chosen: Settings, table: str) -> Iterator[tuple[RowReader, Connection]]:
    """A reader of the failing rows of a table, and a connection for it."""
    place = parse_url(url, variable="DATABASE_URL")
    examination = examined(url, chosen, table)
    assert examination.target.unrepairable is None
    with connect(place) as connection:
        yield (
            RowReader(
                target=examination.target,
                checks=repairable_checks(examination),
                place=place,
                timeout=timedelta(seconds=30),
            ),
            connection,
        )


@contextmanager
def writing(url: str, through: str | None = None, **options: Any) -> Iterator[Writing]:
    """A writer for `docs`, and the failing rows as they were read; writes go `through` a URL."""
    chosen = settings("http://127.0.0.1:9", **options)
    with reading(url, chosen, "docs") as (reader, connection):
        rows = list(reader.failing_rows(connection, tenants=None))
    yield Writing(reader, rows, parse_url(through or url, variable="DATABASE_URL"))


class Writing:
    """Rows that were read, and one writer for them."""

    def __init__(self, reader: RowReader, rows: list[FailingRow], place: Any) -> None:
        self.rows = rows
        self.kept: list[NewVector] = []
        self.held: tuple[LockedRow[NewVector], ...] = ()
        self.lost_after = 1_000
        self.writer = Writer(
            change=NewVectors(target=reader.target, reader=reader),
            place=place,
            stop=threading.Event(),
            check_lock=self._check,
            before_write=self.kept.extend,
        )

    def _check(self) -> None:
        self.lost_after -= 1
        if self.lost_after < 0:
            raise LockLostError("the lock is lost")

    def write(self) -> dict[str, tuple[Outcome, str]]:
        """Write every row; those that were handed back are in `held`, the others returned."""
        return self._write([NewVector(row=row, vector=vector_of(row.text)) for row in self.rows])

    def write_held(self) -> dict[str, tuple[Outcome, str]]:
        """Write again what was handed back."""
        return self._write([held.new for held in self.held], self.held)

    def _write(
        self, vectors: Sequence[NewVector], earlier: Sequence[LockedRow[NewVector]] = ()
    ) -> dict[str, tuple[Outcome, str]]:
        try:
            written = self.writer.write(vectors, earlier)
        finally:
            self.writer.close()
        self.held = written.held
        settled = [outcome.row.key for outcome in written.outcomes]
        held = {held.new.row.key for held in written.held}
        assert settled == [new.row.key for new in vectors if new.row.key not in held]
        assert len(settled) + len(held) == len(vectors)
        return {o.row.key[0]: (o.outcome, o.reason) for o in written.outcomes}

    @property
    def held_keys(self) -> set[str]:
        return {held.new.row.key[0] for held in self.held}
