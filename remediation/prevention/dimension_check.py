"""Builds the CHECK that lets no vector of another dimension in, where the column's type does not.

Builds SQL; runs nothing.
"""

from __future__ import annotations

from psycopg import sql

from checks.settings.names import fitted_name
from checks.targets.target import KINDS, Target
from remediation.prevention.owned_objects import OwnedObject
from remediation.prevention.script import dollar_quoted

CONSTRAINT = "embedding_integrity_dimension"


def dimension_constraint(target: Target) -> OwnedObject:
    """The constraint, on the table that holds the embeddings."""
    name = (target.declared.store or target.declared).embedding
    return OwnedObject(
        kind="constraint",
        schema=target.holder.schema,
        table=target.holder.name,
        name=_name(target),
        says=f"{name} holds vectors of {target.dimensions} dimensions only",
    )


def needless(target: Target) -> str | None:
    """Why there is no CHECK to make, or None."""
    column, holder = target.embedding, target.holder
    if column.dimension is not None:
        return f"column {column.name!r} is {column.full_type}, which holds no other dimension"
    if target.store is not None and target.store.restricted:
        return "no CHECK on the dimension: the store's other rows may have another one"
    if not holder.writable_kind:
        kind = KINDS[holder.kind]
        return f"no CHECK on the dimension: a {kind} enforces none"
    return None


def add_constraint(target: Target) -> sql.Composed:
    """Add it unless it is there as declared: NOT VALID, so that no row is read under the lock."""
    constraint = dimension_constraint(target)
    statements = (
        constraint.drop,
        sql.SQL("ALTER TABLE {} ADD CONSTRAINT {} CHECK ({} = {}) NOT VALID").format(
            _holder(target),
            sql.Identifier(constraint.name),
            target.embedding_type.dimension(
                sql.Identifier(target.embedding.name), target.server.vector_schema
            ),
            sql.Literal(target.dimensions),
        ),
        constraint.comment,
    )
    return sql.SQL("DO {}").format(
        dollar_quoted(
            sql.SQL(
                "\nBEGIN\n    IF NOT ({there}) THEN\n        {make};\n    END IF;\nEND\n"
            ).format(there=constraint.as_it_should_be, make=sql.SQL(";\n        ").join(statements))
        )
    )


def validate_constraint(target: Target) -> sql.Composed:
    """Prove it of the rows that were there before; fails where one has another dimension."""
    return sql.SQL("ALTER TABLE {} VALIDATE CONSTRAINT {}").format(
        _holder(target), sql.Identifier(_name(target))
    )


def _name(target: Target) -> str:
    return fitted_name(CONSTRAINT, target.place)


def _holder(target: Target) -> sql.Identifier:
    return sql.Identifier(target.holder.schema, target.holder.name)
