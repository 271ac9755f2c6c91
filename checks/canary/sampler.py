"""Defines what the canaries share: a reader of samples, and a protocol for who embeds them.

The sampled checks run only with --canary; they write nothing, and know neither key nor provider.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np

from checks.canary.sampling import draw
from checks.database.connection import TRANSIENT, read_only

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from checks.canary.sampling import SampledRow
    from checks.database.connection import Connection, ConnectionTarget
    from checks.examination.table_examination import TableExamination
    from checks.settings.integrity_toml import Settings
    from checks.targets.target import Target

Read = TypeVar("Read")

ROWS_AT_ONCE = 5_000
"""Sampled rows in memory together: 5,000 vectors of 1,536 dimensions take 30 MB."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TenantTexts:
    """Texts to embed with one tenant's key, by the model of one table."""

    target: Target
    tenant: str | None
    texts: tuple[str, ...] = field(repr=False)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SampleAnswer:
    """The vectors of `TenantTexts`, aligned with its texts: float32, shape (dimensions,).

    A text that the provider refuses has None. `unseen` says why the provider could not be asked.
    """

    vectors: tuple[NDArray[np.float32] | None, ...] = ()
    unseen: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Price:
    """What asking takes, in requests, tokens and dollars."""

    requests: int
    tokens: int
    dollars: float
    counted: str
    """How tokens were counted, in words."""
    refused: str | None = None
    """Why the provider must not be asked: an error."""
    nothing: str | None = None
    """Why the provider is not asked, where that is no error."""


class SampleEmbedder(Protocol):
    """What the fixture `embedder` gives: it embeds texts, each with the key of its own tenant."""

    def price(self, texts: Iterable[TenantTexts]) -> Price:
        """What embedding these would take; asks nobody."""

    def embed(self, texts: Sequence[TenantTexts]) -> list[SampleAnswer]:
        """The answers, aligned. A tenant without a key or an answer harms no other."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampler:
    """Reads for the canaries of a run, through one connection; no transaction outlives a call."""

    connection: Connection
    place: ConnectionTarget
    settings: Settings
    seed: int

    def read(self, target: Target, work: Callable[[Connection], Read]) -> Read:
        """Read in a short read-only transaction of its own, and try again where that may help.

        Raises psycopg's errors.
        """
        for last_try in (False, True):
            try:
                with read_only(
                    self.connection,
                    self.place,
                    statement_timeout=self.settings.database.statement_timeout,
                    row_security=target.row_security,
                ):
                    return work(self.connection)
            except TRANSIENT:
                if last_try:
                    raise
        raise AssertionError("unreachable: the second try returns or raises")

    def rows(
        self, table: TableExamination, tenants: Sequence[str | None], *, vectors: bool
    ) -> Iterator[dict[str | None, list[SampledRow]]]:
        """The sample by tenant, in pieces of at most `ROWS_AT_ONCE` rows."""
        most = self.settings.canary.sample
        size = max(1, ROWS_AT_ONCE // most)
        for start in range(0, len(tenants), size):
            some = tenants[start : start + size]

            def read(connection: Connection, some: Sequence[str | None] = some) -> list[SampledRow]:
                rows = draw(
                    connection,
                    table.target,
                    table.checks,
                    tenants=some,
                    rows=most,
                    seed=self.seed,
                    vectors=vectors,
                )
                return list(rows)

            found: dict[str | None, list[SampledRow]] = {tenant: [] for tenant in some}
            for row in self.read(table.target, read):
                found[row.tenant].append(row)
            yield found


def cosine(stored: NDArray[np.float32], fresh: NDArray[np.float32]) -> float:
    """The cosine of two vectors; 0 where their shapes differ or one has no direction."""
    if stored.shape != fresh.shape:
        return 0.0
    a, b = stored.astype(np.float64), fresh.astype(np.float64)
    norms = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / norms if norms > 0 else 0.0
