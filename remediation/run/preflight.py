"""Prepares a repair: the write side, the keys, the endpoint, all tenants.

Reads the database; asks no provider and writes nothing.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql

from checks.database.connection import connect, read_only, reason_of
from checks.database.connection_url import parse_url
from checks.database.server import read_server
from checks.errors import CannotExamineError, IntegrityError
from checks.redaction import redactor
from checks.row_checks.row_relation import rows_of
from checks.targets.resolution import resolve
from remediation.provider.endpoint import Endpoint, base_url_of, extra_headers_of, key_row
from remediation.provider.keys import KeyRing
from remediation.provider.openai_compatible.embeddings import OpenAIEmbeddings
from remediation.provider.rate_limits import RateLimits

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from checks.database.connection import Connection, ConnectionTarget
    from checks.database.server import Server
    from checks.examination.examination import Examination
    from checks.settings.integrity_toml import Settings
    from checks.targets.target import Target
    from remediation.provider.endpoint import KeyRow
    from remediation.provider.protocol import EmbeddingProvider


class RepairRefusedError(IntegrityError):
    """The repair cannot begin at all; the message says why and what to do."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WriteSide:
    """Where a run writes, and a connection to it."""

    place: ConnectionTarget
    server: Server
    connection: Connection


@contextmanager
def open_write_side(
    settings: Settings,
    environment: Mapping[str, str],
    examination: Examination,
    read_place: ConnectionTarget,
) -> Iterator[WriteSide]:
    """Connect to the write side, and make sure that it is the database that was read.

    Raises `RepairRefusedError`, `CannotExamineError` and `ConnectionUrlError`.
    """
    place = write_place(settings, environment, read_place)
    with connect(place) as connection:
        with read_only(connection, place, statement_timeout=settings.database.statement_timeout):
            server = read_server(connection)
        variable = settings.database.write_url_env
        require_same_database(
            examination.server, server, variable if environment.get(variable) else None
        )
        yield WriteSide(place=place, server=server, connection=connection)


def write_place(
    settings: Settings, environment: Mapping[str, str], read_place: ConnectionTarget
) -> ConnectionTarget:
    """Where a run writes. Raises `ConnectionUrlError`."""
    variable = settings.database.write_url_env
    url = environment.get(variable)
    if not url:
        return read_place
    place = parse_url(url, variable=variable)
    if place.search_path is None:
        place = replace(place, search_path=read_place.search_path)
    return place


def endpoint_of(settings: Settings, environment: Mapping[str, str], target: Target) -> Endpoint:
    """Where a table's texts are embedded, unless a tenant has an endpoint of its own.

    Raises `RepairRefusedError` for a malformed base URL.
    """
    provider = settings.provider
    try:
        return Endpoint(
            base_url=base_url_of(provider, environment),
            model=target.model,
            dimensions=target.model_dimensions,
            stored_dimensions=target.dimensions,
            send_dimensions=provider.send_dimensions,
            stored_as=target.embedding_type.name,
            answered_models=provider.answered_models,
            extra_body=json.dumps(dict(provider.extra_body), default=float),
            extra_headers=extra_headers_of(provider, environment),
            stamped=target.provenance_column("model_column") is not None,
        )
    except ValueError as error:
        words = str(error)
        where = "[provider]" if words.startswith("extra_headers") else "OPENAI_BASE_URL:"
        raise RepairRefusedError(f"{where} {words}") from None


def provider_at(endpoint: Endpoint) -> EmbeddingProvider:
    """The provider of an endpoint: all that can be declared so far speak as OpenAI does."""
    return OpenAIEmbeddings(endpoint)


def rate_limits(settings: Settings) -> RateLimits:
    """The limits of every key by the settings; the provider's own are not known yet."""
    return RateLimits(
        requests_per_minute=settings.repair.requests_per_minute,
        tokens_per_minute=settings.repair.tokens_per_minute,
    )


def require_same_database(read: Server, write: Server, variable: str | None) -> None:
    """Raise `RepairRefusedError` where a repair would write elsewhere, or to a replica."""
    if not read.same_database_as(write):
        raise RepairRefusedError(
            f"the checks read database {read.database!r}, but {variable} leads to another one,"
            f" {write.database!r} at {write.address or 'the local socket'}; a repair writes only"
            " where the checks looked"
        )
    if write.in_recovery:
        raise RepairRefusedError(
            f"database {write.database!r} at {write.address or 'the local socket'} is a replica,"
            " which cannot be written; set REMEDIATION_DATABASE_URL (or what write_url_env names)"
            " to the primary"
        )


def key_ring(
    connection: Connection,
    place: ConnectionTarget,
    settings: Settings,
    environment: Mapping[str, str],
    known: Iterable[str | None],
) -> KeyRing:
    """The ring of `[keys]`, for the `known_tenants`; its SQL runs on the connection, read-only."""
    keys = settings.keys

    def lookup(tenant: str) -> KeyRow | None:
        timeout = settings.database.statement_timeout
        with read_only(connection, place, statement_timeout=timeout):
            cursor = connection.execute(keys.sql or "", {"tenant": tenant})
            row = cursor.fetchone()
        if row is None:
            return None
        found = key_row([column.name for column in cursor.description or ()], row)
        redactor.add(None if found is None else found.api_key)
        return found

    return KeyRing(
        env=keys.env,
        sql_lookup=lookup if keys.sql is not None else None,
        command=keys.command,
        fallback_env=keys.fallback_env,
        environ=environment,
        known_tenants=known,
    )


def known_tenants(
    connection: Connection,
    place: ConnectionTarget,
    settings: Settings,
    examination: Examination,
) -> set[str | None]:
    """Tenants of every declared table, from its complete measurements or else from the database.

    Raises `CannotExamineError` where a table's tenants cannot be read: a name that is not seen
    might share a variable with one that is.
    """
    tenants: set[str | None] = {name for table in settings.tables for name in table.tenants}
    measured = set()
    for table in examination.tables:
        tenants.update(m.segment.tenant for m in table.measurements)
        if table.measured and table.part.whole and not examination.restricted:
            measured.add(table.target.name)
    timeout = settings.database.statement_timeout
    try:
        with read_only(connection, place, statement_timeout=timeout):
            targets = resolve(connection, settings, examination.server)
        for target in targets:
            if target.name in measured or not target.scannable:
                continue
            with read_only(
                connection,
                place,
                statement_timeout=timeout,
                row_security=target.row_security,
            ):
                statement = sql.SQL("SELECT DISTINCT tenant FROM {} AS r").format(rows_of(target))
                tenants.update(row[0] for row in connection.execute(statement))
    except psycopg.Error as error:
        raise CannotExamineError(
            f"cannot list the tenants, whose names decide whose key is whose: {reason_of(error)}"
        ) from None
    return tenants
