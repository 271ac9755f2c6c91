"""Enters a run, the work on its tables and the parts of that in the shared schema, and reads them.

Statements only; decides nothing.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, LiteralString

from psycopg import sql
from psycopg.types.json import Jsonb

from checks.redaction import redactor
from remediation.distributed.orders import Orders
from remediation.distributed.shared.schema import SCHEMA

if TYPE_CHECKING:
    from collections.abc import Sequence

    from checks.database.connection import Connection
    from checks.settings.integrity_toml import Settings
    from remediation.selection.put_aside import KeyedRow
    from remediation.table_repair.circuit_breaker import CircuitBreaker

_HERE = sql.Identifier(SCHEMA)


def _of(statement: LiteralString) -> sql.Composed:
    return sql.SQL(statement).format(schema=_HERE)


_BEGIN_RUN = _of("""
INSERT INTO {schema}.run (run_id, sweep, header, price, max_rows, max_cost, rows, tokens)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s)
""")
_FORGET = _of("""
DELETE FROM {schema}.run AS r
WHERE begun_at < pg_catalog.clock_timestamp() - interval '40 days'
  AND NOT EXISTS (SELECT FROM {schema}.journal AS j WHERE j.run_id = r.run_id)
""")
_CAPS = _of("SELECT max_rows, max_cost, price FROM {schema}.run WHERE run_id = %s")
_BEGIN_WORK = _of("""
INSERT INTO {schema}.work (run_id, table_name, token, orders) VALUES (%s, %s, %s, %s)
ON CONFLICT (run_id, table_name)
DO UPDATE SET token = excluded.token, orders = excluded.orders, over = false
""")
_WORK = _of("SELECT orders FROM {schema}.work WHERE run_id = %s AND table_name = %s AND NOT over")
_OVER = _of("UPDATE {schema}.work SET over = true WHERE run_id = %s AND table_name = %s")
_END_WORK = _of("DELETE FROM {schema}.work WHERE run_id = %s")
_ADD_PART = _of("""
INSERT INTO {schema}.part (run_id, table_name, number, rows, refusals) VALUES (%s, %s, %s, %s, %s)
""")
_BEGIN_PART = _of("""
UPDATE {schema}.part SET begun = true
WHERE run_id = %s AND table_name = %s AND number = %s AND NOT ended RETURNING rows, refusals
""")
_END_PART = _of("""
UPDATE {schema}.part SET ended = %s, begun = false, stopped = %s
WHERE run_id = %s AND table_name = %s AND number = %s
""")
_PARTS = _of("""
SELECT number, begun, ended, stopped FROM {schema}.part WHERE run_id = %s AND table_name = %s
""")
_TAKE_PART = _of("""
DELETE FROM {schema}.part WHERE run_id = %s AND table_name = %s AND number = %s RETURNING rows
""")
_ADD_STOP = _of("""
INSERT INTO {schema}.stop (run_id, table_name, kind, name, reason) VALUES (%s, %s, %s, %s, %s)
ON CONFLICT DO NOTHING
""")
_STOPS = _of("SELECT kind, name, reason FROM {schema}.stop WHERE run_id = %s AND table_name = %s")
_JOBS_WAIT = _of("""
SELECT EXISTS (
    SELECT FROM {schema}.procrastinate_jobs
    WHERE status = 'todo' AND args ->> 'run_id' = %s AND args ->> 'table' = %s
)
""")
_DROP_JOBS = _of("""
DELETE FROM {schema}.procrastinate_jobs
WHERE status = 'todo' AND args ->> 'run_id' = %s AND args ->> 'table' = %s
""")


@dataclass(frozen=True, kw_only=True, slots=True)
class PartState:
    """How far a part is."""

    number: int
    begun: bool
    ended: bool
    stopped: str | None
    """Why its worker ended before its last row."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkRows:
    """The rows of one table's repair. Every call may raise psycopg's errors."""

    connection: Connection
    run_id: str
    table: str

    @property
    def _name(self) -> tuple[str, str]:
        return self.run_id, self.table

    def begin(self, token: int, orders: Orders) -> None:
        """Enter the work, maybe once more; the lock `token` is held already."""
        self.connection.execute(_BEGIN_WORK, (*self._name, token, Jsonb(asdict(orders))))

    def orders(self) -> Orders | None:
        """What a worker must know; None where the work is over."""
        row = self.connection.execute(_WORK, self._name).fetchone()
        return None if row is None else Orders(**row[0])

    def caps(self) -> dict[str, Any]:
        """The caps of the run, as `Budget` takes them."""
        row = self.connection.execute(_CAPS, (self.run_id,)).fetchone()
        assert row is not None
        return dict(zip(("max_rows", "max_cost", "price_per_million_tokens"), row, strict=True))

    def end(self) -> None:
        """Tell the workers to stop, and take back the jobs that none has begun."""
        self.connection.execute(_OVER, self._name)
        self.drop_jobs()

    def drop_jobs(self) -> None:
        """Take back the jobs that no worker has begun."""
        self.connection.execute(_DROP_JOBS, self._name)

    def jobs_wait(self) -> bool:
        """Whether there are jobs that no worker has begun."""
        ((wait,),) = self.connection.execute(_JOBS_WAIT, self._name).fetchall()
        return bool(wait)

    def add_part(self, number: int, rows: Sequence[KeyedRow], refusals: list[list[Any]]) -> None:
        self.connection.execute(_ADD_PART, (*self._name, number, Jsonb(rows), Jsonb(refusals)))

    def begin_part(self, number: int) -> tuple[list[KeyedRow], list[list[Any]]] | None:
        """The rows of a part, and what is remembered of them; None where it has ended."""
        row = self.connection.execute(_BEGIN_PART, (*self._name, number)).fetchone()
        return None if row is None else ([tuple(each) for each in row[0]], row[1])

    def end_part(self, number: int, *, ended: bool, stopped: str | None) -> None:
        """Say how a part ended; not `ended`: another worker shall go on."""
        words = None if stopped is None else redactor.clean(stopped)
        self.connection.execute(_END_PART, (ended, words, *self._name, number))

    def parts(self) -> list[PartState]:
        """Those that were not taken yet."""
        return [
            PartState(number=number, begun=begun, ended=ended, stopped=stopped)
            for number, begun, ended, stopped in self.connection.execute(_PARTS, self._name)
        ]

    def take_part(self, number: int) -> list[KeyedRow]:
        """Remove a part; returns its rows."""
        row = self.connection.execute(_TAKE_PART, (*self._name, number)).fetchone()
        return [] if row is None else [tuple(each) for each in row[0]]

    def tell_stops(self, breaker: CircuitBreaker) -> None:
        """Enter what a worker learnt is no use."""
        for kind, stops in (
            ("check", breaker.stopped_checks),
            ("tenant", breaker.stopped_tenants),
        ):
            for name, reason in stops.items():
                self.connection.execute(
                    _ADD_STOP, (*self._name, kind, json.dumps(name), redactor.clean(reason))
                )

    def learn_stops(self, breaker: CircuitBreaker) -> None:
        """Take in what other workers learnt."""
        for kind, name, reason in self.connection.execute(_STOPS, self._name).fetchall():
            if kind == "check":
                breaker.stopped_checks.setdefault(name, reason)
            else:
                breaker.stopped_tenants.setdefault(name, reason)


def begin_run(
    connection: Connection,
    run_id: str,
    settings: Settings,
    *,
    header: bytes,
    rows: int,
    tokens: int,
    sweep: bool,
) -> None:
    """Enter a run with its caps and what it has used of them; forget old ones."""
    connection.execute(_FORGET)
    connection.execute(
        _BEGIN_RUN,
        (
            run_id,
            sweep,
            header.decode(),
            settings.provider.price_per_million_tokens,
            settings.repair.max_rows,
            settings.repair.max_cost,
            rows,
            tokens,
        ),
    )


def end_run(connection: Connection, run_id: str) -> None:
    """Remove all of a run but its cost, and lines of its journal that are still to be taken in."""
    connection.execute(_END_WORK, (run_id,))
