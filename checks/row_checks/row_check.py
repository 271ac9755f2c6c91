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
class SetRule:
    """A rule about sets of rows: those of one identity fail together, or none of them does.

    Only rows that share a fingerprint may share an identity, and only these are looked at. So a
    healthy table is read once, and nothing ever holds all of its identities.
    """

    among: sql.Composable
    """True of the rows that the rule is about."""
    fingerprint: sql.Composable
    """The fingerprint: cheap, equal for rows of one identity, NULL for a row that has none."""
    identity: sql.Composable
    """The identity of a row, as text."""
    common: sql.Composable
    """What rows of one identity must have in common; where they have not, they fail together."""
    held_at: sql.Composable | None = None
    """Tells what is compared apart, where one thing may be several rows; it fails with no other."""

    @property
    def fails(self) -> sql.Composable:
        """An aggregate over the rows of one identity, true where they fail."""
        fails = sql.SQL("min({common}) <> max({common})").format(common=self.common)
        if self.held_at is None:
            return fails
        return sql.SQL("{} AND count(DISTINCT {}) > 1").format(fails, self.held_at)

    def holds_member(self, name: str) -> sql.Composable:
        """The predicate of a row, which reads the set of that name.

        IS TRUE keeps PostgreSQL from joining the set. It hashes the set instead, and where that is
        empty, as it mostly is, computes no identity.
        """
        return sql.SQL("{} AND ({} IN {}) IS TRUE").format(self.among, self.identity, set_of(name))

    def members(self, source: sql.Composable) -> sql.Composable:
        """A SELECT of the identities that fail, of all rows of a source (FROM and WHERE).

        Sets travel through arrays because PostgreSQL estimates those at ten rows: a set that it
        believes large it would search row by row instead of hashing it.
        """
        return sql.SQL(
            """SELECT pg_catalog.unnest(pg_catalog.array_agg(identity))
FROM (
    SELECT {identity} AS identity {source} AND {among}
      AND ({fingerprint} IN (
          SELECT pg_catalog.unnest(pg_catalog.array_agg(fingerprint)) FROM (
              SELECT {fingerprint} AS fingerprint {source}
              GROUP BY 1 HAVING count(*) > 1
          ) AS repeated
      )) IS TRUE
    GROUP BY 1 HAVING {fails}
) AS failing"""
        ).format(
            identity=self.identity,
            among=self.among,
            fingerprint=self.fingerprint,
            fails=self.fails,
            source=source,
        )

    def shown(self, source: sql.Composable, compared: SetRule | None = None) -> sql.Composable:
        """The predicate of a row for a person, with the set written out.

        `compared` is the rule in the words of the source, where these are others.
        """
        of_set = compared or self
        return sql.SQL(
            "{among} AND {identity} IN (SELECT {member} {source}\n"
            "       AND {of_set} GROUP BY 1 HAVING {fails})"
        ).format(
            among=self.among,
            identity=self.identity,
            member=of_set.identity,
            source=source,
            of_set=of_set.among,
            fails=of_set.fails,
        )


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
    """Writes what `set_of(name)` in the predicate stands for; None where it reads no set."""

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
        return _set_name(self.name)

    def frozen(self, members: Sequence[str]) -> AppliedCheck:
        """The check over a set that no longer changes while its rows are repaired."""
        listed = sql.SQL("SELECT pg_catalog.unnest({}::text[]) AS member").format(
            sql.Literal(list(members))
        )
        return replace(self, write_members=lambda: listed)

    def united(self, other: AppliedCheck) -> AppliedCheck:
        """The check over its own set and another's."""
        both = sql.SQL("{} UNION {}").format(self.members, other.members)
        return replace(self, write_members=lambda: both)


def set_of(name: str) -> sql.Composable:
    """The set of a check, as a subselect in a predicate."""
    return sql.SQL("(SELECT member FROM {})").format(_set_name(name))


def with_sets(checks: Sequence[AppliedCheck]) -> sql.Composable:
    """The beginning of a statement that uses the predicates: their sets, each evaluated once."""
    sets = [
        sql.SQL("{} (member) AS MATERIALIZED ({})").format(_set_name(check.name), check.members)
        for check in checks
        if check.members is not None
    ]
    return sql.SQL("WITH {}\n").format(sql.SQL(",\n").join(sets)) if sets else sql.SQL("")


def _set_name(name: str) -> sql.Identifier:
    return sql.Identifier(f"integrity_{name}")
