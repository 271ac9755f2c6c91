"""Turns what retrieval found of a table into verdicts and their words. Values only."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING

from checks.canary.sampled_verdicts import (
    asked_of_samples,
    threshold_of,
    verdicts_of,
    with_verdicts,
)
from checks.canary.searches import NEAREST
from checks.expectations.measurements import Sampled, Segment, Threshold, Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from checks.canary.retrieval import Recall, Retrieved, SegmentRetrieval
    from checks.examination.table_examination import TableExamination
    from checks.expectations.suites import Asked
    from checks.targets.target import Target

NAME = "retrieval"
OF_INDEX = "recall_of_index"
IN_TENANT = "recall_in_tenant"


def with_retrieval(
    tables: Sequence[TableExamination], found: Mapping[str, Retrieved], *, least: float
) -> tuple[TableExamination, ...]:
    """The examinations with a verdict for each segment searched."""
    asked = [_asked(table, found[table.target.name], least) for table in tables]
    answers = iter(verdicts_of([question for of_table in asked for question in of_table]))
    judged = []
    for table, questions in zip(tables, asked, strict=True):
        verdicts = {question.about: next(answers) for question in questions}
        told = [
            _told(
                table.target,
                tenant,
                seen,
                {about: of[tenant] for about, of in verdicts.items() if tenant in of},
                least=least,
            )
            for tenant, seen in found[table.target.name].items()
            if table.has(tenant)
        ]
        judged.append(with_verdicts(table, NAME, told, questions))
    return tuple(judged)


def _asked(table: TableExamination, found: Retrieved, least: float) -> tuple[Asked, ...]:
    """Three questions: whether rows find themselves, and the recall where it was measured."""
    there = {tenant: seen for tenant, seen in found.items() if table.has(tenant)}
    looked_at = {tenant: seen for tenant, seen in there.items() if seen.unseen is None}
    itself = threshold_of(
        table.target,
        NAME,
        says=f"do not find themselves among the {NEAREST} nearest to their own vector",
    )
    recalls = {
        OF_INDEX: {tenant: seen.of_index for tenant, seen in looked_at.items()},
        IN_TENANT: {tenant: seen.in_tenant for tenant, seen in looked_at.items()},
    }
    return (
        asked_of_samples(
            table.target,
            itself,
            {tenant: (seen.sampled, seen.lost) for tenant, seen in looked_at.items()},
            unseen=len(there) - len(looked_at),
        ),
        *(
            asked_of_samples(
                table.target,
                Threshold(
                    check=about,
                    # By way of its text: 0.9 is nine tenths, not the float next to it.
                    min=Decimal(str(least)),
                    severity=itself.severity,
                    says=f"are among the true {NEAREST} nearest of a search that missed them",
                ),
                {tenant: _missed(recall) for tenant, recall in measured.items() if recall},
                unseen=0,
            )
            for about, measured in recalls.items()
        ),
    )


def _missed(recall: Recall) -> tuple[int, int]:
    return recall.nearest, recall.nearest - recall.found


def _told(
    target: Target,
    tenant: str | None,
    seen: SegmentRetrieval,
    verdicts: Mapping[str, Verdict],
    *,
    least: float,
) -> Verdict:
    """The suites' verdicts as one, in words; without any, the segment could not be looked at."""
    itself = verdicts.get(NAME)
    if itself is None:
        segment = Segment(table=target.name, tenant=tenant)
        return Verdict.not_seen(NAME, segment, seen.unseen or "it was not judged")
    undecided = next((v.sampled.unseen for v in verdicts.values() if v.sampled is not None), None)
    if undecided is not None:
        return Verdict.not_seen(NAME, itself.segment, undecided)
    refused = {about for about, verdict in verdicts.items() if not verdict.holds}
    faults = []
    failing = 0
    if NAME in refused:
        failing = seen.lost
        faults.append(f"do not find themselves among the {NEAREST} nearest to their own vector")
    if OF_INDEX in refused and seen.of_index is not None:
        failing = seen.sampled
        faults.append(
            f"depend on an index that finds {seen.of_index.share:.0%} of the true"
            f" {NEAREST} nearest in the whole table (at least {least:.0%} expected); build it anew"
            " with REINDEX INDEX CONCURRENTLY if it was built on few rows, or raise"
            " hnsw.ef_search or ivfflat.probes"
        )
    elif IN_TENANT in refused and seen.in_tenant is not None:
        failing = max(failing, seen.low)
        faults.append(
            f"find {seen.in_tenant.share:.0%} of the true {NEAREST} nearest within their tenant"
            f" (at least {least:.0%} expected), as the scan of the index ends before it has met"
            " enough rows of the tenant; raise hnsw.ef_search or ivfflat.probes, switch iterative"
            " scans on (pgvector 0.8), or partition by tenant"
        )
    sampled = Sampled(nothing=seen.nothing)
    if faults:
        sampled = Sampled(says=f"{'; '.join(faults)} ({seen.settings})")
    return replace(itself, failing=failing, holds=not refused, sampled=sampled)
