"""Examines every declared table: resolves it, scans it and judges what was measured.

The catalog is read in one short transaction and each table in one of its own, never one over the
whole run. Reads only.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql

from checks.database.connection import connect, read_only, reason_of
from checks.database.server import read_server
from checks.errors import CannotExamineError
from checks.examination.idle_acceptances import idle_acceptances
from checks.examination.measuring import examine_targets
from checks.examination.selection import require_known_tables, require_known_tenants
from checks.expectations.engine import loading_beside
from checks.row_checks.row_relation import rows_of
from checks.targets.resolution import resolve

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date, datetime, timedelta

    from checks.database.connection import Connection, ConnectionTarget
    from checks.database.server import Server
    from checks.examination.selection import Selection
    from checks.examination.table_examination import TableExamination
    from checks.findings.finding import Finding
    from checks.settings.integrity_toml import Settings
    from checks.targets.target import Target


@dataclass(frozen=True, kw_only=True, slots=True)
class Examination:
    """All tables of one examination, in the order of the settings."""

    server: Server
    tables: tuple[TableExamination, ...]
    restricted: bool = False
    """Whether only selected tenants were measured."""
    today: date | None = None
    """The day by which acceptances end; None for the day it is in UTC."""
    partial: frozenset[str] = frozenset()
    """Names of declarations of which only some tables were selected."""
    idle: tuple[Finding, ...] = field(init=False, repr=False, compare=False)
    """Acceptances that are not needed, each a finding at one table of its declaration."""
    _tables: dict[str, TableExamination] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_tables", {table.target.name: table for table in self.tables})
        object.__setattr__(self, "idle", idle_acceptances(self.tables, partial=self.partial))

    def table(self, name: str) -> TableExamination:
        """The examination of one table. Raises KeyError for a name that was not examined."""
        return self._tables[name]

    def tables_of(self, name: str) -> tuple[TableExamination, ...]:
        """The examination of a table, or of all that a declared pattern stands for."""
        if name in self._tables:
            return (self._tables[name],)
        return tuple(t for t in self.tables if t.target.entry == name)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Every finding, accepted ones and acceptances that are not needed included."""
        return (*(finding for table in self.tables for finding in table.findings), *self.idle)

    @property
    def open_findings(self) -> tuple[Finding, ...]:
        """The findings that nobody has agreed to live with."""
        return tuple(finding for finding in self.findings if finding.accepted is None)

    def updated(self, tables: Sequence[TableExamination]) -> Examination:
        """This examination with some tables measured again."""
        again = {table.target.name: table for table in tables}
        return replace(
            self, tables=tuple(again.get(table.target.name, table) for table in self.tables)
        )


def examine(
    place: ConnectionTarget,
    settings: Settings,
    selection: Selection,
    *,
    today: date | None = None,
) -> Examination:
    """Examine everything selected; `today`, by which acceptances end, is None for the day in UTC.

    Raises `CannotExamineError` when nothing can be looked at, and `UnknownNameError` for a selected
    name that matches nothing.
    """
    with loading_beside(), connect(place) as connection:
        timeout = settings.database.statement_timeout
        try:
            with read_only(connection, place, statement_timeout=timeout):
                server = read_server(connection)
                targets = resolve(connection, settings, server)
                if selection.since is not None:
                    # By the server's clock, which made the times of its rows.
                    now: datetime = connection.execute("SELECT now()").fetchall()[0][0]
                    targets = tuple(target.since(now - selection.since) for target in targets)
            if not any(target.relation for target in targets):
                _require_tables(connection, place)
        except psycopg.Error as error:
            raise CannotExamineError(
                f"cannot read the catalog of {place.place}: {reason_of(error)}"
            ) from None
        selected = [target for target in targets if selection.wants(target)]
        require_known_tables(selection, targets)
        tables = examine_targets(
            connection,
            place,
            selected,
            timeout=timeout,
            tenants=selection.tenants,
            sample=selection.sample,
            today=today,
            side_by_side=settings.database.scan_concurrency,
        )
        require_known_tenants(
            selection, tables, lambda: _tenants_there(connection, place, selected, timeout)
        )
    declared = [table.target for table in tables if not table.target.absent]
    if declared and all(_forbidden(target) for target in declared):
        reasons = [problem.text for target in declared for problem in target.problems]
        raise CannotExamineError("nothing could be examined:\n" + "\n".join(reasons))
    chosen = {target.name for target in selected}
    return Examination(
        server=server,
        tables=tables,
        restricted=selection.tenants is not None,
        today=today,
        partial=frozenset(t.entry for t in targets if t.name not in chosen),
    )


def _forbidden(target: Target) -> bool:
    """Whether the role had no right to look at a table at all."""
    return any(problem.forbidden for problem in target.problems)


def _tenants_there(
    connection: Connection, place: ConnectionTarget, targets: Sequence[Target], timeout: timedelta
) -> set[str]:
    """The tenants of the targets that can be read; errors are ignored, as they only suggest."""
    tenants: set[str] = set()
    for target in targets:
        if not target.scannable:
            continue
        statement = sql.SQL("SELECT DISTINCT tenant FROM {} AS r WHERE tenant IS NOT NULL")
        with (
            suppress(psycopg.Error),
            read_only(
                connection, place, statement_timeout=timeout, row_security=target.row_security
            ),
        ):
            tenants.update(row[0] for row in connection.execute(statement.format(rows_of(target))))
    return tenants


def _require_tables(connection: Connection, place: ConnectionTarget) -> None:
    """Refuse an empty database by name: a fresh volume would look like a hundred missing tables."""
    row = connection.execute(
        "SELECT count(*) FROM pg_catalog.pg_class AS c"
        " JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace"
        " WHERE c.relkind IN ('r', 'p') AND n.nspname::text NOT LIKE 'pg\\_%'"
        " AND n.nspname <> 'information_schema'"
    ).fetchone()
    if row is not None and row[0] == 0:
        raise CannotExamineError(
            f"{place.place} holds no tables at all, as after a fresh volume or a restore that did"
            " not run; check that the URL leads to the right database"
        )
