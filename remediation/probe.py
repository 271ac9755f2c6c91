"""The probe before the first write: does the provider still answer as it did for healthy rows?

A wrong model or text expression of the right dimension poisons a table in silence; a few re-embedded
healthy rows show it. Writes nothing.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from remediation.poison import embed_isolating
from remediation.provider_errors import InputRejected, KeyRefused

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from checks.connection import Connection
    from numpy.typing import NDArray

    from remediation.embedders import Embedders
    from remediation.provider_errors import ProviderError
    from remediation.selection import RowReader

LEAST_COSINE = 0.99
"""A model answers the same text with nearly the same vector (OpenAI's vary in the fifth digit);
another model's vector of the same text has a cosine near 0."""

TENANTS_AT_ONCE = 2_000
"""Tenants whose samples are in memory together: 3 vectors of 6 kB each make 36 MB."""

Sample: TypeAlias = "tuple[str, NDArray[np.float32]]"


@dataclass(frozen=True, kw_only=True, slots=True)
class ProbeResult:
    """One tenant's probe: the cosine of each re-embedded healthy row with what is stored."""

    tenant: str | None
    cosines: tuple[float, ...] = ()
    failure: ProviderError | None = None
    requests: int = 0
    tokens: int = 0

    @property
    def agrees(self) -> bool:
        """Whether nothing speaks against writing; a tenant without healthy rows shows nothing."""
        return all(cosine >= LEAST_COSINE for cosine in self.cosines)


def probe(
    connection: Connection,
    reader: RowReader,
    embedders: Embedders,
    *,
    tenants: Sequence[str | None],
    rows: int,
    concurrency: int,
) -> tuple[ProbeResult, ...]:
    """Re-embed up to `rows` healthy rows of each tenant with its own key, one request a tenant."""
    results: list[ProbeResult] = []
    with ThreadPoolExecutor(concurrency, thread_name_prefix="probe") as pool:
        for some in batched(tenants, TENANTS_AT_ONCE):
            samples: dict[str | None, list[Sample]] = {}
            for tenant, text, vector in reader.healthy_rows(
                connection, tenants=some, per_tenant=rows
            ):
                samples.setdefault(tenant, []).append((text, vector))
            results += pool.map(lambda entry: _probe_tenant(embedders, *entry), samples.items())
    return tuple(results)


def batched(tenants: Sequence[str | None], size: int) -> Iterator[list[str | None]]:
    """The tenants in lists of at most `size`."""
    remaining = iter(tenants)
    while some := list(islice(remaining, size)):
        yield some


def _probe_tenant(embedders: Embedders, tenant: str | None, sample: list[Sample]) -> ProbeResult:
    try:
        with embedders.lend(tenant) as embedder:
            answer = embed_isolating(embedder, [text for text, _ in sample])
    except KeyRefused as error:
        return ProbeResult(tenant=tenant, failure=error)
    cosines = [
        cosine(stored, fresh)
        for (_, stored), fresh in zip(sample, answer.outcomes, strict=True)
        if fresh is not None and not isinstance(fresh, InputRejected)
    ]
    return ProbeResult(
        tenant=tenant,
        cosines=tuple(cosines),
        failure=answer.failure,
        requests=answer.requests,
        tokens=answer.tokens,
    )


def cosine(stored: NDArray[np.float32], fresh: NDArray[np.float32]) -> float:
    """The cosine of two vectors; 0 where their shapes differ or one has no direction."""
    if stored.shape != fresh.shape:
        return 0.0
    a, b = stored.astype(np.float64), fresh.astype(np.float64)
    norms = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / norms if norms > 0 else 0.0
