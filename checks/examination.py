"""One examination: every declared table resolved, scanned and judged; the evidence of one moment.

The catalog is read in one short transaction and each table in one of its own, never one over the
whole run. Reads only.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import psycopg

from checks import suites
from checks.catalog import read_server
from checks.connection import connect, read_only, reason_of
from checks.errors import CannotExamineError, IntegrityError
from checks.findings import Finding
from checks.measurements import Threshold
from checks.redaction import redactor
from checks.rules import applied_checks
from checks.scan import failing_rows_sql, scan
from checks.targets import resolve

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import timedelta

    from checks.catalog import Server
    from checks.connection import Connection, ConnectionTarget
    from checks.measurements import Measurement, Verdict
    from checks.rules import AppliedCheck, Severity
    from checks.scan import Scan
    from checks.settings import Settings
    from checks.targets import Target

TRANSIENT = (
    psycopg.errors.SerializationFailure,
    psycopg.errors.QueryCanceled,
    psycopg.errors.DeadlockDetected,
)
"""What a scan may meet on a busy server or a replica; tried once more, then an error."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TableExamination:
    """What one scan of one target showed. `error` says why it could not be measured."""

    target: Target
    checks: tuple[AppliedCheck, ...] = ()
    measurements: tuple[Measurement, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    error: str | None = None
    tenants: tuple[str, ...] | None = None
    """The tenants the scan was restricted to; None for all."""
    _verdicts: dict[tuple[str, str | None], Verdict] = field(init=False, repr=False, compare=False)
    _measurements: dict[str | None, Measurement] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # Tables have tens of thousands of segments, and each is looked up by name.
        by_check = {(v.check, v.segment.tenant): v for v in self.verdicts}
        by_tenant = {m.segment.tenant: m for m in self.measurements}
        object.__setattr__(self, "_verdicts", by_check)
        object.__setattr__(self, "_measurements", by_tenant)

    def check(self, name: str) -> AppliedCheck:
        return next(check for check in self.checks if check.name == name)

    def verdict(self, name: str, tenant: str | None) -> Verdict | None:
        """The verdict of a check for a tenant; None where the segment has no rows (any more)."""
        return self._verdicts.get((name, tenant))

    def measurement(self, tenant: str | None) -> Measurement:
        return self._measurements[tenant]

    @property
    def rows(self) -> int:
        return sum(measurement.rows for measurement in self.measurements)

    @property
    def vanished(self) -> tuple[str, ...]:
        """Declared and selected tenants without a row."""
        return tuple(name for name in self.expected_tenants if name not in self._measurements)

    @property
    def expected_tenants(self) -> tuple[str, ...]:
        """The tenants that must have rows here, as far as they are selected."""
        return tuple(
            name
            for name in self.target.expected_tenants
            if self.tenants is None or name in self.tenants
        )

    @property
    def must_have_rows(self) -> bool:
        """Whether it is worth a warning when this table has no row at all.

        Not where tenants are declared, who are asked for one by one, nor where some are selected.
        """
        declared = self.target.declared
        return declared.required and not declared.tenants and self.tenants is None

    def failing(self, check: str) -> int:
        """Rows failing a check over all tenants, tolerated ones included."""
        return sum(measurement.failing[check] for measurement in self.measurements)

    def finding(self, verdict: Verdict) -> Finding:
        """The finding that a verdict which does not hold stands for."""
        check = self.check(verdict.check)
        measurement = self.measurement(verdict.segment.tenant)
        return Finding(
            check=check.name,
            table=self.target.name,
            tenant=verdict.segment.tenant,
            whole_table=False,
            severity=check.severity,
            says=check.says,
            rows=verdict.rows,
            failing=verdict.failing,
            since=measurement.first[check.name],
            until=measurement.last[check.name],
            query=failing_rows_sql(self.target, check, verdict.segment.tenant),
        )

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Every finding of this table, table checks first."""
        failing = (self.finding(verdict) for verdict in self.verdicts if not verdict.holds)
        return (*self._schema_findings(), *self._tenant_findings(), *failing)

    def findings_of(self, check: str) -> tuple[Finding, ...]:
        """The findings of one check."""
        if check == "schema":
            return self._schema_findings()
        if check == "tenants":
            return self._tenant_findings()
        return tuple(self.finding(v) for v in self.verdicts if v.check == check and not v.holds)

    def _schema_findings(self) -> tuple[Finding, ...]:
        reasons = [problem.text for problem in self.target.problems]
        reasons += [self.error] if self.error else []
        return tuple(self._of_table("schema", says=says) for says in reasons)

    def _tenant_findings(self) -> tuple[Finding, ...]:
        settings = self.target.declared.check_settings("tenants")
        if not self.measured or not settings.enabled:
            return ()
        if self.must_have_rows and not self.measurements:
            says = f"{self.target.name} has no rows"
            if self.target.declared.where is not None:
                says += f" where {self.target.declared.where}"
            # Nobody declared that there must be rows: the weight is the user's to raise.
            stated = "severity" in settings.model_fields_set
            severity = settings.severity if stated else "warning"
            return (self._of_table("tenants", says=says, severity=severity),)
        return tuple(
            self._of_table(
                "tenants",
                tenant=tenant,
                says=f"declared tenant {tenant!r} has no rows in {self.target.name}",
                severity=settings.severity,
            )
            for tenant in self.vanished
        )

    def _of_table(
        self, check: str, *, says: str, tenant: str | None = None, severity: Severity = "error"
    ) -> Finding:
        return Finding(
            check=check,
            table=self.target.name,
            tenant=tenant,
            whole_table=True,
            severity=severity,
            says=says,
        )

    @property
    def measured(self) -> bool:
        return self.target.scannable and self.error is None


@dataclass(frozen=True, kw_only=True, slots=True)
class Examination:
    """All tables of one examination, in the order of the settings."""

    server: Server
    tables: tuple[TableExamination, ...]
    restricted: bool = False
    """Whether only selected tenants were measured."""

    def table(self, name: str) -> TableExamination:
        return next(table for table in self.tables if table.target.name == name)

    @property
    def findings(self) -> tuple[Finding, ...]:
        return tuple(finding for table in self.tables for finding in table.findings)

    def updated(self, tables: Sequence[TableExamination]) -> Examination:
        """This examination with some tables measured again."""
        again = {table.target.name: table for table in tables}
        return replace(
            self, tables=tuple(again.get(table.target.name, table) for table in self.tables)
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Selection:
    """The tables and tenants a run is restricted to; None means all."""

    tables: Collection[str] | None = None
    tenants: tuple[str, ...] | None = None

    def wants(self, target: Target) -> bool:
        """Whether a target is selected, by its name, its declared name, or its bare name."""
        if self.tables is None:
            return True
        names = {target.name, str(target.declared.name)}
        if target.relation is not None:
            schema, name = target.relation.schema, target.relation.name
            names |= {name, f"{schema}.{name}"}
        return not names.isdisjoint(self.tables)


class UnknownNameError(IntegrityError):
    """A table or tenant was selected that is not there."""


def examine(place: ConnectionTarget, settings: Settings, selection: Selection) -> Examination:
    """Examine everything selected.

    Raises `CannotExamineError` when nothing can be looked at, and `UnknownNameError` for a selected
    name that matches nothing.
    """
    with connect(place) as connection:
        timeout = settings.database.statement_timeout
        try:
            with read_only(connection, place, statement_timeout=timeout):
                server = read_server(connection)
                targets = resolve(connection, settings, server)
            if not any(target.relation for target in targets):
                _require_tables(connection, place)
        except psycopg.Error as error:
            raise CannotExamineError(
                f"cannot read the catalog of {place.place}: {reason_of(error)}"
            ) from None
        selected = [target for target in targets if selection.wants(target)]
        _require_known_tables(selection, targets)
        tables = tuple(
            examine_target(connection, place, target, timeout=timeout, tenants=selection.tenants)
            for target in selected
        )
        _require_known_tenants(selection, tables)
    declared = [table.target for table in tables if not table.target.absent]
    if declared and all(_forbidden(target) for target in declared):
        reasons = [problem.text for target in declared for problem in target.problems]
        raise CannotExamineError("nothing could be examined:\n" + "\n".join(reasons))
    return Examination(server=server, tables=tables, restricted=selection.tenants is not None)


def examine_target(
    connection: Connection,
    place: ConnectionTarget,
    target: Target,
    *,
    timeout: timedelta,
    tenants: tuple[str, ...] | None,
) -> TableExamination:
    """Scan and judge one target; what PostgreSQL refuses becomes the table's error."""
    if not target.scannable:
        return TableExamination(target=target)
    checks = applied_checks(target)
    try:
        seen = _scan(connection, place, target, checks, timeout=timeout, tenants=tenants)
        thresholds = [
            Threshold(check=check.name, min=check.min, severity=check.severity) for check in checks
        ]
        verdicts = suites.validate(
            target.name, seen.measurements, thresholds, segments_seen=seen.segments_seen
        )
    except (psycopg.Error, suites.SuiteError) as error:
        reason = reason_of(error) if isinstance(error, psycopg.Error) else str(error)
        return TableExamination(
            target=target,
            checks=checks,
            tenants=tenants,
            error=f"{target.name} could not be measured: {reason}",
        )
    return TableExamination(
        target=target,
        checks=checks,
        measurements=seen.measurements,
        tenants=tenants,
        verdicts=verdicts,
    )


def _scan(
    connection: Connection,
    place: ConnectionTarget,
    target: Target,
    checks: Sequence[AppliedCheck],
    *,
    timeout: timedelta,
    tenants: Sequence[str] | None,
) -> Scan:
    for last_try in (False, True):
        try:
            with read_only(
                connection,
                place,
                statement_timeout=timeout,
                row_security=target.facts.row_security,
            ):
                return scan(connection, target, checks, tenants=tenants)
        except TRANSIENT:
            if last_try:
                raise
    raise AssertionError("unreachable: the second try returns or raises")


def _forbidden(target: Target) -> bool:
    """Whether the role had no right to look at a table at all."""
    return any(problem.forbidden for problem in target.problems)


def _require_tables(connection: Connection, place: ConnectionTarget) -> None:
    """An empty database is its own message: a fresh volume looks like a hundred missing tables."""
    row = connection.execute(
        "SELECT count(*) FROM pg_catalog.pg_class AS c"
        " JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace"
        " WHERE c.relkind IN ('r', 'p') AND n.nspname NOT LIKE 'pg\\_%'"
        " AND n.nspname <> 'information_schema'"
    ).fetchone()
    if row is not None and row[0] == 0:
        raise CannotExamineError(
            f"{place.place} holds no tables at all, as after a fresh volume or a restore that did"
            " not run; check that the URL leads to the right database"
        )


def _require_known_tables(selection: Selection, targets: Sequence[Target]) -> None:
    for name in selection.tables or ():
        if not any(Selection(tables={name}).wants(target) for target in targets):
            known = ", ".join(sorted({target.name for target in targets}))
            raise UnknownNameError(f"--table={name} is not declared; declared are: {known}")


def _require_known_tenants(selection: Selection, tables: Sequence[TableExamination]) -> None:
    seen = {m.segment.tenant for table in tables for m in table.measurements}
    declared = {name for table in tables for name in table.target.declared.tenants}
    # Where a table could not be measured, the tenant may well be in it.
    known = all(table.measured or table.target.absent for table in tables)
    for tenant in selection.tenants or ():
        if known and tenant not in seen | declared:
            raise UnknownNameError(
                redactor.clean(f"--tenant={tenant} has no rows in any selected table")
            )
