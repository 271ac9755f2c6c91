"""The row checks: one SQL predicate each, true of a failing row.

The same predicate is counted by the scan, selected by the repair and counted again as proof.
To add a row check, add a `RowCheck` to `BUILT_IN`; nothing else needs to know of it.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from psycopg import sql

from checks.database.vector_types import VARIABLE_HEADER
from checks.row_checks import uniqueness
from checks.row_checks.row_check import AppliedCheck, Remedy, RowCheck, Severity
from checks.row_checks.row_expressions import declared_model_of
from checks.row_checks.row_relation import columns_of, expressions_of
from checks.targets.stores import MAY_REPEAT

if TYPE_CHECKING:
    from collections.abc import Callable

    from checks.row_checks.row_relation import RowWords
    from checks.settings.integrity_toml import Table
    from checks.targets.stores import ProvenanceColumn
    from checks.targets.target import Target

__all__ = ["BUILT_IN", "AppliedCheck", "Remedy", "RowCheck", "Severity", "applied_checks"]

CHUNK_ID_SINCE = 170000
"""pg_column_toast_chunk_id() came with PostgreSQL 17."""


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


def _no_meaning(target: Target, row: RowWords) -> sql.Composable:
    return target.embedding_type.no_meaning(
        row.embedding, dimensions=target.dimensions, schema=target.server.vector_schema
    )


def _stale(_: Target, row: RowWords) -> sql.Composable:
    """Whether a row's text changed after it was embedded, by each word that is declared.

    A NULL embedded_at or content_hash says nothing of the text, and so fails, as does a store's
    NULL text; a NULL updated_at says that it was never edited.
    """
    return sql.SQL("{embedding} IS NOT NULL AND {embeddable} AND ({signs})").format(
        embedding=row.embedding,
        embeddable=row.embeddable,
        signs=sql.SQL(" OR ").join(_signs_of_edits(row)),
    )


def _signs_of_edits(row: RowWords) -> list[sql.Composable]:
    signs: list[sql.Composable] = []
    if row.embedded_at is not None and row.updated_at is not None:
        signs.append(
            sql.SQL("({embedded_at} IS NULL OR {embedded_at} < {updated_at})").format(
                embedded_at=row.embedded_at, updated_at=row.updated_at
            )
        )
    if row.content_hash is not None:
        signs.append(
            sql.SQL("{} IS DISTINCT FROM pg_catalog.md5({})").format(row.content_hash, row.text)
        )
    if row.embedded_text is not None:
        # Byte for byte, as the md5 of it would tell.
        signs.append(
            sql.SQL('{} COLLATE "C" IS DISTINCT FROM {} COLLATE "C"').format(
                row.embedded_text, row.text
            )
        )
    return signs


def _tells_edits(declared: Table) -> bool:
    dated = declared.updated_at is not None and _declares(declared, "embedded_at")
    kept = declared.store is not None and declared.store.text is not None
    return dated or kept or _declares(declared, "content_hash")


def _declares(declared: Table, column: ProvenanceColumn) -> bool:
    """Whether a table, or the store of its embeddings, has such a column."""
    return any(getattr(place, column, None) for place in (declared, declared.store))


def _other_model(target: Target, row: RowWords) -> sql.Composable:
    return sql.SQL("{} IS NOT NULL AND {} IS DISTINCT FROM {}").format(
        row.embedding, row.model, declared_model_of(target, row.tenant)
    )


def _orphaned(_: Target, row: RowWords) -> sql.Composable:
    if row.orphaned is None:
        raise LookupError("orphans applies only where a source is declared")
    return row.orphaned


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
    RowCheck(
        name="degenerate",
        says="have a vector without meaning: only zeros, not a number, or padded with zeros",
        remedy="re-embed",
        predicate=_no_meaning,
    ),
    RowCheck(
        name="freshness",
        says="have a vector of an earlier version of their text",
        remedy="re-embed",
        predicate=_stale,
        applies=_tells_edits,
        meaningful=lambda target: bool(_signs_of_edits(columns_of(target))),
    ),
    RowCheck(
        name="provenance",
        says="have a vector that is not tagged with the declared model",
        remedy="re-embed",
        predicate=_other_model,
        applies=lambda declared: _declares(declared, "model_column"),
    ),
    RowCheck(
        name=uniqueness.NAME,
        says="have a vector that stands under a different text as well",
        remedy="re-embed",
        predicate=uniqueness.holds_shared_vector,
        members=uniqueness.shared_vectors,
        meaningful=lambda target: target.text_is_known,
    ),
    RowCheck(
        name="orphans",
        says="name a source row that is gone, or none",
        remedy="report",
        predicate=_orphaned,
        applies=lambda declared: declared.source is not None,
    ),
)


def _custom(name: str) -> Callable[[Target, RowWords], sql.Composable]:
    return lambda _, row: row.custom[name]


def applied_checks(target: Target) -> tuple[AppliedCheck, ...]:
    """The row checks that apply to a target and are enabled, the user's own ones last."""
    built_in = [
        _applied(target, check)
        for check in BUILT_IN
        if check.applies(target.declared) and check.meaningful(target)
    ]
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
        says=f"{check.says} (only reported: {target.store.name} {MAY_REPEAT})"
        if target.store is not None and target.repeats and check.remedy == "re-embed"
        else check.says,
        remedy="report" if target.repeats else check.remedy,
        severity=configured.severity,
        min=Decimal(1) if configured.min is None else configured.min,
        predicate=nothing if proof else check.predicate(target, columns_of(target)),
        shown=nothing if proof else check.predicate(target, expressions_of(target)),
        proof=proof,
        members=None
        if proof or check.members is None
        else check.members(target, columns_of(target)),
    )
