"""Describes what the migration makes: how each object is found, told from others', and dropped.

Builds SQL; runs nothing. An object is ours where its comment begins with `MARK`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from psycopg import sql

from checks.settings.names import display_identifier, display_name
from remediation.prevention.script import dollar_quoted

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import LiteralString

MARK = "embedding-integrity: "
"""How the comment of everything that the migration makes begins."""

Kind = Literal["function", "trigger", "constraint", "view", "index"]

_CATALOGS: dict[Kind, tuple[LiteralString, LiteralString, LiteralString]] = {
    "function": ("pg_proc", "o.pronargs = 0 AND o.pronamespace", "proname"),
    "trigger": ("pg_trigger", "o.tgrelid", "tgname"),
    "constraint": ("pg_constraint", "o.conrelid", "conname"),
    "view": ("pg_class", "o.relnamespace", "relname"),
    "index": ("pg_class", "o.relnamespace", "relname"),
}
"""Catalog, what an object belongs to there, and its name."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OwnedObject:
    """One object of the migration; `table` is what a trigger, constraint or index stands on."""

    kind: Kind
    schema: str
    name: str
    says: str
    """What it does, for its comment."""
    table: str | None = None

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

    def drop(self, *, concurrently: bool = False) -> sql.Composed:
        """The statement that removes it, and succeeds where it is not there."""
        if self.kind == "constraint":
            return sql.SQL("ALTER TABLE IF EXISTS {} DROP CONSTRAINT IF EXISTS {}").format(
                self._on, sql.Identifier(self.name)
            )
        kind: LiteralString = self.kind.upper()
        how: LiteralString = "CONCURRENTLY " if concurrently else ""
        return sql.SQL("DROP {} {}IF EXISTS {}").format(
            sql.SQL(kind), sql.SQL(how), self.identifier
        )

    @property
    def lookup(self) -> sql.Composed:
        """A SELECT of its comment: no row where nothing has its name.

        An index of that name whose building was interrupted has no comment yet, and counts as ours.
        """
        catalog, owner, name = _CATALOGS[self.kind]
        belongs: sql.Composable = sql.SQL("pg_catalog.to_regnamespace({})").format(
            sql.Literal(sql.Identifier(self.schema).as_string(None))
        )
        if self.kind in ("trigger", "constraint"):
            belongs = sql.SQL("pg_catalog.to_regclass({})").format(
                sql.Literal(self._on.as_string(None))
            )
        unfinished = sql.SQL(
            " AND NOT EXISTS (SELECT FROM pg_catalog.pg_index AS i"
            " WHERE i.indexrelid = o.oid AND NOT i.indisvalid)"
        )
        return sql.SQL(
            "SELECT pg_catalog.obj_description(o.oid, {catalog}) AS says"
            " FROM pg_catalog.{source} AS o WHERE {owner} = {belongs} AND o.{name} = {wanted}{more}"
        ).format(
            catalog=sql.Literal(catalog),
            source=sql.SQL(catalog),
            owner=sql.SQL(owner),
            belongs=belongs,
            name=sql.SQL(name),
            wanted=sql.Literal(self.name),
            more=unfinished if self.kind == "index" else sql.SQL(""),
        )

    @property
    def as_it_should_be(self) -> sql.Composed:
        """A SELECT of it with its present comment: no row where it is another one, or missing."""
        return sql.SQL("SELECT FROM ({}) AS found WHERE found.says = {}").format(
            self.lookup, sql.Literal(MARK + self.says)
        )

    @property
    def foreign(self) -> sql.Composed:
        """A condition: something has its name and is not ours."""
        return sql.SQL(
            "EXISTS (SELECT FROM ({}) AS found"
            " WHERE NOT pg_catalog.starts_with(coalesce(found.says, ''), {}))"
        ).format(self.lookup, sql.Literal(MARK))

    @property
    def refusal(self) -> str:
        """Why nothing is done where something else has its name."""
        return f"{self.words} exists and was not made by embedding-integrity; rename or drop it"

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


def guard(objects: Iterable[OwnedObject]) -> sql.Composed:
    """A statement that fails, in words, where a name of ours is taken by something else."""
    checks = sql.SQL("").join(
        sql.SQL(
            """
    IF {foreign} THEN
        RAISE EXCEPTION USING MESSAGE = {message};
    END IF;"""
        ).format(foreign=owned.foreign, message=sql.Literal(owned.refusal))
        for owned in objects
    )
    return sql.SQL("DO {}").format(dollar_quoted(sql.SQL("\nBEGIN{}\nEND\n").format(checks)))
