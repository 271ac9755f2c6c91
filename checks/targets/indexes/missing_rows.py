"""Writes the CREATE INDEX of the partial index that finds the rows without an embedding.

Builds statements for a person to run; runs nothing but a look into the catalog.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from psycopg import sql

from checks.database.expressions import embed_sql
from checks.database.vectors.ann_indexes import read_indexed_relations
from checks.settings.names import parse_identifier
from checks.targets.indexes.scopes import index_names

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from checks.database.catalog import Column
    from checks.database.connection import Connection
    from checks.targets.target import Target

RELATIONS_NAMED = 5
"""Partitions that get a statement of their own."""

_TOKEN = re.compile(
    r"""\s*(?:
        (?P<text>(?<!\w)'(?:[^'\\]|'')*')
      | (?P<word>[A-Za-z_][A-Za-z0-9_]*|"(?:[^"]|"")+")
      | (?P<number>[0-9]+(?:\.[0-9]+)?)
      | (?P<operator><=|>=|<>|!=|=|<|>)
      | (?P<open>\() | (?P<close>\)) | (?P<comma>,)
      | (?P<other>-(?!-) | /(?!\*) | [+*%:.|~!?@&#^\[\]])
    )""",
    re.VERBOSE,
)
_KEYWORDS = frozenset(
    {"and", "or", "not", "is", "null", "true", "false", "unknown", "in", "like", "ilike"}
    | {"distinct", "from", "between"}
)


def create_index_statements(connection: Connection, target: Target) -> tuple[str, ...]:
    """The statements, ready to paste into psql: one, or one for each of some partitions."""
    relations = read_indexed_relations(connection, [target.facts.oid])[target.facts.oid]
    return tuple(
        f"{missing_rows_index(target, relation.schema, relation.name).as_string(None)};"
        for relation in relations[:RELATIONS_NAMED]
    )


def missing_rows_index(
    target: Target, schema: str, table: str, *, name: str | None = None, partitioned: bool = False
) -> sql.Composed:
    """The CREATE INDEX for a table or a partition of the target; with a name, idempotent.

    That of a partitioned table stands on it alone, takes a short lock, and waits for those of its
    partitions to be attached: PostgreSQL builds none concurrently over all partitions.
    """
    conditions = [sql.SQL("{} IS NULL").format(sql.Identifier(target.embedding.name))]
    conditions += immutable_conditions(target.declared.where, target.facts.columns)
    return sql.SQL("CREATE INDEX {how}{name}ON {only}{table} ({indexed}) WHERE {condition}").format(
        how=sql.SQL("" if partitioned else "CONCURRENTLY "),
        name=sql.SQL("")
        if name is None
        else sql.SQL("IF NOT EXISTS {} ").format(sql.Identifier(name)),
        only=sql.SQL("ONLY " if partitioned else ""),
        table=sql.Identifier(schema, table),
        indexed=_indexed(target),
        condition=sql.SQL(" AND ").join(conditions),
    )


def plain_column(source: str | None, columns: Mapping[str, Column]) -> str | None:
    """The name of the column that an expression of the settings is; None for any other one."""
    try:
        name = parse_identifier((source or "").strip())
    except ValueError:
        return None
    return name if name in columns else None


def _indexed(target: Target) -> sql.Composable:
    """What the index is on: its condition finds the rows, so anything small will do."""
    tenant = plain_column(target.declared.tenant, target.facts.columns)
    names = (tenant,) if tenant is not None else target.key_names
    return sql.SQL(", ").join(map(sql.Identifier, names)) if names else sql.SQL("(1)")


def immutable_conditions(where: str | None, columns: Mapping[str, Column]) -> list[sql.Composed]:
    """Those conditions of `where`, joined by AND, that an index may certainly have as its own.

    What a function, a cast or the time of day decides is left out: the index then holds a few rows
    more, and is used all the same.
    """
    pieces = _split_by_and(where) if where else None
    return [embed_sql(piece) for piece in pieces or () if _immutable(piece, columns)]


def _split_by_and(where: str) -> list[str] | None:
    """The operands of the outermost ANDs; the whole where an OR or a BETWEEN stands beside one.

    None where something in it is not understood.
    """
    pieces, begin, depth, others = [], 0, 0, False
    for found in _tokens(where):
        if found is None:
            return None
        depth += (found["open"] is not None) - (found["close"] is not None)
        word = (found["word"] or "").lower()
        if depth == 0 and word in {"or", "between"}:
            others = True
        if depth == 0 and word == "and":
            pieces.append(where[begin : found.start()].strip())
            begin = found.end()
    pieces.append(where[begin:].strip())
    return [where.strip()] if others else pieces


def _immutable(condition: str, columns: Mapping[str, Column]) -> bool:
    """Whether it is made of columns, literals, comparisons and IS alone.

    Columns of different types do not meet in it: comparing a date with a timestamp asks the clock.
    """
    types = set()
    before: re.Match[str] | None = None
    for found in _tokens(condition):
        if found is None or found["other"]:
            return False
        if found["open"] and before is not None and before["word"]:
            if before["word"].lower() not in _KEYWORDS:
                return False
        elif found["word"] and found["word"].lower() not in _KEYWORDS:
            name = plain_column(found["word"], columns)
            if name is None:
                return False
            types.add(columns[name].type)
        before = found
    return len({kind for kind in types if kind.startswith(("date", "time"))}) < 2


def _tokens(text: str) -> Iterator[re.Match[str] | None]:
    """Every token; None for the first thing that is none."""
    place, end = 0, len(text.rstrip())
    while place < end:
        found = _TOKEN.match(text, place)
        yield found
        if found is None:
            return
        place = found.end()


def uses_partial_index(connection: Connection, statement: sql.Composed) -> bool:
    """Whether the server could read a statement's rows through a partial index that is there.

    Asks the planner, which knows what an index's condition implies; reads no row.
    """
    with connection.transaction(force_rollback=True):
        connection.execute("SELECT pg_catalog.set_config('enable_seqscan', 'off', true)")
        row = connection.execute(
            sql.SQL("EXPLAIN (FORMAT JSON, COSTS OFF) {}").format(statement)
        ).fetchone()
    names = sorted(set(index_names(row[0] if row else None)))
    found = connection.execute(_PARTIAL, {"names": names}).fetchone()
    return found == (True,)


_PARTIAL = """
SELECT EXISTS (
    SELECT FROM pg_catalog.pg_index AS i
    JOIN pg_catalog.pg_class AS c ON c.oid = i.indexrelid
    WHERE i.indpred IS NOT NULL AND c.relname = ANY(%(names)s)
)
"""
