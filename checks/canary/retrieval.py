"""Searches with stored vectors through the ANN index, as an application does.

Reads only, asks no provider.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import chain, islice, zip_longest
from typing import TYPE_CHECKING

import psycopg

from checks.canary.searches import searcher_of
from checks.database.connection import reason_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from checks.canary.sampler import Sampler
    from checks.canary.searches import Query, Searcher, Way
    from checks.database.connection import Connection
    from checks.examination.table_examination import TableExamination
    from checks.targets.target import Target

NOTHING = "no row with a vector that an index can hold"

ROUNDING = 1e-6
"""Distances this near to each other, relatively, are ties: float4 has seven digits."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Recall:
    """How many of the true nearest rows some searches found, counted in rows."""

    nearest: int
    found: int

    @property
    def share(self) -> float:
        return self.found / self.nearest if self.nearest else 1.0

    def __add__(self, other: Recall) -> Recall:
        return Recall(nearest=self.nearest + other.nearest, found=self.found + other.found)


NO_SEARCH = Recall(nearest=0, found=0)


@dataclass(frozen=True, kw_only=True, slots=True)
class SegmentRetrieval:
    """What the searches with a segment's sample found."""

    sampled: int = 0
    lost: int = 0
    """Sampled rows that a search with their own vector does not find."""
    low: int = 0
    """Sampled rows whose search within the tenant's rows finds too few of the nearest."""
    of_index: Recall | None = None
    """Recall over a sample of the whole table, without a tenant; None where not measured."""
    in_tenant: Recall | None = None
    """Recall within the tenant's rows; None where not measured."""
    unseen: str | None = None
    nothing: str | None = None
    settings: str = ""
    """The settings that the index is searched with, in words."""


Retrieved = dict[str | None, SegmentRetrieval]
"""By tenant, of one table."""


def searchable(target: Target) -> bool:
    """Whether an ANN index is declared, or found on the embedding column."""
    if target.declared.index is not None:
        return True
    return target.scannable and target.ann_indexed


def look_for_retrieval(
    sampler: Sampler, wanted: Sequence[tuple[TableExamination, Sequence[str | None]]]
) -> dict[str, Retrieved]:
    """Search with each segment's sample; the result by table and tenant."""
    found: dict[str, Retrieved] = {}
    for table, tenants in wanted:
        name = table.target.name
        try:
            found[name] = _table(sampler, table.target, tenants)
        except psycopg.Error as error:
            unseen = SegmentRetrieval(unseen=f"the search of {name} failed: {reason_of(error)}")
            found[name] = dict.fromkeys(tenants, unseen)
    return found


def _table(sampler: Sampler, target: Target, tenants: Sequence[str | None]) -> Retrieved:
    searcher = sampler.read(target, lambda c: searcher_of(c, target))
    if searcher is None:
        reason = (
            f"no valid index of {target.name} fits column {target.embedding.name!r} and metric"
            f" {target.declared.metric!r}; see the index check, or correct `metric`"
        )
        return dict.fromkeys(tenants, SegmentRetrieval(unseen=reason))
    queries: dict[str | None, list[Query]] = {tenant: [] for tenant in tenants}
    most, seed = sampler.settings.canary.sample, sampler.seed
    for query in sampler.read(
        target, lambda c: searcher.queries(c, tenants=tenants, rows=most, seed=seed)
    ):
        queries[query.tenant].append(query)
    # One row of each segment first: the table's sample should not be all of its first tenant.
    turns = chain.from_iterable(zip_longest(*queries.values()))
    some = list(islice((query for query in turns if query is not None), most))
    if not some:
        return dict.fromkeys(tenants, SegmentRetrieval(nothing=NOTHING))
    whole = sampler.read(target, lambda c: _whole_table(c, searcher, some))
    least = sampler.settings.canary.min_recall

    def search(own: Sequence[Query]) -> SegmentRetrieval:
        if not own:
            return SegmentRetrieval(nothing=NOTHING)
        return sampler.read(target, lambda c: _segment(c, searcher, own, whole, least))

    return {tenant: search(own) for tenant, own in queries.items()}


@dataclass(frozen=True, kw_only=True, slots=True)
class _Whole:
    """The index as a whole; `recall` is None where PostgreSQL does not use it without a tenant."""

    recall: Recall | None
    settings: str


def _whole_table(connection: Connection, searcher: Searcher, queries: Sequence[Query]) -> _Whole:
    used = searcher.uses_index(connection, queries[0], way="index", within_tenant=False)
    recall = (
        sum(
            (_recall(connection, searcher, query, within_tenant=False) for query in queries),
            start=NO_SEARCH,
        )
        if used
        else None
    )
    return _Whole(recall=recall, settings=_settings(connection, searcher))


def _settings(connection: Connection, searcher: Searcher) -> str:
    name = {"hnsw": "hnsw.ef_search", "ivfflat": "ivfflat.probes"}[searcher.index.method]
    row = connection.execute("SELECT pg_catalog.current_setting(%s, true)", (name,)).fetchone()
    value = row[0] if row else None
    return f"{searcher.index.name}, {name} = {value or 'its default'}"


def _segment(
    connection: Connection,
    searcher: Searcher,
    queries: Sequence[Query],
    whole: _Whole,
    least: float,
) -> SegmentRetrieval:
    narrow = searcher.by_tenant
    if whole.recall is None and not (
        narrow and searcher.uses_index(connection, queries[0], way="planner", within_tenant=True)
    ):
        return SegmentRetrieval(
            unseen=f"PostgreSQL answers no such search with {searcher.index.name}, even where it"
            " may use little else; its predicate or expression does not fit the searches"
        )
    lost: set[int] = set()
    if whole.recall is not None:
        lost = {
            position
            for position, query in enumerate(queries)
            if not _finds_itself(
                query, searcher.search(connection, query, way="index", within_tenant=False)
            )
        }
    result = SegmentRetrieval(
        sampled=len(queries),
        lost=len(lost),
        of_index=whole.recall,
        settings=whole.settings,
    )
    if not narrow:
        return result
    recalls = []
    for position, query in enumerate(queries):
        recalls.append(_recall(connection, searcher, query, within_tenant=True))
        near = searcher.search(connection, query, way="planner", within_tenant=True)
        if not _finds_itself(query, near):
            lost.add(position)
    return replace(
        result,
        lost=len(lost),
        low=sum(recall.share < least for recall in recalls),
        in_tenant=sum(recalls, start=NO_SEARCH),
    )


def _recall(
    connection: Connection, searcher: Searcher, query: Query, *, within_tenant: bool
) -> Recall:
    """How many of the true nearest are found; a row as near as the last of them counts."""
    # Within a tenant the planner is free, as for an application: an exact plan is fine.
    way: Way = "planner" if within_tenant else "index"
    near = searcher.search(connection, query, way=way, within_tenant=within_tenant)
    exact = searcher.search(connection, query, way="exact", within_tenant=within_tenant)
    if not exact:
        return NO_SEARCH
    farthest = _with_rounding(exact[-1])
    found = sum(distance <= farthest for distance in near)
    return Recall(nearest=len(exact), found=min(len(exact), found))


def _finds_itself(query: Query, near: Sequence[float]) -> bool:
    """Whether a row at the query's own distance is found: itself, or one with the same vector.

    By inner product longer vectors are nearer than the row itself, which then need not be found.
    """
    return bool(near) and near[0] <= _with_rounding(query.to_itself)


def _with_rounding(distance: float) -> float:
    return distance + max(abs(distance), 1.0) * ROUNDING
