"""Reads what is to be repaired: failing rows by keyset pages, and rows again by their keys.

Reads only, each page in a short transaction of its own; none is open while its rows are worked on.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from psycopg import sql

from checks.connection import read_only
from checks.expressions import beside_parameters
from checks.rows import rows_of
from checks.scan import among
from checks.vectors import from_vector_bytes, vector_bytes
from remediation.batching import FailingRow

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from checks.connection import Connection, ConnectionTarget
    from checks.rules import AppliedCheck
    from checks.targets import Target

FIRST_PAGE = 100
LARGEST_PAGE = 2_000
PAGE_BYTES = 16 * 1024 * 1024
"""Text and vectors of a page in memory; the next page's row count follows the last one's size."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CurrentRow:
    """What a row looks like now, to be held against what was read of it before."""

    tenant: str | None
    text_hash: str
    vector_hash: str | None
    failing: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class RowReader:
    """Reads one target's rows in the words of its `re-embed` checks."""

    target: Target
    checks: tuple[AppliedCheck, ...]
    place: ConnectionTarget
    timeout: timedelta

    def failing_rows(
        self, connection: Connection, *, tenants: Sequence[str] | None
    ) -> Iterator[FailingRow]:
        """Every row that fails a check, once, with all its reasons, in key order.

        A row edited while we read may be seen as it was or as it is; its write is guarded by what
        was read.
        """
        after: tuple[str, ...] | None = None
        page = FIRST_PAGE
        while True:
            statement = self._page(page, tenants=tenants, first=after is None)
            parameters = {f"after_{i}": value for i, value in enumerate(after or (), start=1)}
            rows = [self._row(row) for row in self._read(connection, statement, parameters)]
            yield from rows
            if len(rows) < page:
                return
            after = rows[-1].key
            size = sum(len(row.text) + len(row.vector or b"") for row in rows)
            page = max(1, min(LARGEST_PAGE, 2 * page, PAGE_BYTES * len(rows) // max(size, 1)))

    def rows_by_key(
        self,
        connection: Connection,
        keys: Sequence[tuple[str, ...]],
        written: Sequence[str | None],
    ) -> list[FailingRow]:
        """Those of the keyed rows that still need us: they fail a check, or hold our old vector.

        `written` has the md5 of the vector that we wrote to each row before its text was edited,
        or None.
        """
        statement = sql.SQL(
            """
SELECT {columns}
FROM {keys}
JOIN {rows} AS r ON {same}
WHERE {fails} OR md5({bytes}) = integrity_key.written
"""
        ).format(
            columns=beside_parameters(self._columns()),
            keys=self._keys(with_written=True),
            rows=beside_parameters(rows_of(self.target)),
            same=self._same_key(),
            fails=beside_parameters(self._fails()),
            bytes=beside_parameters(self._vector_bytes()),
        )
        parameters = {**key_arrays(keys), "written": list(written)}
        return [self._row(row) for row in self._read(connection, statement, parameters)]

    def read_back(
        self, connection: Connection, keys: Sequence[tuple[str, ...]]
    ) -> list[CurrentRow | None]:
        """The rows as they are now, aligned with the keys; None where one is gone from sight."""
        statement = sql.SQL(
            """
SELECT integrity_key.position, tenant, md5(coalesce(text, '')), md5({bytes}){checks}
FROM {keys}
JOIN {rows} AS r ON {same}
"""
        ).format(
            bytes=beside_parameters(self._vector_bytes()),
            checks=beside_parameters(self._check_columns()),
            keys=self._keys(with_written=False),
            rows=beside_parameters(rows_of(self.target)),
            same=self._same_key(),
        )
        current: list[CurrentRow | None] = [None] * len(keys)
        for row in self._read(connection, statement, key_arrays(keys)):
            position, tenant, text_hash, vector_hash, *failing = row
            current[position - 1] = CurrentRow(
                tenant=tenant,
                text_hash=text_hash,
                vector_hash=vector_hash,
                failing=self._failing(failing),
            )
        return current

    def healthy_rows(
        self, connection: Connection, *, tenants: Sequence[str | None], per_tenant: int
    ) -> Iterator[tuple[str | None, str, NDArray[np.float32]]]:
        """Up to `per_tenant` rows of each tenant that fail nothing: tenant, text, vector (float32).

        The window runs over keys alone, so that only the few chosen vectors are read.
        """
        keys = sql.SQL(", ").join(self._key_columns())
        statement = sql.SQL(
            """
SELECT r.tenant, r.text, {vector}
FROM {rows} AS r
JOIN (
    SELECT {keys}, row_number() OVER (PARTITION BY tenant) AS place
    FROM {rows} AS healthy
    WHERE embedding IS NOT NULL AND embeddable AND ({fails}) IS NOT TRUE AND {tenants}
) AS chosen USING ({keys})
WHERE chosen.place <= {limit}
"""
        ).format(
            vector=vector_bytes(sql.SQL("r.embedding"), self.target.server.vector_schema),
            rows=rows_of(self.target),
            keys=keys,
            fails=self._fails(),
            tenants=sql.SQL("({} OR tenant IS NULL AND {})").format(
                among([tenant for tenant in tenants if tenant is not None]),
                sql.Literal(None in tenants),
            ),
            limit=sql.Literal(per_tenant),
        )
        for tenant, text, stored in self._read(connection, statement, None):
            yield tenant, text, from_vector_bytes(stored)

    def _read(
        self,
        connection: Connection,
        statement: sql.Composed,
        parameters: dict[str, Any] | None,
    ) -> list[tuple[Any, ...]]:
        with read_only(
            connection,
            self.place,
            statement_timeout=self.timeout,
            row_security=self.target.facts.row_security,
        ):
            return connection.execute(statement, parameters).fetchall()

    def _page(self, rows: int, *, tenants: Sequence[str] | None, first: bool) -> sql.Composed:
        keys = sql.SQL(", ").join(self._key_columns())
        after = sql.SQL(", ").join(
            sql.SQL("{}::{}").format(sql.Placeholder(f"after_{i}"), type_of(column.full_type))
            for i, column in enumerate(self.target.key, start=1)
        )
        return sql.SQL(
            """
SELECT {columns}
FROM {rows} AS r
WHERE ({fails}) AND {tenants} AND {beyond}
ORDER BY {keys}
LIMIT {limit}
"""
        ).format(
            columns=beside_parameters(self._columns()),
            rows=beside_parameters(rows_of(self.target)),
            fails=beside_parameters(self._fails()),
            tenants=beside_parameters(among(tenants)),
            beyond=sql.SQL("true") if first else sql.SQL("({}) > ({})").format(keys, after),
            keys=keys,
            limit=sql.Literal(rows),
        )

    def _columns(self) -> sql.Composable:
        keys = [sql.SQL("{}::text").format(column) for column in self._key_columns()]
        return sql.SQL(
            "{keys}, tenant, CASE WHEN embeddable THEN text ELSE '' END,"
            " md5(coalesce(text, '')), {bytes}{checks}"
        ).format(
            keys=sql.SQL(", ").join(keys),
            bytes=self._vector_bytes(),
            checks=self._check_columns(),
        )

    def _row(self, row: tuple[Any, ...]) -> FailingRow:
        width = len(self.target.key)
        tenant, text, text_hash, vector, *failing = row[width:]
        return FailingRow(
            key=row[:width],
            tenant=tenant,
            text=text,
            text_hash=text_hash,
            vector=vector,
            vector_hash=None if vector is None else md5(vector),
            checks=self._failing(failing),
        )

    def _failing(self, flags: Sequence[bool]) -> tuple[str, ...]:
        return tuple(check.name for check, fails in zip(self.checks, flags, strict=True) if fails)

    def _key_columns(self) -> list[sql.Identifier]:
        return [sql.Identifier(f"key_{i}") for i in range(1, len(self.target.key) + 1)]

    def _fails(self) -> sql.Composable:
        return sql.SQL(" OR ").join(
            sql.SQL("({})").format(check.predicate) for check in self.checks
        )

    def _check_columns(self) -> sql.Composable:
        return sql.SQL("").join(
            sql.SQL(", ({}) IS TRUE").format(check.predicate) for check in self.checks
        )

    def _vector_bytes(self) -> sql.Composable:
        return self.target.embedding_type.bytes(
            sql.Identifier("embedding"), self.target.server.vector_schema
        )

    def _keys(self, *, with_written: bool) -> sql.Composable:
        """The keys of a statement's parameters as a relation, one row per key."""
        names = [sql.SQL("key_{}").format(sql.SQL(str(i))) for i in self._positions()]
        arrays: list[sql.Composable] = [
            sql.SQL("{}::text[]").format(sql.Placeholder(f"keys_{i}")) for i in self._positions()
        ]
        if with_written:
            names.append(sql.Composed([sql.SQL("written")]))
            arrays.append(sql.SQL("{}::text[]").format(sql.Placeholder("written")))
        return sql.SQL(
            "unnest({arrays}) WITH ORDINALITY AS integrity_key ({names}, position)"
        ).format(arrays=sql.SQL(", ").join(arrays), names=sql.SQL(", ").join(names))

    def _same_key(self) -> sql.Composable:
        return sql.SQL(" AND ").join(
            sql.SQL("r.{key} = integrity_key.{key}::{type}").format(
                key=sql.Identifier(f"key_{i}"), type=type_of(column.full_type)
            )
            for i, column in enumerate(self.target.key, start=1)
        )

    def _positions(self) -> range:
        return range(1, len(self.target.key) + 1)


def key_arrays(keys: Sequence[tuple[str, ...]]) -> dict[str, Any]:
    """The parameters keys_1 … keys_n: one array of texts per key column."""
    return {f"keys_{i}": list(values) for i, values in enumerate(zip(*keys, strict=True), start=1)}


def type_of(name: str) -> sql.SQL:
    """A type's name as the catalog's format_type() wrote it, which is quoted where it must be."""
    return sql.SQL(name.replace("%", "%%"))  # type: ignore[arg-type]


def md5(value: bytes) -> str:
    """The hash that SQL's md5() gives for the same bytes; a guard against change, not a secret."""
    return hashlib.md5(value, usedforsecurity=False).hexdigest()
