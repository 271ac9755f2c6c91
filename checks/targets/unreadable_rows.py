"""Describes rows of which an expression of the settings raises an error. Values and SQL only."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from psycopg import sql

from checks.database.key_comparisons import compared, equal
from checks.wording import plural

if TYPE_CHECKING:
    from collections.abc import Sequence

    from checks.database.catalog import Column

KEYS_SHOWN = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class UnreadableRow:
    """The row's key, the expression that raises by its name in the settings, and what it raises."""

    key: tuple[str, ...]
    expression: str
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class UnreadableRows:
    """The rows that raise, of `total` of the table: all of them, or some."""

    rows: tuple[UnreadableRow, ...]
    total: int
    complete: bool = True

    @property
    def words(self) -> tuple[str, ...]:
        """A line for each expression and reason: how many rows, and the keys of some."""
        counts = Counter((row.expression, row.reason) for row in self.rows)
        return tuple(
            f"{expression} raises an error for {'' if self.complete else 'at least '}{count:,} of"
            f" {plural(self.total, 'row')}, with the key {self._keys(expression, reason)}: {reason}"
            for (expression, reason), count in counts.items()
        )

    def _keys(self, expression: str, reason: str) -> str:
        keys = [
            row.key for row in self.rows if (row.expression, row.reason) == (expression, reason)
        ]
        shown = [", ".join(key) for key in keys[:KEYS_SHOWN]]
        return " or ".join(f"({key})" for key in shown) + (" …" if len(keys) > KEYS_SHOWN else "")


def between(
    key: Sequence[Column],
    after: Sequence[str] | None,
    last: Sequence[str] | None,
    *,
    called: Sequence[sql.Identifier] | None = None,
) -> sql.Composable:
    """The condition of rows behind a key and up to another; `called`: what its columns are."""
    columns = _columns(key) if called is None else called
    bounds = [] if after is None else [compared(key, columns, ">", _values(key, after))]
    if last is not None:
        bounds.append(compared(key, columns, "<=", _values(key, last)))
    return sql.SQL(" AND ").join(bounds) if bounds else sql.SQL("true")


def all_but(key: Sequence[Column], keys: Sequence[Sequence[str]]) -> sql.Composed:
    """The condition of rows of other keys than these."""
    same = (equal(key, _columns(key), _values(key, one)) for one in keys)
    return sql.SQL("NOT ({})").format(sql.SQL(" OR ").join(same))


def _columns(key: Sequence[Column]) -> list[sql.Identifier]:
    return [sql.Identifier(column.name) for column in key]


def _values(key: Sequence[Column], values: Sequence[str]) -> list[sql.Composed]:
    return [
        sql.SQL("{}::{}").format(sql.Literal(value), sql.SQL(column.full_type))
        for column, value in zip(key, values, strict=True)
    ]
