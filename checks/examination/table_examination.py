"""Holds what the scan of a table showed, and derives the findings.

Values only; knows neither pytest nor the database.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

from checks.expectations.measurements import NOTHING_UNLISTED
from checks.findings.acceptance import acceptances_of, decide, today_in_utc
from checks.findings.failing_rows import FailingRows, failing_rows
from checks.findings.finding import Finding, sampled_finding, tenant_words
from checks.scanning.gaps import gap_findings
from checks.scanning.part import WHOLE
from checks.scanning.sample import bound_words

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from datetime import date

    from checks.expectations.measurements import Measurement, Unlisted, Verdict
    from checks.expectations.suites import Asked
    from checks.row_checks.row_check import AppliedCheck
    from checks.scanning.gaps import Gap
    from checks.scanning.model_samples import MixedSegment
    from checks.scanning.part import Part
    from checks.settings.table_checks import Accepted, Severity
    from checks.targets.target import Target

TENANTS_NAMED = 50
"""Tenants that a statement names at most."""


@dataclass(frozen=True, kw_only=True)
class TableExamination:
    """What one scan of one target showed. `error` says why it could not be measured."""

    target: Target
    checks: tuple[AppliedCheck, ...] = ()
    measurements: tuple[Measurement, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    gaps: tuple[Gap, ...] = ()
    gap_verdicts: tuple[Verdict, ...] = ()
    """A verdict for each gap, in the order of the gaps."""
    asked: tuple[Asked, ...] = ()
    """What the suites were asked; `--gx-dir` writes it."""
    error: str | None = None
    part: Part = WHOLE
    """What was looked at."""
    unlisted: Unlisted = NOTHING_UNLISTED
    """What is known of rows that no measurement counts."""
    mixed: tuple[MixedSegment, ...] = ()
    """Segments whose vectors look like those of two models."""
    index_advice: tuple[str, ...] = ()
    """The statements that would spare most of the reading."""
    seconds: float = 0.0
    """What the scan took."""
    tenants: tuple[str, ...] | None = None
    """The tenants the scan was restricted to; None for all."""
    today: date = field(default_factory=today_in_utc)
    """The day by which acceptances end."""
    _verdicts: dict[tuple[str, str | None], Verdict] = field(init=False, repr=False, compare=False)
    _measurements: dict[str | None, Measurement] = field(init=False, repr=False, compare=False)
    _acceptances: Mapping[tuple[str, str | None], Accepted] = field(
        init=False, repr=False, compare=False
    )
    _found: dict[Verdict, Finding] = field(
        init=False, repr=False, compare=False, default_factory=dict
    )
    """The findings that were asked for, each with the statement that shows its rows."""
    _statements: dict[str, FailingRows] = field(
        init=False, repr=False, compare=False, default_factory=dict
    )
    """The statements of the checks that were asked for, by name."""

    def __post_init__(self) -> None:
        # Tables may have tens of thousands of segments, and each is looked up by tenant.
        by_check = {(v.check, v.segment.tenant): v for v in self.verdicts}
        by_tenant = {m.segment.tenant: m for m in self.measurements}
        object.__setattr__(self, "_verdicts", by_check)
        object.__setattr__(self, "_measurements", by_tenant)
        object.__setattr__(self, "_acceptances", acceptances_of(self.target.declared))

    def check(self, name: str) -> AppliedCheck:
        return next(check for check in self.checks if check.name == name)

    def verdict(self, name: str, tenant: str | None) -> Verdict | None:
        """The verdict of a check for a tenant; None where the segment has no rows."""
        return self._verdicts.get((name, tenant))

    def measurement(self, tenant: str | None) -> Measurement:
        return self._measurements[tenant]

    def has(self, tenant: str | None) -> bool:
        """Whether the tenant has rows here."""
        return tenant in self._measurements or tenant in self.unlisted.tenants

    def applies(self, check: str) -> bool:
        """Whether a check of the table's rows, or of those beside it, applies here."""
        return check in {one.name for one in self.checks} | {one.check for one in self.gaps}

    @property
    def rows(self) -> int:
        """How many rows there are: about as many, where they were not counted."""
        if self.unlisted.rows is not None:
            return self.unlisted.rows
        return sum(measurement.rows for measurement in self.measurements)

    @property
    def has_rows(self) -> bool:
        return bool(self.measurements) or self.unlisted.any

    @property
    def vanished(self) -> tuple[str, ...]:
        """Declared and selected tenants without a row."""
        return tuple(name for name in self.expected_tenants if not self.has(name))

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
        """Whether a warning is due when this table has no row at all.

        Not where tenants are declared, as each is then checked by name, or where some are selected.
        """
        declared = self.target.declared
        return declared.required and not declared.tenants and self.tenants is None

    @property
    def looked_at(self) -> tuple[str, ...]:
        """What was looked at and what would spare reading, a line each; () where it was all."""
        if not self.measured:
            return ()
        bounds = [
            f"{check.name}: {self.bound(check.name)}"
            for check in self.checks
            if check.name in self.part.sampled
        ]
        if not self.index_advice:
            return (*self.part.words, *bounds)
        form = "" if self.part.failing_only else ' and totals = "estimated"'
        advice = f"with this index{form} a scan would read the rows without an embedding alone:"
        return (*self.part.words, *bounds, "\n".join((advice, *self.index_advice)))

    def unsampled(self, check: str, *tenant: str | None) -> bool:
        """Whether a sampled check looked at no row of the table, or of a tenant."""
        seen = [self.measurement(*tenant)] if tenant else self.measurements
        return check in self.part.sampled and not any(one.sampled for one in seen)

    def bound(self, check: str, *tenant: str | None) -> str | None:
        """What a sampled check tells of all rows, or of a tenant's; None for any other check."""
        if self.part.sample is None or check not in self.part.sampled:
            return None
        seen = [self.measurement(*tenant)] if tenant else self.measurements
        return bound_words(
            failing=sum(one.failing[check] for one in seen),
            sampled=sum(one.sampled or 0 for one in seen),
            rows=sum(one.rows for one in seen),
            sample=self.part.sample,
            of_sets=self.check(check).rule_of_sets is not None,
        )

    def failing(self, check: str) -> int:
        """Rows failing a check over all tenants, tolerated ones included."""
        return sum(measurement.failing[check] for measurement in self.measurements)

    @property
    def affected(self) -> int:
        """Rows that fail at least one check, each counted once, tolerated ones included."""
        return sum(measurement.affected for measurement in self.measurements)

    @property
    def accepted(self) -> frozenset[tuple[str, str | None]]:
        """Check and tenant of every accepted failure of rows: these rows are not repaired."""
        failing = (
            (accepted, verdict)
            for (check, tenant), accepted in self._acceptances.items()
            if (verdict := self.verdict(check, tenant)) is not None and not verdict.holds
        )
        return frozenset(
            (verdict.check, verdict.segment.tenant)
            for accepted, verdict in failing
            if decide(accepted, failing=verdict.failing, today=self.today).accepted
        )

    def finding(self, verdict: Verdict) -> Finding:
        """The finding of a verdict that does not hold."""
        if verdict not in self._found:
            self._found[verdict] = self._weighed(self._finding(verdict))
        return self._found[verdict]

    def _weighed(self, finding: Finding) -> Finding:
        """The finding, marked as accepted or outgrown where it has an acceptance."""
        accepted = self._acceptances.get((finding.check, finding.tenant))
        # Nobody can accept what could not be looked at.
        if accepted is None or (finding.sampled and finding.whole_table):
            return finding
        decision = decide(accepted, failing=finding.failing, today=self.today)
        if decision.accepted:
            return replace(finding, accepted=decision.words)
        return replace(finding, outgrown=decision.words)

    def query(self, check: str, tenants: Collection[str | None]) -> str | None:
        """The statement that shows the rows of some tenants that fail a check; None for a canary.

        It names the tenants only where others fail the check as well, and these are few.
        """
        if check not in {one.name for one in self.checks}:
            return None
        failing = {m.segment.tenant for m in self.measurements if m.failing[check]}
        named = () if failing <= set(tenants) or len(tenants) > TENANTS_NAMED else tuple(tenants)
        return self._failing_rows(self.check(check)).of(*named)

    def _failing_rows(self, check: AppliedCheck) -> FailingRows:
        if check.name not in self._statements:
            self._statements[check.name] = failing_rows(self.target, check)
        return self._statements[check.name]

    def _finding(self, verdict: Verdict) -> Finding:
        if verdict.sampled is not None:
            return sampled_finding(self.target.name, verdict)
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
            uncounted=measurement.uncounted,
            changed_since=self.part.changed_since,
            sampled=check.name in self.part.sampled,
            bound=self.bound(check.name, measurement.segment.tenant),
            since=measurement.first[check.name],
            until=measurement.last[check.name],
            query=self._failing_rows(check).of(verdict.segment.tenant),
            unrepairable=self.target.unrepairable if check.remedy == "re-embed" else None,
        )

    @cached_property
    def findings(self) -> tuple[Finding, ...]:
        """Every finding of this table, table checks first."""
        failing = (self.finding(verdict) for verdict in self.verdicts if not verdict.holds)
        return (*self._schema_findings(), *self.of_whole_table, *failing)

    def findings_of(self, check: str) -> tuple[Finding, ...]:
        """The findings of one check."""
        if check == "schema":
            return self._schema_findings()
        of_table = (f for f in self.of_whole_table if f.check == check and f.beside is None)
        of_rows = (self.finding(v) for v in self.verdicts if v.check == check and not v.holds)
        return (*of_table, *of_rows)

    def findings_beside(self, check: str, beside: str) -> tuple[Finding, ...]:
        """The findings of one check about the rows of the store or source."""
        return tuple(f for f in self.of_whole_table if (f.check, f.beside) == (check, beside))

    @property
    def of_whole_table(self) -> tuple[Finding, ...]:
        """The findings of the table checks that can be accepted: all but `schema`."""
        gaps = gap_findings(self.target, self.gaps, self.gap_verdicts) if self.measured else ()
        found = (*self._tenant_findings(), *self._index_findings(), *gaps)
        return tuple(self._weighed(finding) for finding in found)

    def _index_findings(self) -> tuple[Finding, ...]:
        settings = self.target.declared.check_settings("index")
        if not settings.enabled:
            return ()
        return tuple(
            self._of_table("index", says=says, severity=settings.severity)
            for says in self.target.index_faults
        )

    def _schema_findings(self) -> tuple[Finding, ...]:
        reasons = [problem.text for problem in self.target.problems]
        if self.target.unreadable is not None:
            reasons += [f"{self.target.name}: {one}" for one in self.target.unreadable.words]
        reasons += [self.error] if self.error else []
        mixed = (
            self._of_table(
                "schema",
                tenant=one.tenants[0] if len(one.tenants) == 1 else None,
                says=f"{_whose(one.tenants)} in {self.target.name}: {one.found.words}",
                severity="warning",
            )
            for one in self.mixed
        )
        return (*(self._of_table("schema", says=says) for says in reasons), *mixed)

    def _tenant_findings(self) -> tuple[Finding, ...]:
        settings = self.target.declared.check_settings("tenants")
        if not self.measured or not settings.enabled:
            return ()
        if self.must_have_rows and not self.has_rows:
            says = f"{self.target.name} has no rows"
            if self.target.declared.where is not None:
                says += f" where {self.target.declared.where}"
            # Nobody declared that there must be rows; users may raise the severity.
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


def _whose(tenants: tuple[str | None, ...]) -> str:
    if len(tenants) == 1:
        return tenant_words(tenants[0])
    return f"{len(tenants)} tenants of few rows, looked at together"
