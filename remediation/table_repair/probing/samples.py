"""Takes the sample of each tenant that a probe sends: healthy rows' texts, and their vectors."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import groupby, islice
from operator import attrgetter
from typing import TYPE_CHECKING

from remediation.selection.healthy_rows import healthy_rows
from remediation.selection.preparation import sendable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from checks.database.connection import Connection
    from checks.settings.integrity_toml import Provider
    from remediation.provider.tokens import TokenCounter
    from remediation.selection.healthy_rows import HealthyRow
    from remediation.selection.row_reader import RowReader

TENANTS_AT_ONCE = 1_000
"""Tenants whose samples are in memory together: 5 vectors of 6 kB each make 30 MB."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Sample:
    """The request that a tenant's probe sends, and the vectors that are stored (float32)."""

    tenant: str | None
    texts: tuple[str, ...] = field(repr=False)
    stored: tuple[NDArray[np.float32], ...]
    tokens: int
    lengths_matter: bool = False
    """Whether a search sees the lengths of vectors, as by l2 and inner_product."""


def samples(
    connection: Connection,
    reader: RowReader,
    *,
    tenants: Sequence[str | None],
    rows: int,
    provider: Provider,
    counter: TokenCounter,
) -> Iterator[list[Sample]]:
    """A sample for each tenant that has healthy rows, of about `rows` of them; none for rows = 0.

    In lists of at most `TENANTS_AT_ONCE`. The dry run counts what the repair sends.
    """
    if not (rows and tenants):
        return

    def sample(tenant: str | None, healthy: Iterable[HealthyRow]) -> Sample:
        sent = [(sendable(row.text, provider, counter), row.vector) for row in healthy]
        texts = tuple(text for text, _ in sent if text is not None)
        return Sample(
            tenant=tenant,
            texts=texts,
            stored=tuple(vector for text, vector in sent if text is not None),
            tokens=sum(map(counter.count, texts)),
            lengths_matter=reader.target.declared.metric != "cosine",
        )

    found = groupby(
        healthy_rows(connection, reader, tenants=tenants, per_tenant=rows), key=attrgetter("tenant")
    )
    taken = (one for tenant, healthy in found if (one := sample(tenant, healthy)).texts)
    while some := list(islice(taken, TENANTS_AT_ONCE)):
        yield some
