"""Groups a stream of failing rows into requests of one tenant each, in bounded memory.

Knows neither the database nor the provider; counts tokens and holds rows.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from checks.settings.integrity_toml import Settings
    from remediation.provider.tokens import TokenCounter

OPENAI_TOKENS_PER_REQUEST = 300_000
"""A limit of OpenAI's embeddings endpoint: its API reference, "Create embeddings", `input`."""

Key: TypeAlias = tuple[str, ...]
"""The columns of a row's key, each as text."""

FIRST_ROWS = 10
"""Rows of the first batch, at most: as many as of the first write."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FailingRow:
    """A row to repair: its key and tenant, and what was read, for a write to compare.

    Its repr, which a traceback may show, holds no text.
    """

    key: tuple[str, ...]
    tenant: str | None
    text: str = field(repr=False)
    text_hash: str
    vector_hash: str | None
    checks: tuple[str, ...]
    vector: bytes | None = field(default=None, repr=False)
    """The stored vector in binary form; the journal keeps it before it is overwritten."""
    beside: tuple[str | None, ...] = ()
    """The values of the columns that a write sets with the vector, in the target's order."""
    missing: bool = False
    """Whether its store had no row for it: a write inserts one, and an undo deletes it."""
    broken: tuple[str, ...] = ()
    """Checks that no write heals and that it failed before."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """The rows of one request: one tenant's, in the order in which they came."""

    tenant: str | None
    rows: tuple[FailingRow, ...]
    tokens: int


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchLimits:
    """How large a batch may be, and how much may wait in memory for batches to fill.

    `buffered_bytes` is the memory of the waiting texts and vectors as Python holds them. Raises
    ValueError for a limit below 1.
    """

    rows: int
    tokens_per_request: int = OPENAI_TOKENS_PER_REQUEST
    buffered_rows: int = 10_000
    buffered_bytes: int = 64 * 1024 * 1024

    def __post_init__(self) -> None:
        for name in ("rows", "tokens_per_request", "buffered_rows", "buffered_bytes"):
            if getattr(self, name) < 1:
                raise ValueError(f"expected {name} of at least 1, found {getattr(self, name)}")


def part_of(batch: Batch, rows: Sequence[FailingRow], counter: TokenCounter) -> Batch:
    """A batch of only some of its rows."""
    if len(rows) == len(batch.rows):
        return batch
    tokens = sum(counter.count(row.text) for row in rows)
    return replace(batch, rows=tuple(rows), tokens=tokens)


def batch_limits(settings: Settings) -> BatchLimits:
    """The limits by the settings; no request holds more tokens than a minute may."""
    return BatchLimits(
        rows=settings.provider.batch_size,
        tokens_per_request=min(
            settings.provider.max_tokens_per_request,
            settings.repair.tokens_per_minute or settings.provider.max_tokens_per_request,
        ),
    )


def batches(
    rows: Iterable[FailingRow], *, limits: BatchLimits, counter: TokenCounter
) -> Iterator[Batch]:
    """Every row in exactly one batch of its own tenant, in order within the tenant.

    The first batch is small: nothing may be sent beside it until its write has proved that the
    repair heals, and meanwhile the rows of the others are read.
    A batch holds at most `limits.rows` rows and `limits.tokens_per_request` tokens; a row that
    needs more tokens than that is a batch of its own. NULL (None) and '' are two tenants. When the
    buffer is full, the fullest unfinished batch leaves early: with many tenants, requests are less
    full, but memory stays bounded.
    """
    waiting = _Waiting()
    most = min(FIRST_ROWS, limits.rows)
    for row in rows:
        tokens = counter.count(row.text)
        size = sys.getsizeof(row.text) + len(row.vector or b"")
        if waiting.tokens_of(row.tenant) + tokens > limits.tokens_per_request:
            yield from waiting.leave(row.tenant)
        while waiting.rows and (
            waiting.rows >= limits.buffered_rows or waiting.bytes + size > limits.buffered_bytes
        ):
            yield from waiting.leave(waiting.fullest())
        filled = waiting.add(row, tokens, size)
        if len(filled.rows) >= most or filled.tokens >= limits.tokens_per_request:
            most = limits.rows
            yield from waiting.leave(row.tenant)
    while waiting.rows:
        yield from waiting.leave(waiting.first())


@dataclass(kw_only=True, slots=True)
class _Unfinished:
    rows: list[FailingRow] = field(default_factory=list)
    tokens: int = 0
    bytes: int = 0


class _Waiting:
    """The unfinished batches, by tenant and by their number of rows."""

    def __init__(self) -> None:
        self.rows = 0
        self.bytes = 0
        self._by_tenant: dict[str | None, _Unfinished] = {}
        # Tenants by the rows they hold: with ten thousand tenants, a search for the fullest
        # batch at every row would cost more than the batches.
        self._by_rows: dict[int, dict[str | None, None]] = {}

    def tokens_of(self, tenant: str | None) -> int:
        unfinished = self._by_tenant.get(tenant)
        return unfinished.tokens if unfinished else 0

    def add(self, row: FailingRow, tokens: int, size: int) -> _Unfinished:
        unfinished = self._by_tenant.setdefault(row.tenant, _Unfinished())
        self._unlist(row.tenant, len(unfinished.rows))
        unfinished.rows.append(row)
        unfinished.tokens += tokens
        unfinished.bytes += size
        self.rows += 1
        self.bytes += size
        self._by_rows.setdefault(len(unfinished.rows), {})[row.tenant] = None
        return unfinished

    def leave(self, tenant: str | None) -> Iterator[Batch]:
        unfinished = self._by_tenant.pop(tenant, None)
        if unfinished is None:
            return
        self._unlist(tenant, len(unfinished.rows))
        self.rows -= len(unfinished.rows)
        self.bytes -= unfinished.bytes
        yield Batch(tenant=tenant, rows=tuple(unfinished.rows), tokens=unfinished.tokens)

    def fullest(self) -> str | None:
        """The tenant with the most waiting rows; of several, the first to reach that number."""
        most = max(self._by_rows)
        return next(iter(self._by_rows[most]))

    def first(self) -> str | None:
        return next(iter(self._by_tenant))

    def _unlist(self, tenant: str | None, rows: int) -> None:
        tenants = self._by_rows.get(rows)
        if tenants is None:
            return
        tenants.pop(tenant, None)
        if not tenants:
            del self._by_rows[rows]
