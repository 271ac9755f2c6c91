"""What of a declared table is not as declared: columns, types, rights, policies, expressions.

Reads the catalog and plans expressions; reads no row, and decides nothing about repair.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql

from checks.connection import reason_of
from checks.expressions import Expression, faults_of
from checks.vectors import EMBEDDING_TYPES

if TYPE_CHECKING:
    from checks.catalog import Server
    from checks.connection import Connection
    from checks.expressions import ExpressionType
    from checks.settings import Table
    from checks.targets import Target


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """Something that is not as declared; `blocks` when the table cannot be scanned for it."""

    text: str
    blocks: bool = True
    forbidden: bool = False
    """The role has no right to look, which is not the same as a broken table."""


def no_extension(server: Server) -> str:
    """Why no vector can be there, and what an administrator does about it."""
    return (
        f"extension vector is not installed in database {server.database!r};"
        " an administrator installs it with CREATE EXTENSION vector"
    )


def problems_of(connection: Connection, target: Target) -> tuple[Problem, ...]:
    """Everything that is not as declared, all at once."""
    if not target.facts.readable:
        return (
            Problem(
                text=f"role {target.server.role!r} may not read {target.name}; {_grant(target)}",
                forbidden=True,
            ),
        )
    return (
        *_column_problems(target),
        *_policy_problems(target),
        *_embedding_problems(target),
        *_expression_problems(connection, target),
    )


def _grant(target: Target) -> str:
    """The statements that let the role read a table."""
    role = sql.Identifier(target.server.role)
    statement = sql.SQL("GRANT USAGE ON SCHEMA {} TO {}; GRANT SELECT ON {} TO {}").format(
        sql.Identifier(target.facts.schema), role, target.identifier, role
    )
    return f"grant it with {statement.as_string(None)}"


def _column_problems(target: Target) -> list[Problem]:
    """Declared columns that are not there, or that the role may not read."""
    declared, columns = target.declared, target.facts.columns
    wanted = [("embedding", declared.embedding)]
    wanted += [("key", name) for name in declared.key]
    wanted += [("group_by", name) for name in declared.group_by]
    wanted += [
        (setting, name)
        for setting in ("content_hash", "model_column", "embedded_at")
        if (name := getattr(declared, setting)) is not None
    ]
    problems = []
    for setting, name in wanted:
        if name not in columns:
            near = difflib.get_close_matches(name, list(columns), n=1, cutoff=0.5)
            hint = f"; did you mean {sql.Identifier(near[0]).as_string(None)}?" if near else ""
            text = f"{setting}: column {name!r} does not exist in {target.name}{hint}"
            if setting == "embedding" and target.server.vector_version is None:
                text += "; " + no_extension(target.server)
            problems.append(Problem(text=text))
        elif not columns[name].readable:
            text = (
                f"{setting}: role {target.server.role!r} may not read column {name!r} of"
                f" {target.name}; {_grant(target)}"
            )
            problems.append(Problem(text=text, forbidden=True))
    return problems


def _policy_problems(target: Target) -> list[Problem]:
    policies = target.facts.hiding_policies
    if not policies:
        return []
    role = sql.Identifier(target.server.role).as_string(None)
    return [
        Problem(
            text=(
                f"row-level security ({', '.join(policies)}) may hide rows of {target.name} from"
                f" role {role}; what is hidden cannot be checked. Grant sight with"
                f" ALTER ROLE {role} BYPASSRLS, or with"
                f" CREATE POLICY integrity_sees_all ON {target.identifier.as_string(None)}"
                f" FOR SELECT TO {role}"
                " USING (true) where no restrictive policy applies"
            ),
            forbidden=True,
        )
    ]


def _embedding_problems(target: Target) -> list[Problem]:
    column = target.facts.columns.get(target.declared.embedding)
    if column is None:
        return []
    if column.type not in EMBEDDING_TYPES:
        kinds = ", ".join(EMBEDDING_TYPES)
        return [
            Problem(
                text=(
                    f"column {column.name!r} of {target.name} is of type {column.type};"
                    f" expected one of {kinds}"
                )
            )
        ]
    if column.dimension not in (None, target.dimensions):
        return [
            Problem(
                text=(
                    f"column {column.name!r} of {target.name} is"
                    f" {column.type}({column.dimension}), declared are {target.dimensions}"
                    " dimensions; correct `dimensions` in the settings, or migrate the column"
                ),
                blocks=False,
            )
        ]
    return []


def _expression_problems(connection: Connection, target: Target) -> list[Problem]:
    expressions = _expressions(target.declared)
    try:
        faults = faults_of(connection, target.identifier, expressions)
    except psycopg.errors.QueryCanceled as error:
        # Someone keeps the table locked: it alone cannot be looked at, the others can.
        faults = [f"its expressions could not be validated: {reason_of(error)}"]
    return [Problem(text=f"{target.name}: {fault}") for fault in faults]


def _expressions(table: Table) -> list[Expression]:
    """Every SQL expression of a declaration with the type its place asks for."""
    texts = [("text", table.text), ("tenant", table.tenant)]
    times = [("created_at", table.created_at), ("updated_at", table.updated_at)]
    conditions = [("where", table.where)]
    conditions += [(f"custom.{check.name}", check.failing_when) for check in table.custom]
    kinds: tuple[tuple[ExpressionType, list[tuple[str, str | None]]], ...] = (
        ("text", texts),
        ("timestamptz", times),
        ("boolean", conditions),
    )
    return [
        Expression(key=key, source=source, type=kind)
        for kind, sources in kinds
        for key, source in sources
        if source is not None
    ]
