"""What retrieval means for a table: its verdicts and their words. Values only."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING

from checks.canary.searches import NEAREST
from checks.examination.measurements import Sampled, Segment, Verdict, tolerated_failures

if TYPE_CHECKING:
    from collections.abc import Mapping

    from checks.canary.retrieval import SegmentRetrieval
    from checks.examination.table_examination import TableExamination
    from checks.targets.target import Target

NAME = "retrieval"


def with_retrieval(
    table: TableExamination, found: Mapping[str | None, SegmentRetrieval], *, least: float
) -> TableExamination:
    """The examination with a verdict for each segment searched."""
    names = {measurement.segment.tenant for measurement in table.measurements}
    verdicts = [
        _verdict(table.target, tenant, seen, least=least)
        for tenant, seen in found.items()
        if tenant in names
    ]
    return replace(table, verdicts=(*(v for v in table.verdicts if v.check != NAME), *verdicts))


def _verdict(
    target: Target, tenant: str | None, seen: SegmentRetrieval, *, least: float
) -> Verdict:
    settings = target.declared.check_settings(NAME)
    tolerated = tolerated_failures(
        seen.sampled, Decimal(1) if settings.min is None else settings.min
    )
    faults = []
    failing = 0
    if seen.lost > tolerated:
        failing = seen.lost
        faults.append(f"do not find themselves among the {NEAREST} nearest to their own vector")
    if seen.recall_of_index is not None and seen.recall_of_index < least:
        failing = seen.sampled
        faults.append(
            f"depend on an index that finds {seen.recall_of_index:.0%} of the true"
            f" {NEAREST} nearest in the whole table (at least {least:.0%} expected); build it anew"
            " with REINDEX INDEX CONCURRENTLY if it was built on few rows, or raise"
            " hnsw.ef_search or ivfflat.probes"
        )
    elif seen.recall_in_tenant is not None and seen.recall_in_tenant < least:
        failing = max(failing, seen.low)
        faults.append(
            f"find {seen.recall_in_tenant:.0%} of the true {NEAREST} nearest within their tenant"
            f" (at least {least:.0%} expected), as the scan of the index ends before it has met"
            " enough rows of the tenant; raise hnsw.ef_search or ivfflat.probes, switch iterative"
            " scans on (pgvector 0.8), or partition by tenant"
        )
    sampled = Sampled(unseen=seen.unseen, nothing=seen.nothing)
    if faults:
        sampled = Sampled(says=f"{'; '.join(faults)} ({seen.settings})")
    return Verdict(
        check=NAME,
        segment=Segment(table=target.name, tenant=tenant),
        rows=seen.sampled,
        failing=failing,
        tolerated=tolerated,
        holds=not faults and seen.unseen is None,
        severity="error" if seen.unseen is not None else settings.severity,
        sampled=sampled,
    )
