"""Builds the statement of a write: locks the rows that it can have, and updates them under guard.

Builds SQL and its parameters; runs nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from psycopg import sql

from checks.database.expressions import beside_parameters, unnested
from checks.row_checks.row_expressions import (
    declared_model_of,
    scope_of,
    tenant_of,
    text_hash_of,
    text_of,
    updated_at_of,
)
from checks.targets.provenance import hash_to_store, kept_text, time_as_stored
from remediation.selection.given_keys import key_is, positions, texts_given, type_of
from remediation.writing.stored_form import stored_forms

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from checks.targets.target import Target
    from remediation.selection.batching import FailingRow


FIRED_WITHIN = timedelta(milliseconds=100)
"""Of `embedded_at` beyond the write, where a trigger may set `updated_at` by the clock after that.
Whoever edits a text so soon after us is found by the last look at what was written, which is later.
"""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class NewVector:
    """A row and the vector its text was given: float32, shape (dimensions,)."""

    row: FailingRow
    vector: NDArray[np.float32]
    stored_as: str | None = None
    """The md5 of what the vector will be stored as; None as long as it is not known."""
    binary: bytes | None = None
    """The binary form of pgvector's `vector`, where the column is of that type."""

    @property
    def deletes(self) -> bool:
        """Whether the row goes: a repair deletes none."""
        return False


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class VectorArray:
    """Vectors as they travel: once, in binary. The connection knows how to dump it."""

    elements: Sequence[bytes]


def new_values(target: Target, vectors: Sequence[NewVector]) -> Any:
    """The parameter `new`: vectors in pgvector's binary form, or the literals of arrays."""
    if target.embedding_type.from_extension:
        missing = stored_forms("vector", [new.vector for new in vectors if new.binary is None])
        binary = iter(missing)
        return VectorArray(
            elements=[next(binary) if new.binary is None else new.binary for new in vectors]
        )
    return ["{" + ",".join(map(str, new.vector.tolist())) + "}" for new in vectors]


IS_LOCKED = sql.SQL(
    "integrity_row.integrity_position IN (SELECT integrity_position FROM integrity_locked)"
)
"""That the row is one of those which `compile_write` has locked."""


def compile_write(lock: sql.Composed, update: sql.Composed) -> sql.Composed:
    """Lock those of the keyed rows that no other session holds, and update these.

    Parameters as of `update`. Returns of each locked row: position, whether it was written, and md5
    of the stored vector. A row that changed since the statement began is locked and judged as it is
    by then: a guard of the UPDATE is evaluated anew on the newest version of its row.
    """
    return sql.SQL(
        """
WITH integrity_locked AS MATERIALIZED ({lock}),
integrity_written (integrity_position, stored) AS ({update})
SELECT integrity_position, integrity_written.integrity_position IS NOT NULL, stored
FROM integrity_locked LEFT JOIN integrity_written USING (integrity_position)
"""
    ).format(lock=lock, update=update)


def compile_lock(target: Target) -> sql.Composed:
    """Lock those of the keyed rows that no other session holds, as the UPDATE itself would.

    Parameters: keys_1 … keys_n. Returns positions of the locked rows among the keys.
    """
    return sql.SQL(
        """
SELECT integrity_position
FROM {table}
JOIN {keys} WITH ORDINALITY AS integrity_row ({key_names}, integrity_position)
  ON {same_key}
FOR NO KEY UPDATE OF {own} SKIP LOCKED
"""
    ).format(
        table=beside_parameters(target.identifier),
        own=beside_parameters(sql.Identifier(target.facts.name)),
        keys=unnested(key_parameters(target)),
        key_names=key_names(target),
        same_key=_same_key(target),
    )


def compile_update(target: Target) -> sql.Composed:
    """UPDATE by key, guarded by scope, tenant, text, stored vector and what stands beside it.

    The text's guard is no bare equality, by which a join would hash the texts of a whole table.
    Model, time and hash are written with the vector, where they are declared. Parameters:
    keys_1 … keys_n, tenants, texts, vectors (md5 of each, NULL for no vector), new, and was_1 …
    was_n of what stood beside the vector. Returns position and md5 of the stored vector for each
    row written.
    """
    own = sql.Identifier(target.facts.name)
    column = sql.Identifier(target.embedding.name)
    stored = target.embedding_type.bytes(
        sql.SQL("{}.{}").format(own, column), target.server.vector_schema
    )
    return sql.SQL(
        """
UPDATE {table}
SET {assignments}
FROM {read}
WHERE {same_key}
  AND ({where}) IS TRUE
  AND {tenant} IS NOT DISTINCT FROM integrity_tenant
  AND (md5(coalesce({text}, '')) = integrity_text) IS TRUE
  AND md5({stored}) IS NOT DISTINCT FROM integrity_vector{unchanged}
  AND {locked}
RETURNING integrity_position, md5({stored})
"""
    ).format(
        locked=IS_LOCKED,
        table=beside_parameters(target.identifier),
        assignments=sql.SQL(",\n    ").join(
            sql.SQL("{} = {}").format(beside_parameters(sql.Identifier(name)), value)
            for name, value in {
                target.embedding.name: cast_new(target),
                **_provenance_of_update(target),
            }.items()
        ),
        read=read_parameters(target),
        same_key=_same_key(target),
        where=beside_parameters(scope_of(target)),
        tenant=beside_parameters(tenant_of(target)),
        text=beside_parameters(text_of(target)),
        stored=beside_parameters(stored),
        unchanged=beside_unchanged(target, own),
    )


def read_parameters(target: Target) -> sql.Composed:
    """What was read of the rows, as `integrity_row`, without what is written: see `cast_new`."""
    was = [f"was_{i}" for i, _ in enumerate(target.written_beside, start=1)]
    return sql.SQL(
        """{columns}
     WITH ORDINALITY AS integrity_row
     ({key_names}, integrity_tenant, integrity_text, integrity_vector{was_names},
      integrity_position)"""
    ).format(
        columns=unnested(
            [
                *key_parameters(target),
                *(texts_given(name) for name in ("tenants", "texts", "vectors")),
                *(texts_given(name) for name in was),
            ]
        ),
        key_names=key_names(target),
        was_names=sql.SQL("").join(
            sql.SQL(", {}").format(sql.Identifier(f"integrity_{name}")) for name in was
        ),
    )


def beside_unchanged(target: Target, relation: sql.Identifier) -> sql.Composed:
    """That what stands beside a vector is what was read, and so what the journal keeps of it."""
    return sql.SQL("").join(
        sql.SQL("\n  AND {} IS NOT DISTINCT FROM integrity_row.{}").format(
            beside_parameters(
                kept_text(sql.SQL("{}.{}").format(relation, sql.Identifier(held.column.name)))
            ),
            sql.Identifier(f"integrity_was_{i}"),
        )
        for i, held in enumerate(target.written_beside, start=1)
    )


def provenance_values(
    target: Target,
    *,
    tenant: sql.Composable,
    text_md5: sql.Composable,
    text_hash: sql.Composable | None,
    updated_at: sql.Composable | None,
) -> dict[str, sql.Composable]:
    """What a write of a vector says of it, by column; of the declared ones, those that can be set.

    `tenant` is the one whose key the text was sent with, `text_md5` that of the text as it was read
    to be embedded; `text_hash` is of what it is at the write, which that md5 guards. The time is
    not before `updated_at`, whatever the clocks and the column's precision: such a row would be
    stale again.
    """
    values: dict[str, sql.Composable] = {}
    if (held := target.provenance_column("model_column")) is not None:
        model = declared_model_of(target, tenant)
        values[held.column.name] = sql.SQL("{}::{}").format(model, type_of(held.column.full_type))
    if (held := target.provenance_column("embedded_at")) is not None:
        at: sql.Composable = sql.SQL("pg_catalog.now()")
        if updated_at is not None:
            if dated_ahead(target):
                fired = sql.SQL("pg_catalog.clock_timestamp() + {}::interval")
                at = fired.format(sql.Literal(FIRED_WITHIN))
            at = sql.SQL("greatest({}, {})").format(at, updated_at)
        values[held.column.name] = time_as_stored(held.column, at)
    # A generated hash follows the text by itself, and cannot be set.
    held = target.provenance_column("content_hash")
    if held is not None and not held.column.generated:
        of_text = text_md5 if target.declared.hash == "md5" or text_hash is None else text_hash
        values[held.column.name] = hash_to_store(held.column, target.declared.hash, of_text)
    return values


def dated_ahead(target: Target) -> bool:
    """Whether a write says that it embeds `FIRED_WITHIN` later than it does."""
    dated = target.declared.updated_at is not None
    return dated and target.holder.triggered and target.provenance_column("embedded_at") is not None


def _provenance_of_update(target: Target) -> dict[str, sql.Composable]:
    values = provenance_values(
        target,
        tenant=sql.SQL("integrity_tenant"),
        text_md5=sql.SQL("integrity_text"),
        text_hash=text_hash_of(target),
        updated_at=updated_at_of(target),
    )
    return {name: beside_parameters(value) for name, value in values.items()}


def cast_new(target: Target) -> sql.Composable:
    """The row's element of the parameter `new`, in the type of the embedding column.

    As a column of `integrity_row` each vector would be copied twice, into the rows of `unnest` and
    into those of the join.
    """
    schema = target.server.vector_schema
    if target.embedding_type.from_extension:
        vector = sql.Identifier(schema, "vector") if schema else sql.Identifier("vector")
    else:
        vector = sql.Identifier("pg_catalog", "text")
    element = sql.SQL("(%(new)b::{}[])[integrity_row.integrity_position]").format(vector)
    return target.embedding_type.cast_from_vector(element, schema)


def key_parameters(target: Target) -> list[sql.Composed]:
    """The parameters keys_1 … keys_n with their type."""
    return [texts_given(f"keys_{i}") for i in positions(target)]


def key_names(target: Target) -> sql.Composable:
    """What the key columns of `integrity_row` are called."""
    return sql.SQL(", ").join(sql.Identifier(f"integrity_key_{i}") for i in positions(target))


def _same_key(target: Target) -> sql.Composable:
    table = target.facts.name
    return key_is(
        target,
        [beside_parameters(sql.Identifier(table, key.name)) for key in target.key],
        [sql.Identifier(f"integrity_key_{i}") for i in positions(target)],
    )
