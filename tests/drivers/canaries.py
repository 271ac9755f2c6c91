"""The canaries in this process: what drift and retrieval say of a database."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from checks.canary.drift import look_for_drift
from checks.canary.drift_verdicts import with_drift
from checks.canary.retrieval import look_for_retrieval
from checks.canary.retrieval_verdicts import with_retrieval
from checks.canary.sampler import Sampler
from checks.database.connection import connect
from checks.database.connection_url import parse_url
from checks.examination.examination import examine
from checks.examination.selection import Selection
from remediation.run.canary_embedder import open_embedder
from tests.drivers.repairs import SOON, Done, opened

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from checks.canary.drift import Seen
    from checks.canary.sampler import Price
    from checks.examination.examination import Examination
    from checks.examination.table_examination import TableExamination
    from checks.expectations.measurements import Verdict
    from checks.settings.integrity_toml import Settings
    from remediation.run.canary_embedder import CanaryEmbedder


@dataclass(kw_only=True, slots=True)
class Looked:
    """What a canary saw of one table."""

    table: TableExamination
    check: str
    examination: Examination
    seen: Seen = field(default_factory=dict)
    prices: list[tuple[Price, int, int]] = field(default_factory=list)

    def verdict(self, tenant: str | None) -> Verdict:
        found = self.table.verdict(self.check, tenant)
        assert found is not None
        return found

    def held(self) -> dict[str | None, bool]:
        """Whether the canary holds, by tenant."""
        return {v.segment.tenant: v.holds for v in self.table.verdicts if v.check == self.check}

    def says(self, tenant: str | None) -> str:
        sampled = self.verdict(tenant).sampled
        assert sampled is not None
        return sampled.says or sampled.unseen or sampled.nothing or ""


@contextmanager
def sampling(
    url: str, settings: Settings, *, seed: int = 1
) -> Iterator[tuple[Sampler, Examination]]:
    """A sampler over an examined database."""
    place = parse_url(url, variable="DATABASE_URL")
    examination = examine(place, settings, Selection(tables=None, tenants=None))
    with connect(place) as connection:
        sampler = Sampler(connection=connection, place=place, settings=settings, seed=seed)
        yield sampler, examination


@contextmanager
def asking(
    url: str, settings: Settings, *, keys: Mapping[str, str], seed: int = 1
) -> Iterator[tuple[Sampler, CanaryEmbedder, Examination]]:
    """A sampler over an examined database, and what embeds its samples."""
    with (
        sampling(url, settings, seed=seed) as (sampler, examination),
        open_embedder(
            settings=settings,
            environment=keys,
            examination=examination,
            place=sampler.place,
            retry=SOON,
        ) as embedder,
    ):
        yield sampler, embedder, examination


def drift(
    url: str,
    settings: Settings,
    *,
    keys: Mapping[str, str],
    seed: int = 1,
    after_examination: Callable[[], None] = lambda: None,
) -> Looked:
    """Look for drift in every segment of the first table."""
    with asking(url, settings, keys=keys, seed=seed) as (sampler, embedder, examination):
        table = examination.tables[0]
        looked = Looked(table=table, check="drift", examination=examination)
        after_examination()
        seen = look_for_drift(
            sampler,
            embedder,
            [(table, [m.segment.tenant for m in table.measurements])],
            lambda *announced: looked.prices.append(announced),
        )
        least = settings.canary.min_cosine
        looked.seen = seen[table.target.name]
        (looked.table,) = with_drift([table], seen, least=least)
        looked.examination = examination.updated([looked.table])
        return looked


def retrieval(url: str, settings: Settings, *, seed: int = 1) -> Looked:
    """Search with a sample of every segment of the first table."""
    with sampling(url, settings, seed=seed) as (sampler, examination):
        table = examination.tables[0]
        tenants = [m.segment.tenant for m in table.measurements]
        found = look_for_retrieval(sampler, [(table, tenants)])
        least = settings.canary.min_recall
        (again,) = with_retrieval([table], found, least=least)
        return Looked(table=again, check="retrieval", examination=examination.updated([again]))


def repaired_with_drift(
    url: str, settings: Settings, folder: Path, *, keys: Mapping[str, str], seed: int = 1
) -> Done:
    """Look for drift, then plan and repair as a run with --remediate --canary does."""
    looked = drift(url, settings, keys=keys, seed=seed)
    with opened(url, settings, keys=keys) as repair:
        repair.examination = repair.examination.updated([looked.table])
        plan = repair.plan()
        repair.run(plan, folder, lambda _: None)
        return Done(plan=plan, results=tuple(repair.results), after=repair.remeasure())
