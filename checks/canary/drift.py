"""Embeds a sample of each segment again, and compares the vectors with the stored ones.

Asks the provider only through the `SampleEmbedder` it is given; writes nothing and knows no key.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import psycopg

from checks.canary.sampler import TenantTexts, cosine
from checks.database.connection import reason_of

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterator, Mapping, Sequence

    from checks.canary.sampler import Price, SampleAnswer, SampleEmbedder, Sampler
    from checks.canary.sampling import SampledRow
    from checks.examination.table_examination import TableExamination
    from checks.targets.target import Target

UNKNOWN = "its store holds pieces of texts; declare their `text` in [tables.store] to sample them"
NOTHING = "no healthy row with a vector, so there was nothing to sample"


@dataclass(frozen=True, kw_only=True, slots=True)
class SegmentDrift:
    """What drift saw of a segment; `unseen` and `nothing` as in `Sampled`."""

    sampled: int = 0
    drifting: tuple[SampledRow, ...] = ()
    """Sampled rows whose cosine is below the least allowed, without their vectors."""
    cosines: tuple[float, ...] = ()
    """The cosines of the drifting rows, in their order."""
    rechecked: bool = False
    """Whether a repair has run since the rows were sampled."""
    unseen: str | None = None
    nothing: str | None = None

    @property
    def partial(self) -> bool:
        """Whether some sampled rows drift while others are what the model answers now."""
        return 0 < len(self.drifting) < self.sampled

    @property
    def healed(self) -> bool:
        """Whether a repair has run and no sampled row drifts any more: see `still`."""
        return self.rechecked and not self.drifting

    def still(self, identities: Container[str]) -> SegmentDrift:
        """The segment after a repair, where only these drifting rows still hold their vectors."""
        left = [
            (row, value)
            for row, value in zip(self.drifting, self.cosines, strict=True)
            if row.identity in identities
        ]
        return replace(
            self,
            drifting=tuple(row for row, _ in left),
            cosines=tuple(value for _, value in left),
            rechecked=True,
        )


Seen = dict[str | None, SegmentDrift]
"""By tenant, of one table."""

Wanted = tuple["TableExamination", "Sequence[str | None]"]
"""A table and the tenants whose segments are to be looked at."""


def look_for_drift(
    sampler: Sampler,
    embedder: SampleEmbedder,
    wanted: Sequence[Wanted],
    announce: Callable[[Price, int, int], None],
) -> dict[str, Seen]:
    """Sample, price, announce the price, and compare: the result by table and tenant.

    `announce` is called once, before the provider is asked, with the price, the number of
    segments and that of rows. What the database or the provider refuses is in the result.
    """
    seen: dict[str, Seen] = {}
    segments = rows = 0

    def texts() -> Iterator[TenantTexts]:
        nonlocal segments, rows
        for table, tenants in wanted:
            if not table.target.text_is_known:
                seen[table.target.name] = dict.fromkeys(tenants, SegmentDrift(nothing=UNKNOWN))
                continue
            try:
                for found in sampler.rows(table, tenants, vectors=False):
                    for one in _texts(table.target, found):
                        segments, rows = segments + 1, rows + len(one.texts)
                        yield one
            except psycopg.Error as error:
                seen[table.target.name] = dict.fromkeys(tenants, _unsampled(table, error))

    price = embedder.price(texts())
    announce(price, segments, rows)
    for table, tenants in wanted:
        if table.target.name in seen:
            continue
        if price.refused is not None or price.nothing is not None:
            result = SegmentDrift(unseen=price.refused, nothing=price.nothing)
            seen[table.target.name] = dict.fromkeys(tenants, result)
            continue
        compared: Seen = {}
        try:
            for found in sampler.rows(table, tenants, vectors=True):
                compared |= _compare(sampler, embedder, table.target, found)
        except psycopg.Error as error:
            unsampled = _unsampled(table, error)
            compared |= {tenant: unsampled for tenant in tenants if tenant not in compared}
        seen[table.target.name] = compared
    return seen


def _unsampled(table: TableExamination, error: psycopg.Error) -> SegmentDrift:
    return SegmentDrift(unseen=f"{table.target.name} could not be sampled: {reason_of(error)}")


def _texts(
    target: Target, found: Mapping[str | None, Sequence[SampledRow]]
) -> Iterator[TenantTexts]:
    for tenant, rows in found.items():
        if rows:
            yield TenantTexts(target=target, tenant=tenant, texts=tuple(row.text for row in rows))


def _compare(
    sampler: Sampler,
    embedder: SampleEmbedder,
    target: Target,
    found: Mapping[str | None, Sequence[SampledRow]],
) -> Seen:
    asked = list(_texts(target, found))
    answers = zip(asked, embedder.embed(asked), strict=True)
    by_tenant = {one.tenant: answer for one, answer in answers}
    least = sampler.settings.canary.min_cosine
    return {
        tenant: _drift_of(rows, by_tenant[tenant], least) if rows else SegmentDrift(nothing=NOTHING)
        for tenant, rows in found.items()
    }


def _drift_of(rows: Sequence[SampledRow], answer: SampleAnswer, least: float) -> SegmentDrift:
    if answer.unseen is not None:
        return SegmentDrift(unseen=answer.unseen)
    pairs = [
        (row, cosine(row.vector, fresh))
        for row, fresh in zip(rows, answer.vectors, strict=True)
        if fresh is not None and row.vector is not None
    ]
    if not pairs:
        return SegmentDrift(unseen="the provider takes none of the sampled texts")
    below = [(replace(row, vector=None), value) for row, value in pairs if value < least]
    return SegmentDrift(
        sampled=len(pairs),
        drifting=tuple(row for row, _ in below),
        cosines=tuple(value for _, value in below),
    )
