"""Estimates how many rows a table and its tenants have, and asks which tenants are there at all.

Reads statistics, and a row for each tenant that is asked for; counts nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from psycopg import sql

from checks.expectations.measurements import Unlisted
from checks.row_checks.row_relation import rows_of
from checks.targets.indexes.missing_rows import plain_column

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from checks.database.connection import Connection
    from checks.targets.target import Target

_STATISTICS = """
SELECT s.n_distinct, s.null_frac, s.most_common_vals::text::text[], s.most_common_freqs
FROM pg_catalog.pg_stats AS s
WHERE s.schemaname = %(schema)s AND s.tablename = %(table)s AND s.attname = %(column)s
ORDER BY s.inherited DESC
LIMIT 1
"""
# A partitioned table's own statistics are the inherited ones.


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimates:
    """What the server's statistics say of a target's rows, as of the last ANALYZE."""

    rows: int
    """Of all tenants, `where` considered."""
    shares: Mapping[str | None, float] = field(default_factory=dict)
    """The shares of common tenants, and of the rows without one."""
    share_of_others: float | None = None
    """The share that each other tenant has on average; None where nothing is known."""

    def rows_of(self, tenant: str | None) -> int | None:
        """About how many rows a tenant has; None where the statistics do not tell."""
        share = self.shares.get(tenant, self.share_of_others)
        return None if share is None else round(share * self.rows)


def estimates_of(connection: Connection, target: Target) -> Estimates:
    """The estimates of a target, from two statements. Raises psycopg's errors."""
    plan = connection.execute(
        sql.SQL("EXPLAIN (FORMAT JSON) SELECT FROM {} AS r").format(rows_of(target))
    ).fetchone()
    rows = int(plan[0][0]["Plan"]["Plan Rows"]) if plan else 0
    if target.declared.tenant is None:
        only = target.tenant_part
        return Estimates(rows=rows, shares={only: 1.0})
    column = plain_column(target.declared.tenant, target.facts.columns)
    found = connection.execute(
        _STATISTICS,
        {"schema": target.facts.schema, "table": target.facts.name, "column": column},
    ).fetchone()
    if found is None:
        return Estimates(rows=rows)
    distinct, without, values, frequencies = found
    common = dict(zip(values or (), frequencies or (), strict=True))
    # Below zero it is a share of the rows: pg_stats, "n_distinct".
    others = (distinct if distinct >= 0 else -distinct * rows) - len(common)
    rest = max(0.0, 1 - without - sum(common.values()))
    return Estimates(
        rows=rows,
        shares={**common, None: without},
        share_of_others=rest / others if others >= 1 else None,
    )


def unlisted_of(
    connection: Connection,
    target: Target,
    estimates: Estimates | None,
    *,
    tenants: Sequence[str] | None,
    seen: bool,
) -> Unlisted:
    """What is known of rows that were not read, where some were `seen`. Raises psycopg's errors."""
    target = replace(target, changed_since=None)
    there = _tenants_there(connection, target, {*target.expected_tenants, *(tenants or ())})
    rows = None
    if estimates is not None:
        rows = estimates.rows
        if tenants is not None:
            rows = sum(estimates.rows_of(tenant) or 0 for tenant in there)
    return Unlisted(
        rows=rows, any=seen or bool(there) or _any_row_there(connection, target), tenants=there
    )


def _tenants_there(
    connection: Connection, target: Target, tenants: Collection[str]
) -> frozenset[str]:
    """Those of the tenants that have a row, looked up one by one."""
    if not tenants:
        return frozenset()
    statement = sql.SQL(
        "SELECT name FROM pg_catalog.unnest({}::text[]) AS asked (name)"
        " WHERE EXISTS (SELECT FROM {} AS r WHERE r.tenant = asked.name)"
    ).format(sql.Literal(sorted(tenants)), rows_of(target))
    return frozenset(row[0] for row in connection.execute(statement))


def _any_row_there(connection: Connection, target: Target) -> bool:
    """Whether the target has a row at all."""
    statement = sql.SQL("SELECT EXISTS (SELECT FROM {} AS r)").format(rows_of(target))
    return connection.execute(statement).fetchone() == (True,)
