"""Advises the partial index by which a scan would read failing rows alone.

Asks the planner and the catalog; reads no row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from checks.targets.indexes.missing_rows import create_index_statements, uses_partial_index

if TYPE_CHECKING:
    from collections.abc import Sequence

    from psycopg import sql

    from checks.database.connection import Connection
    from checks.expectations.measurements import Measurement
    from checks.row_checks.row_check import AppliedCheck
    from checks.scanning.part import Part
    from checks.targets.target import Target

MANY_ROWS = 1_000_000
FEW = 1_000
"""An index pays where a table has so many rows, and at most one in so many lacks its embedding."""


def index_advice(
    connection: Connection,
    target: Target,
    checks: Sequence[AppliedCheck],
    measurements: Sequence[Measurement],
    part: Part,
    statement: sql.Composed,
) -> tuple[str, ...]:
    """The CREATE INDEX that the statement of a scan lacks, or that would pay; () where none does.

    Raises psycopg's errors.
    """
    if not target.facts.writable_kind or target.store is not None:
        return ()
    if part.failing_only:
        served = uses_partial_index(connection, statement)
        return () if served else create_index_statements(connection, target)
    rows = sum(one.rows for one in measurements)
    # Where other checks read every row, the index would spare nothing.
    if rows < MANY_ROWS or not all(check.of_missing or check.proof for check in checks):
        return ()
    failing = sum(sum(one.failing.values()) + one.not_embeddable for one in measurements)
    return create_index_statements(connection, target) if failing * FEW <= rows else ()
