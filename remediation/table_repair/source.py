"""Reads the rows of one table's repair and makes batches of those that can be sent.

Every row it reads is selected in the ledger; one that can never be sent has its outcome at once.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

import psycopg

from remediation.ending import INTERRUPTED
from remediation.journal.outcome_ledger import outcome_of
from remediation.journal.outcomes import Outcome
from remediation.journal.quarantine import sent_for
from remediation.selection.batching import batch_limits, batches
from remediation.selection.preparation import prepare
from remediation.writing.changes import LOCK_TIMEOUT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from checks.database.connection import Connection
    from checks.settings.integrity_toml import Settings
    from remediation.ending import Ending
    from remediation.journal.outcome_ledger import OutcomeLedger
    from remediation.journal.quarantine import Quarantine
    from remediation.provider.tokens import TokenCounter
    from remediation.selection.batching import Batch, FailingRow, Key
    from remediation.selection.put_aside import PutAside
    from remediation.selection.row_reader import RowReader


@dataclass(kw_only=True, slots=True)
class Source:
    """Of one table; used by one thread."""

    reader: RowReader
    connection: Connection
    """For reading, by nobody else; its transactions end before the provider is asked."""
    tenants: Sequence[str] | None
    settings: Settings
    counter: TokenCounter
    quarantine: Quarantine
    """What earlier runs remember of texts that the provider refuses."""
    ledger: OutcomeLedger
    ending: Ending
    _last_read: Key | None = field(default=None, init=False)

    def failing(self) -> Iterator[Batch]:
        """Every failing row, in batches, until the repair ends."""
        return self.batches(self._selected())

    def put_aside(self, aside: PutAside, wanted: Callable[[str | None], bool]) -> Iterator[Batch]:
        """The rows of wanted tenants that were put aside, as long as any is, in batches."""
        taken = iter(lambda: aside.take(wanted), [])
        keys = ([row[1:] for row in rows] for rows in taken)
        pages = self.reader.keyed_pages(self.connection, keys, tenants=self.tenants)
        return self.batches(self._taken(pages))

    def batches(self, rows: Iterable[FailingRow]) -> Iterator[Batch]:
        """The rows in batches, until the repair ends."""
        limits = batch_limits(self.settings)
        return batches(self._sendable(rows), limits=limits, counter=self.counter)

    def skip_unread(self, reason: str) -> None:
        """Count the failing rows that were not read as skipped."""
        # Nobody waits long for a count, least of all at a table that another session holds.
        rows = replace(self.reader, lock_timeout=LOCK_TIMEOUT).failing_rows(
            self.connection, tenants=self.tenants, after=self._last_read, bare=True
        )
        with suppress(psycopg.errors.LockNotAvailable):
            self.ledger.skip_unread(rows, reason)

    def _selected(self) -> Iterator[FailingRow]:
        for row in self.reader.failing_rows(self.connection, tenants=self.tenants):
            self._last_read = row.key
            self.ledger.select(row)
            yield row

    def _taken(self, pages: Iterable[Sequence[FailingRow]]) -> Iterator[FailingRow]:
        for page in pages:
            # All at once: nobody else counts what is left of a page when the repair ends.
            for row in page:
                self.ledger.select(row)
            yield from page

    def _sendable(self, rows: Iterable[FailingRow]) -> Iterator[FailingRow]:
        """The rows as they can be sent; the others get their outcome at once."""
        for row in rows:
            prepared = prepare(row, self.settings.provider, self.counter)
            refusal = prepared.refused or self._refused_before(prepared.row)
            if refusal is None:
                self.ledger.note(row, prepared.note)
                yield prepared.row
            else:
                self.ledger.settle([outcome_of(row, Outcome.QUARANTINED, refusal)])
            if self.ending.stop.is_set():
                # Rows that are not sent keep nobody waiting who would notice.
                self.ending.end(INTERRUPTED)
            if self.ending.reason:
                return

    def _refused_before(self, row: FailingRow) -> str | None:
        """Why a prepared row is not sent although it could be: an earlier run did, in vain."""
        name = self.reader.target.name
        sent = partial(sent_for, row, self.reader.target, self.settings.provider, self.counter)
        return self.quarantine.reason(name, row.key, sent)
