"""Reads healthy rows, of which a repair asks again before its first write.

Reads only, the table once for their keys, and then page after page in short transactions.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING

import numpy as np

from checks.database.connection import ALL_ROWS
from checks.database.undecodable import as_read
from checks.database.vectors.types import vector_read
from remediation.selection.given_keys import key_arrays
from remediation.selection.row_statements import compile_candidates, compile_healthy
from remediation.selection.selected_keys import SelectedKeys
from remediation.selection.telling_rows import Candidate, telling

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray
    from psycopg import sql

    from checks.database.connection import Connection
    from remediation.selection.batching import Key
    from remediation.selection.row_reader import RowReader

PAGE_ROWS = 2_000
"""Rows whose vectors are in memory together: 12 MB of 6 kB each."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class HealthyRow:
    """A row that fails nothing: what was embedded, and the vector (float32, (dimensions,))."""

    key: Key
    tenant: str | None
    text: str = field(repr=False)
    vector: NDArray[np.float32]


def healthy_rows(
    connection: Connection,
    reader: RowReader,
    *,
    tenants: Sequence[str | None],
    per_tenant: int,
) -> Iterator[HealthyRow]:
    """About `per_tenant` rows of each tenant that fail nothing, chosen by `telling`.

    Tenant after tenant. A vector that is not finite or not of the declared dimension shows nothing,
    and is left out. Raises psycopg's errors.
    """
    target = reader.target
    whole = tuple({check.name: check for check in (*reader.checks, *reader.accepted)}.values())
    candidates = compile_candidates(target, whole, tenants=tenants, each=per_tenant)
    statement = compile_healthy(target, whole)
    keys_of_all: SelectedKeys[Key] = SelectedKeys()
    with closing(keys_of_all) as chosen:
        chosen.replace(_chosen_keys(connection, reader, candidates, per_tenant))
        for keys in chosen.pages():
            found = reader.read(connection, statement, key_arrays(keys))
            for position, tenant, text, stored in found:
                vector = vector_read(stored)
                if vector.shape == (target.dimensions,) and np.isfinite(vector).all():
                    key = keys[position - 1]
                    yield HealthyRow(key=key, tenant=tenant, text=as_read(text), vector=vector)


def _chosen_keys(
    connection: Connection, reader: RowReader, candidates: sql.Composed, per_tenant: int
) -> Iterator[list[Key]]:
    """The keys of each tenant's chosen candidates, in pages of one transaction."""
    page: list[Key] = []
    with (
        reader.transaction(connection, planner=ALL_ROWS),
        # A cursor of the server: only what is fetched is in memory.
        connection.cursor(name="integrity_candidates") as cursor,
    ):
        cursor.itersize = PAGE_ROWS
        cursor.execute(candidates)
        for _, rows in groupby(cursor, key=itemgetter(len(reader.target.key))):
            of_tenant = [
                Candidate(key=tuple(key), traits=tuple(traits), length=length)
                for *key, _, traits, length in rows
            ]
            page += [candidate.key for candidate in telling(of_tenant, per_tenant)]
            if len(page) >= PAGE_ROWS:
                yield page
                page = []
    if page:
        yield page
