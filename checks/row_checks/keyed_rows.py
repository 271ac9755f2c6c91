"""Writes some rows of a target, found by their keys, as the relation that all of them are.

Builds SQL only; runs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from psycopg import sql

from checks.database.expressions import unnested
from checks.row_checks.row_relation import rows_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import LiteralString

    from checks.database.catalog import Column
    from checks.targets.target import Target

Key: TypeAlias = tuple[str, ...]
"""The columns of a row's key, each as text."""


def keyed_rows_of(target: Target, keys: Sequence[Key]) -> sql.Composed:
    """Those rows of `rows_of` that have one of the keys, for a statement without parameters.

    Keys travel as arrays of texts, each cast back to the type of its column. OFFSET 0 has each row
    looked up by itself, through the key's index, where a join may read the whole table.
    """
    names = [f"key_{position}" for position, _ in enumerate(target.key, start=1)]
    return sql.SQL(
        """(
    SELECT keyed.*
    FROM {arrays} AS integrity_key ({names})
    CROSS JOIN LATERAL (SELECT * FROM {rows} AS r WHERE {same} OFFSET 0) AS keyed
)"""
    ).format(
        arrays=unnested(
            sql.SQL("{}::text[]").format(sql.Literal([key[position] for key in keys]))
            for position, _ in enumerate(names)
        ),
        names=sql.SQL(", ").join(sql.Identifier(name) for name in names),
        rows=rows_of(target),
        same=sql.SQL(" AND ").join(
            sql.SQL("{} {} {}::{}").format(
                sql.Identifier("r", name),
                column.operator("="),
                sql.Identifier("integrity_key", name),
                _type_of(column),
            )
            for name, column in zip(names, target.key, strict=True)
        ),
    )


def _type_of(column: Column) -> sql.SQL:
    kind: LiteralString = column.full_type
    return sql.SQL(kind)
