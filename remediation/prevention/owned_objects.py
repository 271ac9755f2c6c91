"""Describes what the migration makes: how each object is found, told from others', and dropped.

Builds SQL; runs nothing. An object is ours where its comment begins with `MARK`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, LiteralString

from psycopg import sql

from checks.settings.names import display_identifier, display_name
from remediation.prevention.script import dollar_quoted

if TYPE_CHECKING:
    from collections.abc import Iterable

MARK = "embedding-integrity: "
"""How the comment of everything that the migration makes begins."""

Kind = Literal["function", "trigger", "constraint", "view", "index"]

NOT_OURS = ": there already, and not made by embedding-integrity; rename or drop it"
"""What is said of a name that something else has."""

_CATALOGS: dict[Kind, tuple[LiteralString, LiteralString, LiteralString]] = {
    "function": ("pg_proc", "pronargs = 0 AND pronamespace", "proname"),
    "trigger": ("pg_trigger", "tgrelid", "tgname"),
    "constraint": ("pg_constraint", "conrelid", "conname"),
    "view": ("pg_class", "relnamespace", "relname"),
    "index": ("pg_class", "relnamespace", "relname"),
}
"""Catalog, what an object belongs to there, and its name."""

_FINISHED: LiteralString = (
    " AND EXISTS (SELECT FROM pg_catalog.pg_index WHERE indexrelid = pg_class.oid AND indisvalid)"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class OwnedObject:
    """One object of the migration; `table` is what a trigger, constraint or index stands on."""

    kind: Kind
    schema: str
    name: str
    table: str | None = None
    partitioned: bool = False
    """Whether an index is that of a partitioned table, which is not dropped concurrently."""
    says: str = ""
    """What it does, for its comment."""

    @property
    def identifier(self) -> sql.Composable:
        """Its name as COMMENT ON and DROP write it."""
        if self.kind in ("trigger", "constraint"):
            return sql.SQL("{} ON {}").format(sql.Identifier(self.name), self._on)
        qualified = sql.Identifier(self.schema, self.name)
        return sql.SQL("{}()").format(qualified) if self.kind == "function" else qualified

    @property
    def comment(self) -> sql.Composed:
        """The statement that marks it as ours."""
        kind: LiteralString = self.kind.upper()
        return sql.SQL("COMMENT ON {} {} IS {}").format(
            sql.SQL(kind), self.identifier, sql.Literal(MARK + self.says)
        )

    @property
    def drop(self) -> sql.Composed:
        """The statement that removes it, and succeeds where it is not there."""
        if self.kind == "constraint":
            return sql.SQL("ALTER TABLE IF EXISTS {} DROP CONSTRAINT IF EXISTS {}").format(
                self._on, sql.Identifier(self.name)
            )
        kind: LiteralString = self.kind.upper()
        how: LiteralString = (
            "CONCURRENTLY " if self.kind == "index" and not self.partitioned else ""
        )
        return sql.SQL("DROP {} {}IF EXISTS {}").format(
            sql.SQL(kind), sql.SQL(how), self.identifier
        )

    @property
    def oid(self) -> sql.Composed:
        """A subselect of its oid: NULL where nothing has its name.

        An index whose building was interrupted has no comment yet, and counts as not there.
        """
        catalog, owner, name = _CATALOGS[self.kind]
        resolved: LiteralString = "to_regnamespace"
        belongs: sql.Identifier = sql.Identifier(self.schema)
        if self.kind in ("trigger", "constraint"):
            resolved, belongs = "to_regclass", self._on
        return sql.SQL(
            "(SELECT oid FROM pg_catalog.{} WHERE {} = pg_catalog.{}({})::oid AND {} = {}{})"
        ).format(
            sql.SQL(catalog),
            sql.SQL(owner),
            sql.SQL(resolved),
            sql.Literal(belongs.as_string(None)),
            sql.SQL(name),
            sql.Literal(self.name),
            sql.SQL(_FINISHED if self.kind == "index" else ""),
        )

    @property
    def description(self) -> sql.Composed:
        """Its present comment; NULL for none."""
        return sql.SQL("pg_catalog.obj_description({}, {})").format(
            self.oid, sql.Literal(_CATALOGS[self.kind][0])
        )

    @property
    def as_it_should_be(self) -> sql.Composed:
        """A condition: it is there, as it would be made now."""
        return sql.SQL("{} IS NOT DISTINCT FROM {}").format(
            self.description, sql.Literal(MARK + self.says)
        )

    @property
    def words(self) -> str:
        """What it is, for people."""
        if self.table is not None and self.kind != "index":
            on = display_name(self.schema, self.table)
            return f"{self.kind} {display_identifier(self.name)} on {on}"
        return f"{self.kind} {display_name(self.schema, self.name)}"

    @property
    def _on(self) -> sql.Identifier:
        if self.table is None:
            raise LookupError(f"a {self.kind} stands on a table")
        return sql.Identifier(self.schema, self.table)


def taken_names(objects: Iterable[OwnedObject]) -> sql.Composed:
    """A SELECT of what has a name of ours without being ours, in words; NULL where nothing has."""
    return sql.SQL(
        """SELECT pg_catalog.string_agg(what, ', ') FROM (VALUES
        {}
    ) AS named (what, oid, says)
    WHERE oid IS NOT NULL AND NOT pg_catalog.starts_with(coalesce(says, ''), {})"""
    ).format(
        sql.SQL(",\n        ").join(
            sql.SQL("({},\n         {},\n         {})").format(
                sql.Literal(owned.words), owned.oid, owned.description
            )
            for owned in objects
        ),
        sql.Literal(MARK),
    )


def guard(objects: Iterable[OwnedObject]) -> sql.Composed:
    """A statement that fails, in words, where a name of ours is taken by something else."""
    return sql.SQL("DO {}").format(
        dollar_quoted(
            sql.SQL(
                """
DECLARE
    taken text := ({});
BEGIN
    IF taken IS NOT NULL THEN
        RAISE EXCEPTION USING MESSAGE = taken || {};
    END IF;
END
"""
            ).format(taken_names(objects), sql.Literal(NOT_OURS))
        )
    )
