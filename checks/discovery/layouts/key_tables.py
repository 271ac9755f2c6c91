"""Finds tables that look as if they held the tenants' API keys. Reads the catalog, and no value."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from checks.database.catalog import read_relations
from checks.discovery.names import NO_TENANT_TYPES, TENANTS, TEXT_TYPES, named, plain

if TYPE_CHECKING:
    from collections.abc import Iterator

    from checks.database.catalog import Column, Relation
    from checks.database.connection import Connection
    from checks.discovery.layouts.candidates import Candidates

_HOLDERS = """
SELECT DISTINCT a.attrelid::bigint
FROM pg_catalog.pg_attribute AS a
WHERE a.attrelid = ANY(%(oids)s::oid[]) AND a.attnum > 0 AND NOT a.attisdropped
  AND a.attname::text ~* '(api|openai|embedding|provider|llm).*key'
"""

_KEY = re.compile(r"(api|openai|embedding|provider|llm).*key")
_NO_KEY = re.compile(r"hash|digest|prefix|hint|last|id$|name$|created|updated|count")
"""Columns beside a key, which hold no key."""

_OF_TENANTS = re.compile(r"(tenants?|organi[sz]ations?|orgs?|workspaces?|accounts?|compan(y|ies)"
                         r"|customers?|teams?|users?)$")  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class KeyTable:
    """A table that may hold keys, with the query for `[keys] sql`."""

    name: str
    column: str
    sql: str
    encrypted: bool
    """Whether its name says that a key must be deciphered first."""


def key_tables(connection: Connection, found: Candidates) -> Iterator[KeyTable]:
    """Each table with a column for a key and one for whose it is."""
    oids = [name.oid for name in found.names if not name.partition]
    holders = [oid for (oid,) in connection.execute(_HOLDERS, {"oids": oids})]
    for relation in read_relations(connection, holders).values():
        columns = relation.columns.values()
        keys = [column for column in columns if _may_hold_a_key(column)]
        owner = _owner(relation)
        if not keys or owner is None or not relation.readable:
            continue
        words = [relation.schema, relation.name, keys[0].name, owner.name]
        schema, table, key, whose = (_quoted(connection, word) for word in words)
        cast = "" if owner.type in TEXT_TYPES else "::text"
        yield KeyTable(
            name=f"{relation.schema}.{relation.name}",
            column=keys[0].name,
            # Printed for the owner of the database, with names as its server quotes them.
            sql=f"SELECT {key} FROM {schema}.{table} WHERE {whose}{cast} = %(tenant)s",  # noqa: S608
            encrypted=keys[0].type == "bytea" or "crypt" in plain(keys[0].name),
        )


def _may_hold_a_key(column: Column) -> bool:
    name = plain(column.name)
    fits = _KEY.search(name) is not None and _NO_KEY.search(name) is None
    return fits and column.type in (*TEXT_TYPES, "bytea")


def _owner(relation: Relation) -> Column | None:
    """Whose key it is: a tenant's column, or the key of a table of tenants."""
    found = named(relation.columns.values(), TENANTS, not_types=NO_TENANT_TYPES)
    if found:
        return found[0]
    of_tenants = _OF_TENANTS.search(relation.name.lower()) is not None
    if of_tenants and len(relation.primary_key) == 1:
        return relation.columns[relation.primary_key[0]]
    return None


def _quoted(connection: Connection, word: str) -> str:
    row = connection.execute("SELECT pg_catalog.quote_ident(%s)", (word,)).fetchone()
    assert row is not None
    return str(row[0]).replace("%", "%%")
