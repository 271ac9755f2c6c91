"""Reads which server and database a connection leads to: versions, role, identity, extension.

Reads the catalog only; judges nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from checks.database.connection import Connection


@dataclass(frozen=True, kw_only=True, slots=True)
class DatabaseIdentity:
    """What identifies a database whatever the host: a replica has its primary's identity."""

    system_identifier: int | None
    database: str
    database_oid: int

    def same_as(self, other: DatabaseIdentity) -> bool:
        if self.system_identifier is not None and other.system_identifier is not None:
            return (self.system_identifier, self.database_oid) == (
                other.system_identifier,
                other.database_oid,
            )
        return (self.database, self.database_oid) == (other.database, other.database_oid)


@dataclass(frozen=True, kw_only=True, slots=True)
class Server:
    """The server and database that a connection leads to."""

    version: str
    version_number: int
    system_identifier: int | None
    database: str
    database_oid: int
    role: str
    address: str | None
    port: int | None
    in_recovery: bool
    vector_version: str | None
    vector_schema: str | None
    encoding: str = "UTF8"
    """Of the database; in SQL_ASCII a text may be any bytes."""
    pgcrypto_schema: str | None = None
    """Where the extension pgcrypto is, which has sha1; None where it is not installed."""
    folding_collation: str | None = None
    """A collation of pg_catalog that knows the letters of all scripts; None where there is none."""

    @property
    def has_subvector(self) -> bool:
        """Whether pgvector has subvector(), which came with 0.7.0 (its CHANGELOG)."""
        numbers = re.findall(r"[0-9]+", self.vector_version or "")
        return [int(number) for number in numbers[:2]] >= [0, 7]

    @property
    def identity(self) -> DatabaseIdentity:
        return DatabaseIdentity(
            system_identifier=self.system_identifier,
            database=self.database,
            database_oid=self.database_oid,
        )

    def same_database_as(self, other: Server) -> bool:
        """Whether both connections lead to one database (a replica counts as its primary)."""
        return self.identity.same_as(other.identity)


_SERVER = """
SELECT
    pg_catalog.current_setting('server_version')           AS version,
    pg_catalog.current_setting('server_version_num')::int  AS version_number,
    d.datname                                   AS database,
    d.oid::bigint                               AS database_oid,
    current_user::text                          AS role,
    host(inet_server_addr())                    AS address,
    inet_server_port()                          AS port,
    pg_is_in_recovery()                         AS in_recovery,
    e.extversion                                AS vector_version,
    n.nspname                                   AS vector_schema,
    c.nspname                                   AS pgcrypto_schema,
    pg_catalog.current_setting('server_encoding')          AS encoding,
    (SELECT collname FROM pg_catalog.pg_collation
     WHERE collname IN ('pg_c_utf8', 'und-x-icu')
       AND pg_catalog.pg_encoding_to_char(d.encoding) = 'UTF8'
       AND collnamespace = 'pg_catalog'::pg_catalog.regnamespace::oid
     ORDER BY collname LIMIT 1)                 AS folding_collation
FROM pg_catalog.pg_database AS d
LEFT JOIN pg_catalog.pg_extension AS e ON e.extname = 'vector'
LEFT JOIN pg_catalog.pg_namespace AS n ON n.oid = e.extnamespace
LEFT JOIN pg_catalog.pg_extension AS p ON p.extname = 'pgcrypto'
LEFT JOIN pg_catalog.pg_namespace AS c ON c.oid = p.extnamespace
WHERE d.datname = current_database()
"""

# Two statements: PostgreSQL demands the right to call a function even where CASE skips the call.
_MAY_SEE_IDENTIFIER = (
    "SELECT pg_catalog.has_function_privilege('pg_catalog.pg_control_system()', 'EXECUTE')"
)
_SYSTEM_IDENTIFIER = "SELECT system_identifier FROM pg_catalog.pg_control_system()"


def read_server(connection: Connection) -> Server:
    """The facts of the server; the system identifier is None where the role may not see it."""
    row = connection.execute(_SERVER).fetchone()
    if row is None:
        raise LookupError("the catalog does not list the current database")
    may_see = connection.execute(_MAY_SEE_IDENTIFIER).fetchone() == (True,)
    identifier = connection.execute(_SYSTEM_IDENTIFIER).fetchone() if may_see else None
    return Server(
        version=row[0],
        version_number=row[1],
        database=row[2],
        database_oid=row[3],
        role=row[4],
        address=row[5],
        port=row[6],
        in_recovery=row[7],
        vector_version=row[8],
        vector_schema=row[9],
        pgcrypto_schema=row[10],
        encoding=row[11],
        folding_collation=row[12],
        system_identifier=identifier[0] if identifier else None,
    )
