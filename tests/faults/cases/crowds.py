"""Cases: rows of many tenants in every order, in tables that are repaired within this process.

Each table is an interleaving of its own: which tenants it has, how many rows of each fail, and in
which order they stand.
"""

from __future__ import annotations

import random
from functools import partial
from typing import TYPE_CHECKING

import psycopg

from demo.postgres import create_database, drop_database
from remediation.journal.outcomes import Outcome
from tests.drivers.repairs import environment, key_of, repaired, settings
from tests.faults.stages.ground import Case
from tests.faults.stages.invariants import wrong_rows, wrong_texts
from tests.faults.stages.rows import healthy, snapshot
from tests.faults.stages.stage import literal
from tests.servers.provider_server import ProviderServer, Reply, vector_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from tests.faults.stages.ground import Ground
    from tests.faults.stages.rows import Row
    from tests.servers.provider_server import ReceivedRequest

TABLES_AT_ONCE = 200
MOST_TENANTS = 6
MOST_ROWS = 14


def interleavings(tables: int) -> Iterator[Case]:
    """As many tables as that, in repairs of `TABLES_AT_ONCE`."""
    for begin in range(0, tables, TABLES_AT_ONCE):
        count = min(TABLES_AT_ONCE, tables - begin)
        number = begin // TABLES_AT_ONCE + 1
        yield Case(name=f"interleavings-{number}", run=partial(_interleaved, count))


def _interleaved(tables: int, ground: Ground, seed: int) -> list[str]:
    chance = random.Random(seed)
    tenants = [f"t{number}" for number in range(20)]
    name = ground.database_name()
    url = create_database(ground.server, name)
    owners: dict[str, set[str]] = {}
    names = [f"crowd_{number}" for number in range(tables)]
    try:
        with psycopg.connect(url, autocommit=True) as connection, ProviderServer() as server:
            connection.execute("CREATE EXTENSION vector")
            for table in names:
                _fill(connection, table, chance, tenants, owners)
            dead = chance.choice(tenants)
            shuffling = random.Random(seed)

            def rule(request: ReceivedRequest) -> Reply | None:
                if request.key == key_of(dead):
                    return Reply(status=401, error={"message": "no", "code": "invalid_api_key"})
                if shuffling.random() < 0.3:
                    return Reply(change=lambda body: shuffling.shuffle(body["data"]))
                return None

            server.always(rule)
            before = {table: snapshot(connection, table) for table in names}
            chosen = settings(
                server,
                provider={"batch_size": chance.randrange(1, 6), "concurrency": 3},
                table={
                    "name": "public.crowd_*",
                    "where": None,
                    "content_hash": "content_hash",
                    "checks": {"uniqueness": {"enabled": False}},
                },
            )
            with ground.folder() as folder:
                done = repaired(url, chosen, folder, keys=environment(*tenants))
            wrong = []
            accounts = {result.table: result.account for result in done.results}
            everything: dict[int, Row] = {}
            for table in names:
                after = snapshot(connection, table)
                wrong += [f"{table}: {one}" for one in wrong_rows(before[table], after)]
                left = {row.id for row in after.values() if not healthy(row)}
                of_dead = {
                    row.id
                    for row in before[table].values()
                    if row.tenant == dead and not healthy(row)
                }
                if left != of_dead:
                    wrong.append(f"{table}: rows {left} are left, of the dead key are {of_dead}")
                account = accounts.get(f"public.{table}")
                fixed = account.count(Outcome.FIXED) if account else 0
                failing = sum(not healthy(row) for row in before[table].values())
                if fixed != failing - len(left) or (account and account.selected != failing):
                    wrong.append(f"{table}: {fixed} fixed of {failing}, and {len(left)} are left")
                everything |= {len(everything) + n: row for n, row in enumerate(after.values())}
            wrong += wrong_texts(server.requests, everything, owners, raced=True)
    finally:
        drop_database(ground.server, name)
    ground.counts["interleavings"] += tables
    return wrong


def _fill(
    connection: psycopg.Connection[Any],
    table: str,
    chance: random.Random,
    tenants: list[str],
    owners: dict[str, set[str]],
) -> None:
    """A few tenants' rows, whole and failing, in a random order."""
    present = chance.sample(tenants, chance.randrange(1, MOST_TENANTS + 1))
    rows = []
    for number in range(1, chance.randrange(1, MOST_ROWS + 1) + 1):
        tenant = chance.choice(present)
        body = f"{table} {number} of {tenant}"
        owners[body] = {tenant}
        whole = literal(vector_of(body)) if chance.random() < 0.25 else None
        rows.append((number, tenant, body, whole, body))
    connection.execute(
        f"CREATE TABLE {table} (id integer PRIMARY KEY, tenant text, body text,"
        " note text DEFAULT 'kept', embedding vector(8), content_hash text)"
    )
    with connection.cursor() as cursor:
        cursor.executemany(
            f"INSERT INTO {table} (id, tenant, body, embedding, content_hash)"
            " VALUES (%s, %s, %s, %s::vector, md5(%s))",
            rows,
        )
