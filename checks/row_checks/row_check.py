"""Defines a row check: the rule as it is written, and the rule as it stands on one table.

Values only; each built-in rule has a module of its own beside this one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from psycopg import sql

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from decimal import Decimal

    from checks.row_checks.row_relation import RowWords
    from checks.settings.table_checks import Remedy, Severity
    from checks.settings.tables import Table
    from checks.targets.target import Target


@dataclass(frozen=True, kw_only=True, slots=True)
class RowCheck:
    """A named rule about single rows, before it meets a table."""

    name: str
    order: int = 0
    """Its place among the built-in checks, wherever they are listed."""
    says: str
    """What is wrong with failing rows, completing "12 of 90 rows …"."""
    remedy: Remedy
    predicate: Callable[[Target, RowWords], sql.Composable]
    """In the words given; true of a failing row, false or NULL otherwise."""
    applies: Callable[[Table], bool] = lambda _: True
    """Whether the settings declare what it needs."""
    meaningful: Callable[[Target], bool] = lambda _: True
    """Whether what it declares can be told of the rows as they are; where not, it is not made."""
    proven: Callable[[Target], str | None] = lambda _: None
    """How the catalog alone proves that no row can fail, in words; None where it does not."""
    members: Callable[[Target, RowWords], sql.Composable] | None = None
    """For a rule about sets of rows: a SELECT of one text column, what a failing row is known by.

    Evaluated once per statement; the predicate reads it as `set_of(name)`.
    """


@dataclass(frozen=True, kw_only=True, slots=True)
class AppliedCheck:
    """A row check on one target, with its threshold and severity from the settings."""

    name: str
    says: str
    remedy: Remedy
    severity: Severity
    min: Decimal
    predicate: sql.Composable
    """Over the columns of `row_relation.rows_of`; counted, selected and counted again."""
    shown: sql.Composable
    """The same predicate over the user's own columns, for a person to run."""
    proof: str | None
    members: sql.Composable | None = None
    """What `set_of(name)` in the predicate stands for; None where it reads no set."""

    @property
    def set_name(self) -> sql.Identifier:
        """What a statement that begins with `with_sets` calls its set."""
        return _set_name(self.name)

    def frozen(self, members: Sequence[str]) -> AppliedCheck:
        """The check over a set that no longer changes while its rows are repaired."""
        listed = sql.SQL("SELECT pg_catalog.unnest({}::text[]) AS member").format(
            sql.Literal(list(members))
        )
        return replace(self, members=listed)


def set_of(name: str) -> sql.Composable:
    """The set of a check, as a subselect in a predicate."""
    return sql.SQL("(SELECT member FROM {})").format(_set_name(name))


def with_sets(checks: Sequence[AppliedCheck]) -> sql.Composable:
    """What a statement that uses the predicates begins with: their sets, each evaluated once."""
    sets = [
        sql.SQL("{} (member) AS MATERIALIZED ({})").format(_set_name(check.name), check.members)
        for check in checks
        if check.members is not None
    ]
    return sql.SQL("WITH {}\n").format(sql.SQL(",\n").join(sets)) if sets else sql.SQL("")


def _set_name(name: str) -> sql.Identifier:
    return sql.Identifier(f"integrity_{name}")
