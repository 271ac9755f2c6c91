"""Adds up findings by check and table: what a terminal, a page or a machine says of each.

Values only; every number is one of the examination's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from checks.examination.suspicion import found_of, suspicion

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Sequence
    from datetime import datetime

    from checks.examination.examination import Examination
    from checks.examination.table_examination import TableExamination
    from checks.findings.finding import Finding


@dataclass(frozen=True, kw_only=True, slots=True)
class FailingCheck:
    """A check that does not hold in a table, for one tenant or many.

    `failing` None: it is about the table as a whole.
    """

    check: str
    table: str
    severity: str
    says: tuple[str, ...]
    """What is wrong, in words: of rows once, of a table as often as there are faults."""
    failing: int | None = None
    rows: int = 0
    sampled: bool = False
    """Whether `rows` are those of a sample."""
    uncounted: str | None = None
    """How sure `rows` is where they were not counted."""
    worst: tuple[Finding, ...] = ()
    """The finding of each tenant, the most failing rows first."""
    tenants: int | None = None
    """How many tenants the table has; None where it declares none."""
    since: datetime | None = None
    until: datetime | None = None
    found: tuple[str, ...] = ()
    """What failing rows have in place of what is declared, as another model."""
    notes: tuple[str, ...] = ()
    query: str | None = None
    """The statement that shows the failing rows of all these tenants."""


def failing_checks(
    findings: Iterable[Finding], examination: Examination
) -> tuple[FailingCheck, ...]:
    """The findings by check and table: about tables first, then errors, then many failing rows."""
    gathered: dict[Hashable, list[Finding]] = {}
    for finding in dict.fromkeys(findings):
        key = (finding.check, finding.table, finding.severity, finding.whole_table, finding.beside)
        gathered.setdefault(key, []).append(finding)
    lines = [_line(alike, examination.table(alike[0].table)) for alike in gathered.values()]
    lines.sort(
        key=lambda line: (line.severity != "error", line.failing is not None, -(line.failing or 0))
    )
    return tuple(lines)


def _line(findings: Sequence[Finding], table: TableExamination) -> FailingCheck:
    first = findings[0]
    if first.whole_table:
        return FailingCheck(
            check=first.check,
            table=first.table,
            severity=first.severity,
            says=tuple(finding.says for finding in findings),
            notes=_notes(findings),
            query=first.query,
        )
    worst = sorted(findings, key=lambda finding: -finding.failing)
    tenants = [finding.tenant for finding in worst]
    suspected = suspicion(table, first.check)
    declared = table.target.declared
    tenanted = declared.tenant is not None or declared.tenant_from is not None
    return FailingCheck(
        check=first.check,
        table=first.table,
        severity=first.severity,
        says=(first.says,),
        failing=sum(finding.failing for finding in worst),
        rows=sum(finding.rows for finding in worst) if first.sampled else table.rows,
        sampled=first.sampled,
        uncounted=first.uncounted,
        worst=tuple(worst),
        tenants=len(table.measurements) if tenanted else None,
        since=min((f.since for f in findings if f.since is not None), default=None),
        until=max((f.until for f in findings if f.until is not None), default=None),
        found=found_of(table, first.check),
        notes=(*([suspected] if suspected else []), *_notes(findings)),
        query=table.query(first.check, tenants) or worst[0].query,
    )


def _notes(findings: Sequence[Finding]) -> tuple[str, ...]:
    """What is to be known of them beside the counts, each once."""
    words: dict[str, None] = {}
    for finding in findings:
        if finding.unrepairable is not None:
            words[f"no repair can mend this: {finding.unrepairable}"] = None
        for note in (finding.bound if len(findings) == 1 else None, finding.outgrown):
            if note is not None:
                words[note] = None
    return tuple(words)
