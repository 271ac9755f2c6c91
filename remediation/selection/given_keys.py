"""Writes rows by their keys in SQL: keys that a statement is given, and those it returns.

Keys travel as texts, and are cast back to their own types. Builds SQL only; runs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from psycopg import sql
from psycopg.adapt import PyFormat

from checks.database.expressions import beside_parameters, unnested
from checks.database.key_comparisons import compared, equal
from checks.row_checks.row_relation import rows_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from checks.targets.target import Target


def texts_given(parameter: str) -> sql.Composed:
    """A parameter that is an array of texts.

    In binary: the literal of an array takes several times as long to write, row by row.
    """
    return sql.SQL("{}::text[]").format(sql.Placeholder(parameter, format=PyFormat.BINARY))


def key_arrays(keys: Sequence[tuple[str, ...]], columns: int | None = None) -> dict[str, Any]:
    """The parameters keys_1 … keys_n: one array of texts per key column.

    `columns` is needed only where there may be no keys at all.
    """
    width = columns if columns is not None else len(keys[0])
    return {f"keys_{i + 1}": [key[i] for key in keys] for i in range(width)}


def type_of(name: str) -> sql.SQL:
    """A type's name as format_type() wrote it, which quotes where it must."""
    return sql.SQL(name.replace("%", "%%"))


def keys_given(target: Target, *, with_written: bool) -> sql.Composable:
    """The keys of a statement's parameters as a relation, one row per key."""
    names = [sql.Identifier(f"key_{i}") for i in positions(target)]
    arrays = [texts_given(f"keys_{i}") for i in positions(target)]
    if with_written:
        names.append(sql.Identifier("written"))
        arrays.append(texts_given("written"))
    return sql.SQL("{arrays} WITH ORDINALITY AS integrity_key ({names}, position)").format(
        arrays=unnested(arrays), names=sql.SQL(", ").join(names)
    )


def key_is(
    target: Target, columns: Iterable[sql.Composable], given: Iterable[sql.Composable]
) -> sql.Composable:
    """The condition that columns hold the key given as texts, each cast back to its own type."""
    typed = [
        sql.SQL("{}::{}").format(text, type_of(column.full_type))
        for text, column in zip(given, target.key, strict=True)
    ]
    return equal(target.key, list(columns), typed)


def row_of_key(target: Target) -> sql.Composable:
    """The row of one key.

    OFFSET 0 has it looked up by itself, through the key's index. A join may read the whole table
    instead, up to the last of the keys, and there may be hundreds of such statements.
    """
    names = [f"key_{position}" for position in positions(target)]
    return sql.SQL("SELECT * FROM {rows} AS keyed WHERE {same} OFFSET 0").format(
        rows=beside_parameters(rows_of(target)),
        same=key_is(
            target,
            [sql.Identifier("keyed", name) for name in names],
            [sql.Identifier("integrity_key", name) for name in names],
        ),
    )


def positions(target: Target) -> range:
    """Those of the key's columns, from 1."""
    return range(1, len(target.key) + 1)


def key_texts(target: Target) -> sql.Composable:
    """The key's columns as they are returned."""
    return sql.SQL(", ").join(
        sql.SQL("{}::text").format(column) for column in key_columns(target, "r")
    )


def key_columns(target: Target, relation: str) -> list[sql.Identifier]:
    """The key's columns, qualified: a bare name in ORDER BY means the output column, a text."""
    return [sql.Identifier(relation, f"key_{i}") for i in positions(target)]


def beyond(target: Target) -> sql.Composable:
    """The condition that a row stands behind the key after_1 … after_n."""
    after = [
        sql.SQL("{}::{}").format(sql.Placeholder(f"after_{i}"), type_of(column.full_type))
        for i, column in enumerate(target.key, start=1)
    ]
    return compared(target.key, key_columns(target, "r"), ">", after)
