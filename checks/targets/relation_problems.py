"""Validates one relation against its declaration, be it a table, its store or its source.

Judges catalog facts; asks the database nothing.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from psycopg import sql

from checks.database.vectors.types import EMBEDDING_TYPES
from checks.targets.provenance import hash_fault, time_fault

if TYPE_CHECKING:
    from collections.abc import Iterable

    from checks.database.catalog import Relation
    from checks.database.server import Server
    from checks.settings.tables import Store, Table


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """Something that is not as declared; `blocks` where it keeps the table from being scanned."""

    text: str
    blocks: bool = True
    forbidden: bool = False
    """Whether the role has no right to look, which does not mean a broken table."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Declared:
    """A relation, the name that people know, and the section of the settings that declares it."""

    name: str
    relation: Relation
    server: Server
    section: str = ""
    """The beginning of its keys in the settings: nothing, `store.` or `source.`"""

    @property
    def identifier(self) -> sql.Identifier:
        return sql.Identifier(self.relation.schema, self.relation.name)


def no_extension(server: Server) -> str:
    """Why there can be no vector, and what an administrator can do about it."""
    return (
        f"extension vector is not installed in database {server.database!r};"
        " an administrator installs it with CREATE EXTENSION vector"
    )


def right_problems(place: Declared) -> list[Problem]:
    """The problem that the role may not read the relation at all."""
    if place.relation.readable:
        return []
    text = f"role {place.server.role!r} may not read {place.name}; {_grant(place)}"
    return [Problem(text=text, forbidden=True)]


def column_problems(place: Declared, wanted: Iterable[tuple[str, str | None]]) -> list[Problem]:
    """Declared columns that are not there or that the role may not read, each by its setting."""
    columns = place.relation.columns
    problems = []
    for setting, name in wanted:
        if name is None:
            continue
        if name not in columns:
            near = difflib.get_close_matches(name, list(columns), n=1)
            hint = f"; did you mean {sql.Identifier(near[0]).as_string(None)}?" if near else ""
            text = f"{place.section}{setting}: column {name!r} does not exist in {place.name}{hint}"
            if setting == "embedding" and place.server.vector_version is None:
                text += "; " + no_extension(place.server)
            problems.append(Problem(text=text))
        elif not columns[name].readable:
            text = (
                f"{place.section}{setting}: role {place.server.role!r} may not read column {name!r}"
                f" of {place.name}; {_grant(place)}"
            )
            problems.append(Problem(text=text, forbidden=True))
    return problems


def policy_problems(place: Declared) -> list[Problem]:
    """Row-level security that may hide rows from the role."""
    policies = place.relation.hiding_policies
    if not policies:
        return []
    role = sql.Identifier(place.server.role).as_string(None)
    return [
        Problem(
            text=(
                f"row-level security ({', '.join(policies)}) may hide rows of {place.name} from"
                f" role {role}; what is hidden cannot be checked. Grant sight with"
                f" ALTER ROLE {role} BYPASSRLS, or with"
                f" CREATE POLICY integrity_sees_all ON {place.identifier.as_string(None)}"
                f" FOR SELECT TO {role}"
                " USING (true) where no restrictive policy applies"
            ),
            forbidden=True,
        )
    ]


PAD_HINT = "; where shorter vectors are padded with zeros by design, say `pad = true`"


def embedding_problems(
    place: Declared, name: str, dimensions: int, *, pad: bool | int
) -> list[Problem]:
    """The problem that the embedding column has another type or dimension than declared.

    `dimensions` are the model's; with `pad` the stored vectors have more: as many as it says, or
    as the column's type does.
    """
    column = place.relation.columns.get(name)
    if column is None:
        return []
    if column.type not in EMBEDDING_TYPES:
        kinds = ", ".join(EMBEDDING_TYPES)
        return [
            Problem(
                text=(
                    f"column {column.name!r} of {place.name} is of type {column.type};"
                    f" expected one of {kinds}"
                )
            )
        ]
    stored = column.dimension if pad is True or column.dimension is not None else int(pad)
    if pad and (stored or 0) <= dimensions:
        found = "any number" if stored is None else str(stored)
        return [
            Problem(
                text=(
                    f"pad: the vectors of column {column.name!r} of {place.name} have {found} as"
                    f" their dimensions; expected more than the model's {dimensions}, to which a"
                    " vector is padded; take `pad` out, migrate it, or, where the type admits any,"
                    " say how many are stored: `pad = 4096`"
                ),
                blocks=False,
            )
        ]
    if pad and pad is not True and pad != stored:
        return [
            Problem(
                text=(
                    f"pad: column {column.name!r} of {place.name} is {column.type}({stored}),"
                    f" declared are {pad}; say `pad = true`: the type tells how many are stored"
                ),
                blocks=False,
            )
        ]
    if not pad and column.dimension not in (None, dimensions):
        return [
            Problem(
                text=(
                    f"column {column.name!r} of {place.name} is"
                    f" {column.type}({column.dimension}), declared are {dimensions}"
                    " dimensions; correct `dimensions` in the settings, or migrate the column"
                    + PAD_HINT
                    * (column.dimension > dimensions)
                ),
                blocks=False,
            )
        ]
    return []


def provenance_problems(place: Declared, declared: Table | Store, function: str) -> list[Problem]:
    """Declared columns whose type cannot hold what they are declared for."""
    columns = place.relation.columns
    faults = (
        (
            "content_hash",
            declared.content_hash,
            partial(hash_fault, function=function, server=place.server),
        ),
        ("embedded_at", declared.embedded_at, time_fault),
    )
    return [
        Problem(text=f"{place.section}{setting}: column {name!r} of {place.name} {fault}")
        for setting, name, fault_of in faults
        if name is not None and name in columns and (fault := fault_of(columns[name])) is not None
    ]


def _grant(place: Declared) -> str:
    """The statements that let the role read a table."""
    role = sql.Identifier(place.server.role)
    statement = sql.SQL("GRANT USAGE ON SCHEMA {} TO {}; GRANT SELECT ON {} TO {}").format(
        sql.Identifier(place.relation.schema), role, place.identifier, role
    )
    return f"grant it with {statement.as_string(None)}"
