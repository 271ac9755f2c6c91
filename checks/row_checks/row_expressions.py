"""Builds SQL for what a declaration says about a row: tenant, text, times, tags.

Builds expressions only; runs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from psycopg import sql

from checks.database.expressions import embed_sql
from checks.database.undecodable import readable
from checks.database.vectors.health import LEAST_NORM, MOST_NORM, least_norm
from checks.database.vectors.types import VARIABLE_HEADER, padded_tail
from checks.targets.provenance import kept_text, stored_hash, wanted_hash
from checks.targets.store_rows import own_column, source_is_gone, store_column

if TYPE_CHECKING:
    from checks.targets.stores import PlacedColumn
    from checks.targets.target import Target

CHUNK_ID_SINCE = 170000
"""pg_column_toast_chunk_id() came with PostgreSQL 17."""


def evaluated(target: Target, source: sql.Composable) -> sql.Composable:
    """SQL of the settings, evaluated for the rows alone that the target is restricted to.

    In CASE, as the order in which conditions of a WHERE are evaluated is the planner's to choose.
    """
    if target.evaluated is None:
        return source
    return sql.SQL("(CASE WHEN {} THEN {} END)").format(target.evaluated, source)


def tenant_of(target: Target) -> sql.Composable:
    """SQL of a row's tenant as text: the declared expression, the name's part, or NULL for none."""
    if target.tenant_part is not None:
        return sql.SQL("{}::text").format(sql.Literal(target.tenant_part))
    if target.declared.tenant is None:
        return sql.SQL("NULL::text")
    declared = evaluated(target, embed_sql(target.declared.tenant))
    return readable(sql.SQL("{}::text").format(declared), target.server)


def text_of(target: Target) -> sql.Composable:
    """SQL of the text that a row's embedding stands for."""
    return sql.SQL("{}::text").format(evaluated(target, embed_sql(target.declared.text)))


def time_of(target: Target, source: str | None) -> sql.Composable:
    """SQL of a declared time; NULL for none."""
    if source is None:
        return sql.SQL("NULL::timestamptz")
    value = sql.SQL("{}::timestamptz").format(embed_sql(source))
    return evaluated(target, value)


def updated_at_of(target: Target) -> sql.Composable | None:
    """SQL of the time of a row's last edit; None where it is not declared, as in those below."""
    declared = target.declared.updated_at
    return None if declared is None else time_of(target, declared)


def embedded_at_of(target: Target) -> sql.Composable | None:
    """SQL of the time at which a row's text was embedded."""
    held = target.provenance_column("embedded_at")
    return None if held is None else sql.SQL("{}::timestamptz").format(_held(target, held))


def content_hash_of(target: Target) -> sql.Composable | None:
    """SQL of the hash of the text that was embedded: digits, or as an SQL expression has it."""
    held = target.provenance_column("content_hash")
    if held is None:
        return None
    return stored_hash(held.column, target.declared.hash, _held(target, held))


def text_hash_of(target: Target, text: sql.Composable | None = None) -> sql.Composable | None:
    """SQL over the table's own row of what `content_hash_of` is where the text is unchanged."""
    held = target.provenance_column("content_hash")
    if held is None:
        return None
    own = text_of(target) if text is None else text
    wanted = wanted_hash(held.column, target.declared.hash, own, target.server)
    return evaluated(target, wanted)


def model_of(target: Target) -> sql.Composable | None:
    """SQL of the name of the model that a row's text was embedded with."""
    held = target.provenance_column("model_column")
    return None if held is None else sql.SQL("{}::text").format(_held(target, held))


def declared_model_of(target: Target, tenant: sql.Composable) -> sql.Composable:
    """SQL of the name of the model that a tenant's rows ought to be embedded with."""
    own = target.declared.tenant_models
    if not own:
        return sql.Literal(target.model)
    cases = sql.SQL(" ").join(
        sql.SQL("WHEN {} THEN {}").format(sql.Literal(name), sql.Literal(model))
        for name, model in own.items()
    )
    return sql.SQL("CASE {} {} ELSE {} END").format(tenant, cases, sql.Literal(target.model))


def beside_vector_of(target: Target) -> sql.Composable:
    """SQL of the values in the columns that a write sets with a vector, as an array of texts."""
    kept = (kept_text(_held(target, held)) for held in target.written_beside)
    return sql.SQL("ARRAY[{}]::text[]").format(sql.SQL(", ").join(kept))


def embedded_text_of(target: Target) -> sql.Composable | None:
    """SQL of the text that was embedded, as the store keeps it; None where it keeps pieces."""
    if target.store is None or target.store.declared.text is None or target.repeats:
        return None
    return store_column("integrity_text")


def norm_of(target: Target, embedding: sql.Composable) -> sql.Composable | None:
    """SQL of the norm of a vector's last eighth, or of the whole one where it has no such tail.

    Zero for a padded vector and for one that pgvector cannot compute with, and the same for the
    same vector. None where the type or the server cannot tell it so, and of a vector that is padded
    by design.
    """
    kind, server = target.embedding_type, target.server
    if kind.name not in ("vector", "halfvec") or not server.has_subvector or target.padded:
        return None
    schema = server.vector_schema
    if kind.name == "halfvec":
        # The norm of a whole one takes as long as fetching it, and none is too long.
        return sql.SQL(
            "(SELECT CASE WHEN norm < {least} AND {whole} < {least} THEN 0::float8 ELSE norm END"
            " FROM (SELECT {tail} AS norm OFFSET 0) AS l)"
        ).format(
            least=sql.SQL("{}::float8").format(sql.Literal(least_norm(kind.name))),
            whole=kind.norm(embedding, of_tail=None, dimensions=0, schema=schema),
            tail=_norm_of_tail(target, embedding),
        )
    # Each function would fetch the vector anew; the cast to its own type fetches it for all. The
    # product, which is the norm's square, takes a third of the norm's time, that adds up in float8.
    fetched = sql.SQL("v")
    return sql.SQL(
        "(SELECT CASE WHEN {square} NOT BETWEEN {least}::float8 AND {most}::float8"
        " THEN 0::float8 ELSE {tail} END"
        " FROM (SELECT {vector}({embedding}, -1, true) AS v OFFSET 0) AS l)"
    ).format(
        square=sql.SQL("{}(v, v)").format(kind.function("inner_product", schema)),
        least=sql.Literal(LEAST_NORM**2),
        most=sql.Literal(MOST_NORM**2),
        tail=_norm_of_tail(target, fetched),
        vector=kind.function(kind.name, schema),
        embedding=embedding,
    )


def _norm_of_tail(target: Target, embedding: sql.Composable) -> sql.Composable:
    kind, dimensions = target.embedding_type, target.dimensions
    schema, tail = target.server.vector_schema, padded_tail(dimensions)
    whole = kind.norm(embedding, of_tail=None, dimensions=dimensions, schema=schema)
    if not tail:
        return whole
    of_tail = kind.norm(embedding, of_tail=tail, dimensions=dimensions, schema=schema)
    if target.embedding.dimension == dimensions:
        return of_tail
    return sql.SQL("CASE WHEN {} = {} THEN {} ELSE {} END").format(
        kind.dimension(embedding, schema), sql.Literal(dimensions), of_tail, whole
    )


def other_dimension_of(
    target: Target, embedding: sql.Composable, *, for_people: bool = False
) -> sql.Composable:
    """SQL that is true of a vector of another dimension than the declared one.

    The vector is read only where its size does not show the dimension. A value stored out of line
    and uncompressed has 4 + element bytes * dimensions (measured: 6,148 bytes for vector(1536)),
    and its size is known without reading it.
    """
    kind = target.embedding_type
    differs = sql.SQL("{} <> {}").format(
        kind.dimension(embedding, target.server.vector_schema), sql.Literal(target.dimensions)
    )
    if kind.element_bytes is None or for_people or not size_tells_dimension(target):
        return differs
    return sql.SQL(
        """CASE
        WHEN pg_catalog.pg_column_toast_chunk_id({embedding}) IS NOT NULL
         AND pg_catalog.pg_column_compression({embedding}) IS NULL
        THEN pg_catalog.pg_column_size({embedding}) <> {size}
        ELSE {differs}
    END"""
    ).format(
        embedding=embedding,
        size=sql.Literal(VARIABLE_HEADER + kind.element_bytes * target.dimensions),
        differs=differs,
    )


def size_tells_dimension(target: Target) -> bool:
    """Whether vectors out of line need not be read: their size tells their dimension."""
    known = target.embedding_type.element_bytes is not None
    return known and target.server.version_number >= CHUNK_ID_SINCE


def orphaned_of(target: Target) -> sql.Composable | None:
    """SQL that is true of a row whose source row is gone, or that names none."""
    return None if target.source is None else source_is_gone(target, target.source)


def _held(target: Target, held: PlacedColumn) -> sql.Identifier:
    name = held.column.name
    if target.store is None:
        return sql.Identifier(name)
    return store_column(name) if held.in_store else own_column(name)


def scope_of(target: Target) -> sql.Composable:
    """The condition of the rows that ought to be whole."""
    where = target.declared.where
    if target.evaluated is None:
        return sql.SQL("true") if where is None else embed_sql(where)
    inside = sql.SQL("true") if where is None else embed_sql(where)
    return sql.SQL("(CASE WHEN {} THEN {} ELSE false END)").format(target.evaluated, inside)


def changed_of(
    target: Target,
    *,
    created_at: sql.Composable | None,
    updated_at: sql.Composable | None,
    embedded_at: sql.Composable | None,
) -> sql.Composable:
    """SQL that is true of a row that changed since the target's `changed_since`; it must have one.

    A row of which nothing tells when it was made or embedded counts as changed. What a repair
    writes makes a row changed and none unchanged, so that it is selected and proven by this too.
    """
    times = [time for time in (created_at, updated_at, embedded_at) if time is not None]
    moment = sql.Literal(target.changed_since)
    conditions = [sql.SQL("{} >= {}").format(time, moment) for time in times]
    unknown = times if embedded_at is None else [embedded_at]
    conditions.append(
        sql.SQL("({})").format(
            sql.SQL(" AND ").join(sql.SQL("{} IS NULL").format(time) for time in unknown)
        )
    )
    return sql.SQL("({})").format(sql.SQL(" OR ").join(conditions))


def changed_by_columns(target: Target) -> sql.Composable:
    """The same over the user's own table, for a statement that people read."""
    created_at = target.declared.created_at
    return changed_of(
        target,
        created_at=None if created_at is None else time_of(target, created_at),
        updated_at=updated_at_of(target),
        embedded_at=embedded_at_of(target),
    )


def embeddable_of(text: sql.Composable) -> sql.Composable:
    """SQL that is true of a text that is not blank."""
    # Collation "C", so that the same characters are blank on every server: ASCII's white space.
    return sql.SQL("({} COLLATE \"C\" ~ '[^[:space:]]') IS TRUE").format(text)


def pending_of(target: Target, created_at: sql.Composable) -> sql.Composable:
    """SQL that is true of a row younger than its grace."""
    grace = target.declared.grace
    if grace is None:
        return sql.SQL("false")
    return sql.SQL("({} > now() - {}::interval) IS TRUE").format(
        created_at, sql.Literal(f"{grace.total_seconds():g} seconds")
    )
