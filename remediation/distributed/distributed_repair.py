"""Hands a repair's tables over to workers, each with a coordinator in the engine's place.

They share budget and limits of keys through the database for as long as that lasts.
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import psycopg

from remediation.distributed.coordinator import Coordinator
from remediation.distributed.shared.budget import SharedBudget
from remediation.distributed.shared.limits import SharedRateLimits
from remediation.distributed.shared.queue import open_queue
from remediation.distributed.shared.run_rows import WorkRows, begin_run, end_run
from remediation.distributed.shared.schema import shared_connection
from remediation.journal.journal import header

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator

    import procrastinate

    from checks.database.connection import Connection
    from remediation.run.repair import Repair


@contextmanager
def distributed(
    repair: Repair, *, sweep: bool = False, ended: threading.Event | None = None
) -> Iterator[None]:
    """Have workers do a repair's work in the `with` block; `ended`, set anywhere, ends it in order.

    Raises `CannotExamineError`, `NotInstalledError` and psycopg's errors.
    """
    own = repair.budget, repair.limits, repair.engine_of
    with shared_connection(repair.place) as shared, shared_connection(repair.place) as limiting:
        begin_run(
            shared,
            repair.run_id,
            repair.settings,
            header=header(repair.run_id, repair.server.identity),
            rows=own[0].rows,
            tokens=own[0].took.reckoned,
            sweep=sweep,
        )
        work = WorkRows(connection=shared, run_id=repair.run_id, table="")
        budget = SharedBudget(connection=shared, run_id=repair.run_id, **work.caps())
        repair.budget = budget
        repair.limits = SharedRateLimits(
            connection=limiting,
            requests_per_minute=own[1].requests_per_minute,
            tokens_per_minute=own[1].tokens_per_minute,
        )
        repair.engine_of = partial(
            coordinator,
            repair=repair,
            app=open_queue(repair.place),
            shared=shared,
            ended=ended,
        )
        try:
            yield
        finally:
            repair.budget, repair.limits, repair.engine_of = own
            with suppress(psycopg.Error):
                # What follows, as a canary, spends of what is left.
                own[0].took = budget.usage
                budget.close()
                end_run(shared, repair.run_id)


def coordinator(
    *,
    repair: Repair,
    app: procrastinate.App,
    shared: Connection,
    ended: threading.Event | None,
    **given: Any,
) -> Coordinator:
    """The coordinator of a table, of all that an engine is given."""
    needed = (
        "reader",
        "connection",
        "journal",
        "lock",
        "budget",
        "stop",
        "throttle",
        "on_outcome",
        "tenants",
        "breaker",
        "late",
        "aside",
        "others_wait",
        "account",
    )
    return Coordinator(
        repair=repair, app=app, shared=shared, ended=ended, **{name: given[name] for name in needed}
    )
