"""Defines a row check: the rule as it is written, and the rule as it stands on one table.

Values only; each built-in rule has a module of its own beside this one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from psycopg import sql

from checks.row_checks.set_rule import set_name, standing_where

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from decimal import Decimal

    from checks.row_checks.row_relation import RowWords
    from checks.row_checks.set_rule import Member, SetRule
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
    predicate: Callable[[Target, RowWords], sql.Composable] | None = None
    """Builds the predicate from the words given: true of a failing row, else false or NULL."""
    rule_of_sets: Callable[[Target, RowWords], SetRule] | None = None
    """Builds the rule in place of a predicate, for a rule about sets of rows."""
    applies: Callable[[Table], bool] = lambda _: True
    """Whether the settings declare what it needs."""
    of_missing: bool = False
    """Whether only rows without an embedding can fail it."""
    reads_vectors: Callable[[Target], bool] = lambda _: False
    """Whether it fetches vectors, which is what takes long; a sample then spares most of them."""
    meaningful: Callable[[Target], bool] = lambda _: True
    """Whether the target's rows allow the check at all; where not, it is not made."""
    found: Callable[[Target, RowWords], sql.Composable] | None = None
    """Builds the text of what a failing row has in place of what is declared."""
    proven: Callable[[Target], str | None] = lambda _: None
    """How the catalog alone proves that no row can fail, in words; None where it does not."""


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
    write_shown: Callable[[], sql.Composable]
    """Writes the same predicate over the user's own columns, for a person to run."""
    proof: str | None
    of_missing: bool = False
    """Whether only rows without an embedding can fail it."""
    reads_vectors: bool = False
    """Whether it fetches vectors."""
    found: sql.Composable | None = None
    """The text of what a failing row has in place of what is declared; None: it says nothing."""
    of_norm: sql.Composable | None = None
    """The same predicate over `scanned_norm`, which a scan computes once; None: reads no norm."""
    rule_of_sets: SetRule | None = None
    write_members: Callable[[], sql.Composable] | None = None
    """Writes the SELECT of the set that the predicate reads, see `in_set`; None: it reads none."""
    write_places: Callable[[], sql.Composable] | None = None
    """Writes the SELECT of the places of the rows that fail together, where rows have places."""

    @property
    def shown(self) -> sql.Composable:
        """The predicate for a person to run."""
        return self.write_shown()

    @property
    def members(self) -> sql.Composable | None:
        """The SELECT of the set that the predicate reads."""
        return None if self.write_members is None else self.write_members()

    @property
    def set_name(self) -> sql.Identifier:
        """The name of its set in a statement that begins with `with_sets`."""
        return set_name(self.name)

    @property
    def by_place(self) -> AppliedCheck:
        """The check for one statement alone, in which a row stands where it stands: no vector is
        read for its predicate but by its set."""
        if self.write_places is None:
            return self
        stands = standing_where(sql.SQL("true"), self.set_name)
        predicate = sql.SQL("({}) IS TRUE").format(stands)
        return replace(self, predicate=predicate, write_members=self.write_places)

    def frozen(self, members: Sequence[Member]) -> AppliedCheck:
        """The check over a set that no longer changes while its rows are repaired."""
        prints, identities = ([one[column] for one in members] for column in (0, 1))
        listed = sql.SQL(
            "SELECT pg_catalog.unnest({}::text[]) AS print, pg_catalog.unnest({}::text[]) AS member"
        ).format(sql.Literal(prints), sql.Literal(identities))
        return replace(self, write_members=lambda: listed, write_places=None)

    def united(self, other: AppliedCheck) -> AppliedCheck:
        """The check over its own set and another's."""
        both = sql.SQL("({}) UNION ({})").format(self.members, other.members)
        return replace(self, write_members=lambda: both, write_places=None)


def with_sets(checks: Sequence[AppliedCheck]) -> sql.Composable:
    """The beginning of a statement that uses the predicates: their sets, each evaluated once."""
    sets = [
        sql.SQL("{} AS MATERIALIZED ({})").format(check.set_name, check.members)
        for check in checks
        if check.members is not None
    ]
    return sql.SQL("WITH {}\n").format(sql.SQL(",\n").join(sets)) if sets else sql.SQL("")
