"""Creates and removes the schema that coordinator and workers share; holds what is in it.

Never touches another schema. No text, no API key and no vector's text stands in it but for the
journal's lines, on their way to the coordinator.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql

from checks.database.connection import connect, short_transaction
from checks.database.session import startup_options
from checks.errors import IntegrityError, MissingExtraError

if TYPE_CHECKING:
    from checks.database.connection import Connection, ConnectionTarget

SCHEMA = "embedding_integrity"
SET_UP_TIMEOUT = timedelta(minutes=1)
IN_FLIGHT = "15 minutes"
"""A request of a killed worker counts as in flight for so long: longer than any request takes."""

_TABLES = """
-- What all workers of a run share: its caps, and what is reserved and spent.
CREATE TABLE run (
    run_id     text PRIMARY KEY,
    sweep      boolean NOT NULL,
    begun_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    header     text NOT NULL,
    price      float8 NOT NULL,
    max_rows   bigint NOT NULL,
    max_cost   float8 NOT NULL,
    rows       bigint NOT NULL DEFAULT 0,
    reserved   bigint NOT NULL DEFAULT 0,
    requests   bigint NOT NULL DEFAULT 0,
    unanswered bigint NOT NULL DEFAULT 0,
    tokens     bigint NOT NULL DEFAULT 0,
    unsaid     bigint NOT NULL DEFAULT 0
);
-- One table's repair, alive while its coordinator holds the advisory lock `token`.
CREATE TABLE work (
    run_id     text NOT NULL REFERENCES run ON DELETE CASCADE,
    table_name text NOT NULL,
    token      integer NOT NULL,
    orders     jsonb NOT NULL,
    over       boolean NOT NULL DEFAULT false,
    PRIMARY KEY (run_id, table_name)
);
-- The rows of one job: of each its tenant, and its key as texts.
CREATE TABLE part (
    run_id     text NOT NULL,
    table_name text NOT NULL,
    number     integer NOT NULL,
    rows       jsonb NOT NULL,
    refusals   jsonb NOT NULL,
    begun      boolean NOT NULL DEFAULT false,
    ended      boolean NOT NULL DEFAULT false,
    stopped    text,
    PRIMARY KEY (run_id, table_name, number),
    FOREIGN KEY (run_id, table_name) REFERENCES work ON DELETE CASCADE
);
-- What one worker learnt that spares the others their requests.
CREATE TABLE stop (
    run_id     text NOT NULL,
    table_name text NOT NULL,
    kind       text NOT NULL,
    name       jsonb NOT NULL,
    reason     text NOT NULL,
    PRIMARY KEY (run_id, table_name, kind, name),
    FOREIGN KEY (run_id, table_name) REFERENCES work ON DELETE CASCADE
);
-- Lines of a run's journal until its coordinator has them on disk.
CREATE TABLE journal (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run_id     text NOT NULL REFERENCES run,
    lines      text NOT NULL
);
CREATE INDEX ON journal (run_id, id);
-- Requests that count against a key's limits until a moment; a key stands here as a hash.
CREATE TABLE request (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key_hash   text NOT NULL,
    tokens     bigint NOT NULL,
    until      timestamptz NOT NULL
);
CREATE INDEX ON request (key_hash, until);
-- Until when a provider wants no request with a key.
CREATE TABLE hold (
    key_hash   text PRIMARY KEY,
    until      timestamptz NOT NULL
);

-- Lets a request through and returns its id, or the seconds until it is worth asking again.
CREATE FUNCTION begin_request(
    asked text, wanted bigint, most_requests bigint, most_tokens bigint,
    OUT request_id bigint, OUT wait float8, OUT held float8
) LANGUAGE plpgsql AS $$
DECLARE
    at timestamptz;
    sent bigint;
    counted bigint;
    first timestamptz;
BEGIN
    PERFORM pg_catalog.pg_advisory_xact_lock(1701667940, pg_catalog.hashtext(asked));
    at := pg_catalog.clock_timestamp();
    SELECT extract(epoch FROM h.until - at) INTO held
    FROM embedding_integrity.hold AS h WHERE h.key_hash = asked AND h.until > at;
    IF held IS NOT NULL THEN
        wait := held;
        RETURN;
    END IF;
    IF most_requests IS NULL AND most_tokens IS NULL THEN
        request_id := 0;
        RETURN;
    END IF;
    DELETE FROM embedding_integrity.request AS r WHERE r.key_hash = asked AND r.until <= at;
    SELECT count(*), coalesce(sum(r.tokens), 0), min(r.until) INTO sent, counted, first
    FROM embedding_integrity.request AS r WHERE r.key_hash = asked;
    IF sent + 1 > most_requests OR counted + wanted > most_tokens THEN
        wait := least(greatest(extract(epoch FROM first - at), 0.05), 1);
        RETURN;
    END IF;
    INSERT INTO embedding_integrity.request (key_hash, tokens, until)
    VALUES (asked, wanted, at + interval '{in_flight}') RETURNING id INTO request_id;
END $$;

-- Counts a request until a window after its end, and passes on that its provider wants a rest.
CREATE FUNCTION end_request(
    asked text, ended bigint, billed bigint, window_seconds float8, hold_seconds float8
) RETURNS void LANGUAGE sql AS $$
    UPDATE embedding_integrity.request
    SET until = pg_catalog.clock_timestamp() + pg_catalog.make_interval(secs => window_seconds),
        tokens = greatest(tokens, billed)
    WHERE id = ended;
    INSERT INTO embedding_integrity.hold AS h (key_hash, until)
    SELECT asked,
           pg_catalog.clock_timestamp() + pg_catalog.make_interval(secs => hold_seconds)
    WHERE hold_seconds IS NOT NULL
    ON CONFLICT (key_hash) DO UPDATE SET until = greatest(h.until, excluded.until);
$$;
"""


_OWNER = """
SELECT o.rolname, o.rolname = current_user OR o.rolsuper OR o.oid = d.datdba
FROM pg_catalog.pg_namespace AS n
JOIN pg_catalog.pg_roles AS o ON o.oid = n.nspowner
JOIN pg_catalog.pg_database AS d ON d.datname = pg_catalog.current_database()
WHERE n.nspname = %s AND EXISTS (
    SELECT FROM pg_catalog.pg_class AS c WHERE c.relnamespace = n.oid AND c.relname = 'journal'
)
"""


class NotInstalledError(IntegrityError):
    """What many machines share is not there; the message says how to get it."""


class ForeignSchemaError(NotInstalledError):
    """Somebody else made a schema of that name: what is in it would run as us."""

    def __init__(self, owner: str) -> None:
        super().__init__(
            f"schema {SCHEMA} belongs to role {owner!r}, and what that role put there would run as"
            " this one: have this role, a superuser or the database's owner own it"
        )


def require_extra() -> None:
    """Raise `MissingExtraError` where procrastinate is not installed."""
    try:
        import procrastinate as procrastinate
    except ImportError as error:
        raise MissingExtraError("distributed", error.name) from None


def require_installed(connection: Connection) -> None:
    """Raise `NotInstalledError` where the schema is not in the database."""
    if not is_installed(connection):
        raise NotInstalledError(
            f"schema {SCHEMA} is not in this database; run `embedding-integrity worker"
            " --install` once"
        )


def is_installed(connection: Connection) -> bool:
    """Whether the schema is in the database. Raises `ForeignSchemaError`."""
    found = connection.execute(_OWNER, (SCHEMA,)).fetchone()
    if found is None:
        return False
    owner, trusted = found
    if not trusted:
        raise ForeignSchemaError(owner)
    return True


def install(place: ConnectionTarget) -> bool:
    """Create the schema; False where it was there.

    Raises `ForeignSchemaError` and psycopg's errors.
    """
    from procrastinate.schema import SchemaManager

    with connect(own_session(place)) as connection:
        if is_installed(connection):
            return False
        with short_transaction(connection, place, statement_timeout=SET_UP_TIMEOUT):
            connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(SCHEMA)))
            connection.execute(
                sql.SQL("SET LOCAL search_path TO {}").format(sql.Identifier(SCHEMA))
            )
            connection.execute(SchemaManager.get_schema())
            connection.execute(_TABLES.replace("{in_flight}", IN_FLIGHT).encode())
    return True


def uninstall(place: ConnectionTarget) -> bool:
    """Remove the schema with all that is in it; False where it was not there.

    Raises `NotInstalledError` where lines of a journal wait in it, and psycopg's errors.
    """
    with connect(own_session(place)) as connection:
        if not is_installed(connection):
            return False
        with short_transaction(connection, place, statement_timeout=SET_UP_TIMEOUT):
            # Nothing may be added between the look and the end.
            schema = sql.Identifier(SCHEMA)
            connection.execute(
                sql.SQL("LOCK TABLE {}.journal IN ACCESS EXCLUSIVE MODE").format(schema)
            )
            waiting = connection.execute(
                sql.SQL("SELECT DISTINCT run_id FROM {}.journal").format(schema)
            ).fetchall()
            if waiting:
                names = ", ".join(sorted(run_id for (run_id,) in waiting))
                raise NotInstalledError(
                    f"{SCHEMA} still holds what run {names} replaced, while a worker writes to it;"
                    " end the workers and try again"
                )
            connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(schema))
    return True


def own_session(place: ConnectionTarget) -> ConnectionTarget:
    """Where a connection leads to what is shared, under our settings from its start.

    What is done there is done in statements of their own, which begin no transaction of ours.
    """
    options = f"{place.parameters.get('options', '')} {startup_options(SCHEMA)}".strip()
    return replace(place, parameters={**place.parameters, "options": options})


def shared_connection(place: ConnectionTarget) -> Connection:
    """A connection for what is shared, which waits for no lock longer than its callers can.

    Raises `CannotExamineError` and `NotInstalledError`.
    """
    connection = connect(own_session(place))
    try:
        require_installed(connection)
    except (psycopg.Error, IntegrityError):
        connection.close()
        raise
    return connection
