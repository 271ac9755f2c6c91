"""Runs the canaries of one run: each looks once, drift again after a repair.

Asks the provider through the embedder it is given; prints through `say`, and knows no pytest item.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psycopg

from checks.canary.drift import SegmentDrift, look_for_drift
from checks.canary.drift_verdicts import still_drifting, with_drift
from checks.canary.retrieval import SegmentRetrieval, look_for_retrieval
from checks.canary.retrieval_verdicts import with_retrieval
from checks.canary.sampler import Sampler
from checks.database.connection import connect, reason_of
from checks.errors import CannotExamineError
from checks.wording import dollars, plural

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from checks.canary.drift import Seen, Wanted
    from checks.canary.retrieval import Retrieved
    from checks.canary.sampler import Price, SampleEmbedder
    from checks.examination.run_context import RunContext
    from checks.examination.table_examination import TableExamination

SEED_VARIABLE = "INTEGRITY_CANARY_SEED"


@dataclass(kw_only=True, slots=True)
class CanaryRun:
    """What the canaries of a run have seen, by table and tenant; None before they looked."""

    seed: int
    say: Callable[[str], None]
    drift: dict[str, Seen] | None = None
    retrieval: dict[str, Retrieved] | None = None

    def look_for_drift(
        self, context: RunContext, embedder: SampleEmbedder, wanted: Sequence[Wanted]
    ) -> None:
        """Say the price, ask the provider, and put the verdicts into the context."""
        self.drift = self._look(context, embedder, wanted, seed=self.seed)
        self._attach_drift(context, self.drift)

    def look_again(self, context: RunContext, embedder: SampleEmbedder) -> None:
        """After a repair: see which rows still drift, and sample the healed segments anew.

        Healed rows prove nothing about rows that were not sampled. Tables that were not measured
        again have not changed, and are left out.
        """
        seen = self.drift or {}
        healed: list[Wanted] = []
        for name, first in seen.items():
            table = context.examination.table(name)
            if table is context.before.table(name):
                continue
            self._recheck(context, table, first)
            tenants = [tenant for tenant, drift in first.items() if drift.healed]
            if tenants and table.measured:
                healed.append((table, tenants))
        if healed:
            again = self._look(context, embedder, healed, seed=self.seed + 1)
            for name, of_table in again.items():
                seen[name] |= of_table
        self._attach_drift(context, seen)

    def search(self, context: RunContext, wanted: Sequence[Wanted]) -> None:
        """Search once; put what was found into the context, tables measured anew included."""
        if self.retrieval is None:
            try:
                with _sampler(context, self.seed) as sampler:
                    self.retrieval = look_for_retrieval(sampler, wanted)
            except CannotExamineError as error:
                unseen = SegmentRetrieval(unseen=str(error))
                self.retrieval = {
                    table.target.name: dict.fromkeys(tenants, unseen) for table, tenants in wanted
                }
        found, least = self.retrieval, context.settings.canary.min_recall
        _replace(
            context,
            found.keys(),
            lambda tables: with_retrieval(tables, found, least=least),
        )

    def _look(
        self, context: RunContext, embedder: SampleEmbedder, wanted: Sequence[Wanted], *, seed: int
    ) -> dict[str, Seen]:
        def announce(price: Price, segments: int, rows: int) -> None:
            self.say(
                f"drift: {plural(rows, 'sampled row')} of {plural(segments, 'segment')} in"
                f" {plural(price.requests, 'request')}, about {plural(price.tokens, 'token')}"
                f" ({price.counted}), {dollars(price.dollars)}; seed {seed}"
                f" ({SEED_VARIABLE} draws the same rows again)"
            )
            if price.refused is not None:
                self.say(f"drift: {price.refused}")

        try:
            with _sampler(context, seed) as sampler:
                return look_for_drift(sampler, embedder, wanted, announce)
        except CannotExamineError as error:
            unseen = SegmentDrift(unseen=str(error))
            return {table.target.name: dict.fromkeys(tenants, unseen) for table, tenants in wanted}

    def _recheck(self, context: RunContext, table: TableExamination, first: Seen) -> None:
        """Keep of each segment those drifting rows that still hold the same vectors."""
        partial = [tenant for tenant, drift in first.items() if drift.partial]
        if not partial or not table.measured:
            return
        try:
            with _sampler(context, self.seed) as sampler:
                left = still_drifting(sampler, table, first)
        except (CannotExamineError, psycopg.Error) as error:
            reason = reason_of(error) if isinstance(error, psycopg.Error) else str(error)
            unseen = SegmentDrift(unseen=f"not looked at after the repair: {reason}")
            first |= dict.fromkeys(partial, unseen)
        else:
            first |= {tenant: first[tenant].still(left) for tenant in partial}

    def _attach_drift(self, context: RunContext, seen: dict[str, Seen]) -> None:
        least = context.settings.canary.min_cosine
        _replace(
            context,
            seen.keys(),
            lambda tables: with_drift(tables, seen, least=least),
        )


@contextmanager
def _sampler(context: RunContext, seed: int) -> Iterator[Sampler]:
    place = context.measured_through or context.place
    with connect(place) as connection:
        yield Sampler(connection=connection, place=place, settings=context.settings, seed=seed)


def _replace(
    context: RunContext,
    names: Collection[str],
    work: Callable[[Sequence[TableExamination]], Sequence[TableExamination]],
) -> None:
    """Put verdicts into the last examination, and into the first where a table is unchanged."""
    untouched = {
        name for name in names if context.before.table(name) is context.examination.table(name)
    }
    worked = work([context.examination.table(name) for name in names])
    context.examination = context.examination.updated(worked)
    context.before = context.before.updated(
        [table for table in worked if table.target.name in untouched]
    )
