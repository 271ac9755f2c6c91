"""Opens the queue of jobs in its schema, and names what waits in it.

Knows nothing of repairs. Its connections set search_path as they start, which PgBouncer refuses.
"""

from __future__ import annotations

import asyncio
import hashlib
from typing import TYPE_CHECKING, Any, Self

import procrastinate
import psycopg
from procrastinate.retry import BaseRetryStrategy, RetryDecision
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from checks.database.addresses import LEAST_SECONDS, resolved
from checks.database.connection import CONNECT_TIMEOUT_SECONDS, KEEPALIVE, connect
from checks.database.session import CLIENT_ENCODING
from checks.errors import CannotExamineError, IntegrityError
from remediation.distributed.shared.schema import SCHEMA, own_session

if TYPE_CHECKING:
    from procrastinate.jobs import Job

    from checks.database.connection import ConnectionTarget
    from checks.settings.integrity_toml import Settings

REPAIR = "repair_part"
SWEEP = "sweep"
HEARTBEAT_SECONDS = 1.0
STALLED_SECONDS = 10.0
"""A worker that is silent for longer is taken for dead, and its job is given to another."""
MOST_TRIES = 5
"""Of one job, those counted that a worker gave back as it ended."""
TRY_AGAIN_SECONDS = 3


class NoSessionError(IntegrityError):
    """A pooler stands before the server; the message says what the queue needs instead."""

    def __init__(self, place: ConnectionTarget, found: str) -> None:
        variable = f" in {place.variable}" if place.variable else ""
        super().__init__(
            "workers and their coordinator need connections that take `options` at their start, as"
            f" a pooler such as PgBouncer does not; found: {found}. Put the server's own address"
            f" into the URL{variable}, for them alone"
        )


class GivenBackError(Exception):
    """The worker ends; another is to do the rest of the job."""


class TryAgain(BaseRetryStrategy):
    """Gives a job back at once where its worker ends, and tries it some times where it failed."""

    def get_retry_decision(self, *, exception: BaseException, job: Job) -> RetryDecision | None:
        if isinstance(exception, GivenBackError):
            return RetryDecision(retry_in={"seconds": 0})
        if job.attempts + 1 >= MOST_TRIES:
            return None
        return RetryDecision(retry_in={"seconds": TRY_AGAIN_SECONDS})


def require_session(place: ConnectionTarget) -> None:
    """Raise `NoSessionError` where a connection would not keep what is set as it starts.

    A pool of connections would ask again and again for half a minute, and say only that it failed.
    Raises `CannotExamineError` where none can be opened at all.
    """
    connect(place).close()
    try:
        with connect(own_session(place)) as connection:
            (found,) = connection.execute("SELECT current_setting('search_path')").fetchone() or (
                "",
            )
    except CannotExamineError as error:
        raise NoSessionError(place, str(error).partition("; check")[0]) from None
    if found != SCHEMA:
        raise NoSessionError(place, f"its search_path is {found}, in spite of them")


def open_queue(place: ConnectionTarget) -> procrastinate.App:
    """The queue; opened by `async with app.open_async()`."""
    parameters = {
        "connect_timeout": str(CONNECT_TIMEOUT_SECONDS),
        **KEEPALIVE,
        **own_session(place).parameters,
        "client_encoding": CLIENT_ENCODING,
    }
    return procrastinate.App(
        connector=procrastinate.PsycopgConnector(
            conninfo=make_conninfo(**parameters),
            connection_class=QueueConnection,
            min_size=1,
            max_size=4,
            kwargs={"prepare_threshold": None},
        )
    )


class QueueConnection(psycopg.AsyncConnection[Any]):
    """Has the names of its hosts looked for in time, each time anew: the server may have moved."""

    @classmethod
    async def connect(cls, conninfo: str = "", **given: Any) -> Self:
        """Open a connection. Raises psycopg's errors."""
        parameters = {name: str(value) for name, value in conninfo_to_dict(conninfo).items()}
        seconds = max(LEAST_SECONDS, int(parameters["connect_timeout"]))
        try:
            addresses = await asyncio.to_thread(resolved, parameters, seconds=seconds)
        except OSError as error:
            raise psycopg.OperationalError(str(error)) from None
        return await super().connect(conninfo, **{**given, **addresses})


def queue_name(settings: Settings, kind: str = "repair") -> str:
    """The queue of those who have the same settings: a worker with others takes no job of it."""
    meant = settings.model_dump_json(
        include={"provider", "keys", "tables"},
        exclude={"provider": {"batch_size", "concurrency"}},
    )
    return f"{kind}-{hashlib.sha256(meant.encode()).hexdigest()[:16]}"
