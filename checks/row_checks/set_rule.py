"""Defines a rule about sets of rows: which rows belong together, and when these fail.

Builds SQL only; runs nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from psycopg import sql

Member = tuple[str, str]
"""The fingerprint and the identity of rows that fail together."""


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
        """The predicate of a row, which reads the set of that name."""
        identity = sql.SQL("CASE WHEN {} THEN {} END").format(self.among, self.identity)
        return in_set(name, fingerprint=self._print, identity=identity)

    def members(self, source: sql.Composable, *, placed: bool) -> sql.Composable:
        """A SELECT of the fingerprints and identities that fail, of all rows of a source (FROM and
        WHERE). Of rows that are `placed`, see `standing_where`, each fingerprint is computed once.

        Sets travel through arrays because PostgreSQL estimates those at ten rows: a set that it
        believes large it would search row by row instead of hashing it.
        """
        return sql.SQL(
            """{alike}
SELECT pg_catalog.unnest(pg_catalog.array_agg(print)) AS print,
       pg_catalog.unnest(pg_catalog.array_agg(known_by)) AS member
FROM (SELECT {print} AS print, known_by FROM alike GROUP BY 1, 2 HAVING {fails}) AS failing"""
        ).format(alike=self._alike(source, placed), print=self._print, fails=self.fails)

    def places(self, source: sql.Composable) -> sql.Composable:
        """A SELECT of the places of the rows that fail, of all rows of a source that has them."""
        return sql.SQL(
            """{alike}
SELECT place_table, place
FROM alike
WHERE (known_by IN (
    SELECT pg_catalog.unnest(pg_catalog.array_agg(known_by))
    FROM (SELECT known_by FROM alike GROUP BY 1 HAVING {fails}) AS failing
)) IS TRUE"""
        ).format(alike=self._alike(source, placed=True), fails=self.fails)

    def _alike(self, source: sql.Composable, placed: bool) -> sql.Composable:
        """The relations `prints`, of all rows, and `alike`, of those that share one of them."""
        repeated = sql.SQL(
            """{} IN (
        SELECT pg_catalog.unnest(pg_catalog.array_agg(print))
        FROM (SELECT print FROM prints GROUP BY 1 HAVING count(*) > 1) AS repeated
    )"""
        )
        return sql.SQL(
            """WITH prints AS MATERIALIZED (SELECT {fingerprint} AS print{place} {source}),
alike AS MATERIALIZED (
    SELECT *, {identity} AS known_by {source} AND {among} AND ({found}) IS TRUE
)"""
        ).format(
            fingerprint=self.fingerprint,
            place=sql.SQL(", place_table, place" if placed else ""),
            source=source,
            identity=self.identity,
            among=self.among,
            found=standing_where(repeated.format(sql.SQL("print")), sql.SQL("prints"))
            if placed
            else repeated.format(self.fingerprint),
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

    @property
    def _print(self) -> sql.Composable:
        # Floats agree as text in all sessions of ours: these set extra_float_digits.
        return sql.SQL("({})::text").format(self.fingerprint)


def in_set(name: str, *, fingerprint: sql.Composable, identity: sql.Composable) -> sql.Composable:
    """True of a row that belongs to the set of that name, else false; both words are texts.

    The identity is computed of rows alone whose fingerprint is in the set, and the fingerprint of
    none where the set is empty, as it mostly is. IS TRUE keeps PostgreSQL from joining the set
    instead of hashing it.
    """
    return sql.SQL(
        "CASE WHEN ({print} IN (SELECT print FROM {set})) IS TRUE"
        " THEN ({identity} IN (SELECT member FROM {set})) IS TRUE ELSE false END"
    ).format(print=fingerprint, identity=identity, set=set_name(name))


def standing_where(condition: sql.Composable, places: sql.Composable) -> sql.Composable:
    """True of a row of `rows_of` that stands where one does of which the condition is true.

    `places` has the columns place_table and place beside those of the condition.
    """
    return sql.SQL(
        """(place_table, place) IN (
        SELECT pg_catalog.unnest(pg_catalog.array_agg(place_table)),
               pg_catalog.unnest(pg_catalog.array_agg(place))
        FROM {} WHERE {}
    )"""
    ).format(places, condition)


def set_name(name: str) -> sql.Identifier:
    """The name of a check's set in a statement that begins with `with_sets`."""
    return sql.Identifier(f"integrity_{name}")
