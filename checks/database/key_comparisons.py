"""Compares the columns of a key with values, each by the operators of its own type.

Builds expressions only; runs nothing. A row comparison of PostgreSQL's would look each operator up
in the search path, where somebody else's may fit better.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from psycopg import sql

from checks.database.expressions import beside_parameters

if TYPE_CHECKING:
    from collections.abc import Sequence

    from checks.database.catalog import Column


def equal(
    key: Sequence[Column], own: Sequence[sql.Composable], given: Sequence[sql.Composable]
) -> sql.Composable:
    """The condition that `own` has the key that is given."""
    return sql.SQL(" AND ").join(
        sql.SQL("{} {} {}").format(mine, beside_parameters(column.operator("=")), value)
        for column, mine, value in zip(key, own, given, strict=True)
    )


def compared(
    key: Sequence[Column],
    own: Sequence[sql.Composable],
    symbol: Literal[">", "<="],
    given: Sequence[sql.Composable],
) -> sql.Composable:
    """The condition that `own` stands behind the key that is given, or up to it."""
    if len({column.operators for column in key}) == 1:
        # One operator compares the whole row, and an index of the key finds where it begins.
        return sql.SQL("ROW({}) {} ROW({})").format(
            sql.SQL(", ").join(own),
            beside_parameters(key[0].operator(symbol)),
            sql.SQL(", ").join(given),
        )
    behind: sql.Composable = sql.SQL("false")
    for column, mine, value in reversed(list(zip(key, own, given, strict=True))):
        behind = sql.SQL("({mine} {greater} {value} OR {same} AND {rest})").format(
            mine=mine,
            greater=beside_parameters(column.operator(">")),
            value=value,
            same=equal([column], [mine], [value]),
            rest=behind,
        )
    return behind if symbol == ">" else sql.SQL("NOT {}").format(behind)
