"""Turns drift into verdicts and words for a table, and selects the rows a repair may re-embed.

A repair may take only rows of a segment whose other sampled rows agree. Where none agrees, the
model itself is in doubt, and new vectors could not be compared with the old ones beside them.
"""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING

from psycopg import sql

from checks.canary.sampled_verdicts import (
    asked_of_samples,
    threshold_of,
    verdicts_of,
    with_verdicts,
)
from checks.expectations.measurements import Measurement, Sampled, Segment, Verdict
from checks.findings.failing_rows import failing_rows
from checks.row_checks.row_check import AppliedCheck, with_sets
from checks.row_checks.row_relation import rows_of
from checks.row_checks.set_rule import in_set

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from checks.canary.drift import Seen, SegmentDrift
    from checks.canary.sampler import Sampler
    from checks.canary.sampling import SampledRow
    from checks.examination.table_examination import TableExamination
    from checks.expectations.suites import Asked
    from checks.targets.target import Target

NAME = "drift"

MOST_REPAIRED = 2_000
"""Drifting rows of a table that one repair selects; their keys are part of its statements."""

COSINES_SHOWN = 5


def with_drift(
    tables: Sequence[TableExamination], seen: Mapping[str, Seen], *, least: float
) -> tuple[TableExamination, ...]:
    """The examinations with a verdict for each segment seen, and a check over the drifting rows.

    The check is added only where a repair may re-embed one of the rows. Its predicate is true of a
    row as long as it holds the very vector that was found to drift.
    """
    asked = [_asked(table, seen[table.target.name], least) for table in tables]
    return tuple(
        _with_drift(table, seen[table.target.name], question, verdicts, least=least)
        for table, question, verdicts in zip(tables, asked, verdicts_of(asked), strict=True)
    )


def _asked(table: TableExamination, seen: Seen, least: float) -> Asked:
    there = {tenant: drift for tenant, drift in seen.items() if table.has(tenant)}
    looked_at = {
        tenant: (drift.sampled, len(drift.drifting))
        for tenant, drift in there.items()
        if drift.unseen is None
    }
    says = f"are not within cosine {least:g} of what the model gives for their text now"
    return asked_of_samples(
        table.target,
        threshold_of(table.target, NAME, says=says),
        looked_at,
        unseen=len(there) - len(looked_at),
    )


def _with_drift(
    table: TableExamination,
    seen: Seen,
    asked: Asked,
    verdicts: Mapping[str | None, Verdict],
    *,
    least: float,
) -> TableExamination:
    told = [
        _told(table.target, tenant, drift, verdicts.get(tenant), least=least)
        for tenant, drift in seen.items()
        if table.has(tenant)
    ]
    counts = {tenant: len(drift.drifting) for tenant, drift in seen.items()}
    checks = tuple(check for check in table.checks if check.name != NAME)
    # Rows that fail one of the others are left out of the sample.
    beside = [c.name for c in checks if c.remedy != "re-embed" or c.rule_of_sets is not None]
    rows = repairable(table.target, seen)
    return replace(
        with_verdicts(table, NAME, told, [asked]),
        checks=(*checks, drifting_check(table.target, rows)) if rows else checks,
        measurements=tuple(
            _measured(measurement, counts.get(measurement.segment.tenant, 0), beside)
            for measurement in table.measurements
        ),
    )


def _measured(measurement: Measurement, drifting: int, beside: Sequence[str]) -> Measurement:
    """The measurement with its drifting rows, in place of those it may have been given before.

    They may fail the checks `beside` as well, and none of the others.
    """
    shared = sum(measurement.failing.get(name, 0) for name in beside)
    before = measurement.failing.get(NAME, 0)
    beyond = max(0, drifting - shared) - max(0, before - shared)
    return replace(
        measurement,
        failing={**measurement.failing, NAME: drifting},
        first={**measurement.first, NAME: None},
        last={**measurement.last, NAME: None},
        affected=measurement.affected + beyond,
        at_least=bool(drifting and shared),
    )


def repairable(target: Target, seen: Seen) -> list[SampledRow]:
    """The drifting rows that a repair may re-embed, at most `MOST_REPAIRED`."""
    if target.unrepairable is not None:
        return []
    rows = [row for drift in seen.values() if drift.partial for row in drift.drifting]
    return rows[:MOST_REPAIRED]


def drifting_check(target: Target, rows: Sequence[SampledRow]) -> AppliedCheck:
    """The row check that these rows fail, each for as long as it holds the vector it was seen with.

    Its set holds each row's key, and its key with the md5 of that vector.
    """
    settings = target.declared.check_settings(NAME)
    stored = target.embedding_type.bytes(sql.SQL("embedding"), target.server.vector_schema)
    key = sql.SQL("identity")
    predicate = in_set(
        NAME,
        fingerprint=key,
        identity=sql.SQL("{} || pg_catalog.md5({})").format(key, stored),
    )
    check = AppliedCheck(
        name=NAME,
        says="drift",
        remedy="re-embed",
        severity=settings.severity,
        min=Decimal(1),
        predicate=predicate,
        write_shown=lambda: _among(target, rows),
        proof=None,
    )
    return check.frozen([(row.identity, row.identity + row.vector_hash) for row in rows])


def still_drifting(sampler: Sampler, table: TableExamination, seen: Seen) -> frozenset[str]:
    """The identities of rows that still hold their drifting vectors. Raises psycopg's errors."""
    rows = repairable(table.target, seen)
    if not rows:
        return frozenset()
    check = drifting_check(table.target, rows)
    statement = sql.SQL("{sets}SELECT identity FROM {rows} AS r WHERE {predicate}").format(
        sets=with_sets([check]),
        rows=rows_of(table.target),
        predicate=check.predicate,
    )
    found = sampler.read(table.target, lambda c: c.execute(statement).fetchall())
    return frozenset(identity for (identity,) in found)


def _told(
    target: Target,
    tenant: str | None,
    drift: SegmentDrift,
    verdict: Verdict | None,
    *,
    least: float,
) -> Verdict:
    """The suite's verdict in words; without one, the segment could not be looked at."""
    if verdict is None:
        segment = Segment(table=target.name, tenant=tenant)
        return Verdict.not_seen(NAME, segment, drift.unseen or "it was not judged")
    if verdict.sampled is not None:
        return verdict
    sampled = Sampled(nothing=drift.nothing)
    if drift.drifting:
        sampled = Sampled(
            says=_words(target, tenant, drift, least), query=_query(target, tenant, drift.drifting)
        )
    return replace(verdict, sampled=sampled)


def _words(target: Target, tenant: str | None, drift: SegmentDrift, least: float) -> str:
    cosines = ", ".join(f"{value:.3f}" for value in drift.cosines[:COSINES_SHOWN])
    more = len(drift.cosines) - COSINES_SHOWN
    cosines += f" and {more} more" if more > 0 else ""
    told = (
        f"have a vector that is not what model {target.model_of(tenant)!r} gives for their text now"
        f" (cosine {cosines}; at least {least:g} expected)"
    )
    if drift.partial:
        return (
            f"{told}. Other sampled rows agree, so these vectors are those of another text or of"
            " another model. A repair embeds the sampled ones again, after its probe; the rows"
            " that were not sampled are not known to be whole"
        )
    return (
        f"{told}. No sampled row agrees: the model behind the endpoint is another one, `model` or"
        " `text` in the settings is not what this segment was embedded with, or its vectors stand"
        " under the wrong texts. No repair touches them for that: a few new vectors would not be"
        " comparable to the others"
    )


def _query(target: Target, tenant: str | None, rows: Sequence[SampledRow]) -> str | None:
    if not target.key:
        return None
    return failing_rows(target, drifting_check(target, rows)).of(tenant)


def _among(target: Target, rows: Sequence[SampledRow]) -> sql.Composable:
    """The condition that a row is one of these, over the columns of a statement for people."""
    names = [column.name for column in target.key]
    if target.store is not None:
        names = [f"key_{position}" for position in range(1, len(names) + 1)]
    columns = sql.SQL(", ").join(map(sql.Identifier, names))
    keys = [sql.SQL("({})").format(sql.SQL(", ").join(map(sql.Literal, row.key))) for row in rows]
    return sql.SQL("({}) IN ({})").format(columns, sql.SQL(", ").join(keys))
