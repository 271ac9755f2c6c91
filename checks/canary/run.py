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
    from checks.canary.retrieval import Found
    from checks.canary.sampler import Price, SampleEmbedder
    from checks.examination.run_context import Evidence
    from checks.examination.table_examination import TableExamination

SEED_VARIABLE = "INTEGRITY_CANARY_SEED"


@dataclass(kw_only=True, slots=True)
class CanaryRun:
    """What the canaries of a run have seen, by table and tenant; None before they looked."""

    seed: int
    say: Callable[[str], None]
    drift: dict[str, Seen] | None = None
    retrieval: dict[str, Found] | None = None

    def look_for_drift(
        self, evidence: Evidence, embedder: SampleEmbedder, wanted: Sequence[Wanted]
    ) -> None:
        """Tell the price, ask, and put the verdicts into the evidence."""
        self.drift = self._look(evidence, embedder, wanted, seed=self.seed)
        self._attach_drift(evidence, self.drift)

    def look_again(self, evidence: Evidence, embedder: SampleEmbedder) -> None:
        """After a repair: tell again what drifts yet, and sample healed segments afresh.

        The rows that were healed say nothing of those that were not sampled. Of tables that were
        not measured again, nothing has changed.
        """
        seen = self.drift or {}
        healed: list[Wanted] = []
        for name, first in seen.items():
            table = evidence.examination.table(name)
            if table is evidence.before.table(name):
                continue
            self._recheck(evidence, table, first)
            tenants = [tenant for tenant, drift in first.items() if drift.healed]
            if tenants and table.measured:
                healed.append((table, tenants))
        if healed:
            again = self._look(evidence, embedder, healed, seed=self.seed + 1)
            for name, of_table in again.items():
                seen[name] |= of_table
        self._attach_drift(evidence, seen)

    def search(self, evidence: Evidence, wanted: Sequence[Wanted]) -> None:
        """Search once; what was found is put into the evidence, also into what is measured anew."""
        if self.retrieval is None:
            try:
                with _sampler(evidence, self.seed) as sampler:
                    self.retrieval = look_for_retrieval(sampler, wanted)
            except CannotExamineError as error:
                unseen = SegmentRetrieval(unseen=str(error))
                self.retrieval = {
                    table.target.name: dict.fromkeys(tenants, unseen) for table, tenants in wanted
                }
        found, least = self.retrieval, evidence.settings.canary.min_recall
        _replace(
            evidence,
            found.keys(),
            lambda tables: with_retrieval(tables, found, least=least),
        )

    def _look(
        self, evidence: Evidence, embedder: SampleEmbedder, wanted: Sequence[Wanted], *, seed: int
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
            with _sampler(evidence, seed) as sampler:
                return look_for_drift(sampler, embedder, wanted, announce)
        except CannotExamineError as error:
            unseen = SegmentDrift(unseen=str(error))
            return {table.target.name: dict.fromkeys(tenants, unseen) for table, tenants in wanted}

    def _recheck(self, evidence: Evidence, table: TableExamination, first: Seen) -> None:
        """Leave to each segment those of its drifting rows that hold their vectors yet."""
        partial = [tenant for tenant, drift in first.items() if drift.partial]
        if not partial or not table.measured:
            return
        try:
            with _sampler(evidence, self.seed) as sampler:
                left = still_drifting(sampler, table, first)
        except (CannotExamineError, psycopg.Error) as error:
            reason = reason_of(error) if isinstance(error, psycopg.Error) else str(error)
            unseen = SegmentDrift(unseen=f"not looked at after the repair: {reason}")
            first |= dict.fromkeys(partial, unseen)
        else:
            first |= {tenant: first[tenant].still(left) for tenant in partial}

    def _attach_drift(self, evidence: Evidence, seen: dict[str, Seen]) -> None:
        least = evidence.settings.canary.min_cosine
        _replace(
            evidence,
            seen.keys(),
            lambda tables: with_drift(tables, seen, least=least),
        )


@contextmanager
def _sampler(evidence: Evidence, seed: int) -> Iterator[Sampler]:
    place = evidence.measured_through or evidence.place
    with connect(place) as connection:
        yield Sampler(connection=connection, place=place, settings=evidence.settings, seed=seed)


def _replace(
    evidence: Evidence,
    names: Collection[str],
    work: Callable[[Sequence[TableExamination]], Sequence[TableExamination]],
) -> None:
    """Put verdicts into what is known now, and into what was known first where that is the same."""
    untouched = {
        name for name in names if evidence.before.table(name) is evidence.examination.table(name)
    }
    worked = work([evidence.examination.table(name) for name in names])
    evidence.examination = evidence.examination.updated(worked)
    evidence.before = evidence.before.updated(
        [table for table in worked if table.target.name in untouched]
    )
