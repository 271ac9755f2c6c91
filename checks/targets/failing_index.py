"""Names and builds the partial index on rows without an embedding, which costs as much as they do.

Builds statements for a person to run; runs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from psycopg import sql

from checks.settings.names import fitted_name

if TYPE_CHECKING:
    from checks.targets.target import Target

PREFIX = "embedding_integrity_missing_"


def failing_index_name(table: str) -> str:
    """What the index of a table, or of a partition, is called: always the same."""
    return fitted_name(PREFIX, table)


def failing_condition(target: Target) -> sql.Composed:
    """The part of the predicate of `completeness` that is immutable whatever the settings say.

    An index takes no other: concat_ws(), to name one, is only stable.
    """
    return sql.SQL("{} IS NULL").format(sql.Identifier(target.embedding.name))


def failing_index_statement(
    target: Target, schema: str, table: str, *, partitioned: bool = False
) -> sql.Composed:
    """The CREATE INDEX for a table, a partition, or a partitioned table, idempotent.

    That of a partitioned table stands on it alone, takes a short lock, and waits for those of its
    partitions to be attached: PostgreSQL builds none concurrently over all partitions. The target
    has a key, by which the failing rows are found.
    """
    return sql.SQL(
        "CREATE INDEX {how} IF NOT EXISTS {name} ON {only}{table} ({key}) WHERE {condition}"
    ).format(
        how=sql.SQL("" if partitioned else "CONCURRENTLY"),
        name=sql.Identifier(failing_index_name(table)),
        only=sql.SQL("ONLY " if partitioned else ""),
        table=sql.Identifier(schema, table),
        key=sql.SQL(", ").join(sql.Identifier(column.name) for column in target.key),
        condition=failing_condition(target),
    )
