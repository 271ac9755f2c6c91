"""The row checks: one SQL predicate each, true of a failing row.

The same predicate is counted by the scan, selected by the repair and counted again as proof.
To add a row check, add a `RowCheck` to `BUILT_IN`; nothing else needs to know of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Literal, TypeAlias

from psycopg import sql

from checks.rows import columns_of, expressions_of
from checks.vectors import VARIABLE_HEADER

if TYPE_CHECKING:
    from collections.abc import Callable

    from checks.rows import RowWords
    from checks.targets import Target

Remedy: TypeAlias = Literal["re-embed", "report"]
Severity: TypeAlias = Literal["error", "warning"]

CHUNK_ID_SINCE = 170000
"""pg_column_toast_chunk_id() came with PostgreSQL 17."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RowCheck:
    """A named rule about single rows, before it meets a table."""

    name: str
    says: str
    """What is wrong with failing rows, completing "12 of 90 rows …"."""
    remedy: Remedy
    predicate: Callable[[Target, RowWords], sql.Composable]
    """In the words given; true of a failing row, false or NULL otherwise."""
    applies: Callable[[Target], bool] = lambda _: True
    proven: Callable[[Target], str | None] = lambda _: None
    """How the catalog alone proves that no row can fail, in words; None where it does not."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AppliedCheck:
    """A row check on one target, with its threshold and severity from the settings."""

    name: str
    says: str
    remedy: Remedy
    severity: Severity
    min: Decimal
    predicate: sql.Composable
    """Over the columns of `checks.rows.rows_of`; counted, selected and counted again."""
    shown: sql.Composable
    """The same predicate over the user's own columns, for a person to run."""
    proof: str | None


def _no_embedding(_: Target, row: RowWords) -> sql.Composable:
    missing = sql.SQL("{} IS NULL").format(row.embedding)
    return sql.SQL(" AND ").join([missing, row.embeddable, *row.past_grace])


def _other_dimension(target: Target, row: RowWords) -> sql.Composable:
    """The dimension differs from the declared one; read from the vector only where size is silent.

    The size of a value stored out of line and not compressed is 4 + element bytes * dimensions
    (measured: 6,148 bytes for vector(1536)), and telling it does not read the value.
    """
    kind = target.embedding_type
    present = sql.SQL("{} IS NOT NULL").format(row.embedding)
    if target.embedding.dimension is not None:
        # The type admits one dimension; `schema` has said that it is not the declared one.
        return present
    differs = sql.SQL("{} <> {}").format(
        kind.dimension(row.embedding, target.server.vector_schema), sql.Literal(target.dimensions)
    )
    old = target.server.version_number < CHUNK_ID_SINCE
    if kind.element_bytes is None or old or row.for_people:
        return sql.SQL("{} AND {}").format(present, differs)
    return sql.SQL(
        """{present} AND CASE
        WHEN pg_catalog.pg_column_toast_chunk_id({embedding}) IS NOT NULL
         AND pg_catalog.pg_column_compression({embedding}) IS NULL
        THEN pg_catalog.pg_column_size({embedding}) <> {size}
        ELSE {differs}
    END"""
    ).format(
        present=present,
        embedding=row.embedding,
        size=sql.Literal(VARIABLE_HEADER + kind.element_bytes * target.dimensions),
        differs=differs,
    )


def _dimension_is_declared(target: Target) -> str | None:
    column = target.embedding
    if column.dimension == target.dimensions:
        return f"the column is {column.type}({column.dimension}), which holds no other dimension"
    return None


BUILT_IN: tuple[RowCheck, ...] = (
    RowCheck(
        name="completeness",
        says="have text but no embedding",
        remedy="re-embed",
        predicate=_no_embedding,
    ),
    RowCheck(
        name="dimensionality",
        says="have a vector of another dimension than declared",
        remedy="re-embed",
        predicate=_other_dimension,
        proven=_dimension_is_declared,
    ),
)


def _custom(name: str) -> Callable[[Target, RowWords], sql.Composable]:
    return lambda _, row: row.custom[name]


def applied_checks(target: Target) -> tuple[AppliedCheck, ...]:
    """The row checks that apply to a target and are enabled, the user's own ones last."""
    built_in = [_applied(target, check) for check in BUILT_IN if check.applies(target)]
    custom = [
        _applied(
            target,
            RowCheck(
                name=own.name,
                says=f"fail {own.name} ({own.failing_when})",
                remedy=own.remedy,
                predicate=_custom(own.name),
            ),
        )
        for own in target.declared.custom
    ]
    return tuple(check for check in (*built_in, *custom) if check is not None)


def _applied(target: Target, check: RowCheck) -> AppliedCheck | None:
    """The check with its settings; None where they switch it off."""
    configured = target.declared.check_settings(check.name)
    if not configured.enabled:
        return None
    proof = check.proven(target)
    nothing = sql.SQL("false")
    return AppliedCheck(
        name=check.name,
        says=check.says,
        remedy=check.remedy,
        severity=configured.severity,
        min=Decimal(1) if configured.min is None else configured.min,
        predicate=nothing if proof else check.predicate(target, columns_of(target)),
        shown=nothing if proof else check.predicate(target, expressions_of(target)),
        proof=proof,
    )
