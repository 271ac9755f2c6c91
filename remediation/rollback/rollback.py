"""Rolls back a run, table by table, leaving rows that anyone changed since.

Knows no pytest; the plugin calls it before the checks and shows what it returns.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import psycopg

from checks.database.connection import reason_of
from remediation.journal.journal import Journal, columns_written
from remediation.journal.outcomes import Account
from remediation.journal.past_journals import JournalDamagedError
from remediation.rollback.history import History
from remediation.rollback.table_rollback import TableUndo
from remediation.run.preflight import RepairRefusedError, open_write_side
from remediation.run.verification import measure_again
from remediation.table_repair.planning.plan import refusal
from remediation.table_repair.result import TableRepair

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from checks.database.connection import ConnectionTarget
    from checks.database.server import Server
    from checks.examination.examination import Examination
    from checks.examination.selection import Selection
    from checks.settings.integrity_toml import Settings
    from checks.targets.target import Target
    from remediation.journal.outcomes import Outcome
    from remediation.journal.past_journals import PastJournal
    from remediation.run.preflight import WriteSide


@dataclass(kw_only=True)
class Rollback:
    """One run's rollback of an earlier one. `open_rollback`, then `foresee` or `run`."""

    run_id: str
    history: History
    """What the earlier run wrote."""
    settings: Settings
    examination: Examination
    selection: Selection
    side: WriteSide
    results: list[TableRepair] = field(default_factory=list)

    def foresee(self) -> list[TableRepair]:
        """What `run` would do, as results of the same form; writes nothing. Raises OSError."""
        foreseen = []
        for name, target in self._tables():
            why = self._refusal(name, target)
            if target is None or why is not None:
                foreseen.append(_refused(name, why))
                continue
            undo = self._undo(target)
            try:
                undo.foresee(self.side.connection)
            except psycopg.Error as error:
                foreseen.append(_refused(name, f"it could not be read: {reason_of(error)}"))
            else:
                foreseen.append(undo.result)
        return foreseen

    def run(self, report_directory: Path, on_outcome: Callable[[Outcome], None]) -> None:
        """Roll back table after table; `results` is filled even when this raises.

        Raises OSError where its own journal cannot be created: then nothing was written.
        """
        tables = self._tables()
        if not tables:
            return
        journal = Journal(report_directory / self.run_id)
        try:
            journal.begin(
                self.run_id, self.side.server.identity, rolls_back=self.history.journal.run_id
            )
            for name, target in tables:
                why = self._refusal(name, target)
                if target is None or why is not None:
                    self.results.append(_refused(name, why))
                    continue
                undo = self._undo(target)
                try:
                    undo.run(journal, self.run_id, on_outcome)
                finally:
                    self.results.append(undo.result)
        finally:
            journal.close()

    def measure_again(self) -> Examination:
        """The examination with every touched table measured again, where the rollback wrote."""
        touched = {result.table for result in self.results}
        return measure_again(
            self.examination,
            touched,
            self.side.place,
            self.settings,
            tenants=self.selection.tenants,
        )

    @property
    def rows(self) -> int:
        """How many rows the run may have written in the selected tables."""
        return sum(len(self.history.tables[name]) for name, _ in self._tables())

    def _tables(self) -> list[tuple[str, Target | None]]:
        """The tables that the run wrote to; None for one that is no longer declared."""
        examined = {table.target.name: table.target for table in self.examination.tables}
        written = [name for name, rows in self.history.tables.items() if len(rows)]
        return [
            (name, examined.get(name))
            for name in written
            if name in examined or self.selection.tables is None
        ]

    def _refusal(self, name: str, target: Target | None) -> str | None:
        """Why nothing can be put back in a table, or None."""
        if target is None:
            return f"the settings declare no table {name} any more; use those of the run"
        refused = refusal(self.examination.table(name))
        if refused is not None:
            return refused
        wrote, now = self.history.tables[name].columns, columns_written(target)
        different = [what for what, value in now.items() if wrote.get(what) != value]
        if different:
            what = different[0]
            return (
                f"the run wrote with {what} {wrote.get(what)}, and the settings now say"
                f" {now[what]}; use those of the run"
            )
        return None

    def _undo(self, target: Target) -> TableUndo:
        return TableUndo(
            target=target,
            history=self.history,
            place=self.side.place,
            timeout=self.settings.database.statement_timeout,
            tenants=self.selection.tenants,
        )


def _refused(name: str, why: str | None) -> TableRepair:
    return TableRepair(table=name, account=Account(), stopped=why)


@contextmanager
def open_rollback(
    *,
    run_id: str,
    journal: PastJournal,
    settings: Settings,
    environment: Mapping[str, str],
    examination: Examination,
    selection: Selection,
    read_place: ConnectionTarget,
) -> Iterator[Rollback]:
    """Connect to the write side, and make sure that it is the database the run wrote to.

    Raises what `open_write_side` raises, `RepairRefusedError` for a journal of another database,
    `JournalDamagedError` for one that cannot be used; then nothing was put back.
    """
    with open_write_side(settings, environment, examination, read_place) as side:
        history = History(journal=journal)
        try:
            _require_same_database(journal, side.server)
            history.read_on()
            if journal.must_end and not history.ended:
                raise JournalDamagedError(journal, "is damaged: it ends before its run did")
        except OSError as error:
            raise JournalDamagedError(journal, f"cannot be read: {error.strerror}") from None
        yield Rollback(
            run_id=run_id,
            history=history,
            settings=settings,
            examination=examination,
            selection=selection,
            side=side,
        )


def _require_same_database(journal: PastJournal, server: Server) -> None:
    header = journal.header()
    if header is None or header.run_id != journal.run_id:
        raise JournalDamagedError(
            journal,
            "does not begin with that run and its database: it is damaged, or an earlier version"
            " wrote it",
        )
    if not header.database.same_as(server.identity):
        raise RepairRefusedError(
            f"run {journal.run_id} wrote to another database, {header.database.database!r}, than"
            f" {server.database!r} at {server.address or 'the local socket'}; a rollback writes"
            " only where the run wrote"
        )
