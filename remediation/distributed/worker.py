"""Takes jobs from the queue, one after another, until a signal; with sweeps, begins those too.

Logs which jobs it does, never what is in them.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import psycopg
from procrastinate.exceptions import ConnectorException
from procrastinate.jobs import Status

from checks.database.open_sockets import open_sockets
from checks.errors import IntegrityError
from checks.exit_status import ExitStatus
from checks.interruption import GRACE_SECONDS
from checks.redaction import redactor
from remediation.distributed.schedule import cron_of
from remediation.distributed.shared.queue import (
    HEARTBEAT_SECONDS,
    MOST_TRIES,
    REPAIR,
    STALLED_SECONDS,
    SWEEP,
    GivenBackError,
    TryAgain,
    open_queue,
    queue_name,
)
from remediation.ending import words_of

if TYPE_CHECKING:
    import procrastinate
    from procrastinate.job_context import JobContext

    from remediation.distributed.part_repair import PartRepairs
    from remediation.distributed.sweeps import Sweeps

FETCH_SECONDS = 1.0
"""Between looks for a job; a notification mostly comes first."""
LAST_SECONDS = 3 * GRACE_SECONDS
"""After a signal, until the process ends whatever it waits for; its job is then taken up again."""
log = logging.getLogger(__name__)


class JobFailedError(Exception):
    """A job failed; says only how, as its own words may quote what is in a row."""


def run_worker(repairs: PartRepairs, sweeps: Sweeps | None = None) -> None:
    """Work until SIGTERM or SIGINT. Raises procrastinate's errors, and those of connecting."""
    asyncio.run(_until_signal(repairs, sweeps))


async def _until_signal(repairs: PartRepairs, sweeps: Sweeps | None) -> None:
    working = asyncio.create_task(work(repairs, sweeps))

    def end() -> None:
        for seconds, last in ((GRACE_SECONDS, open_sockets.cut), (LAST_SECONDS, _end_now)):
            timer = threading.Timer(seconds, last)
            timer.daemon = True
            timer.start()
        working.cancel()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end)
    await working
    log.info("ended")


async def work(repairs: PartRepairs, sweeps: Sweeps | None = None) -> None:
    """Work until cancelled; then end in order, and return."""
    app = open_queue(repairs.place)
    _add_repair(app, repairs)
    queues = [queue_name(repairs.settings)]
    if sweeps is not None:
        # A worker of its own: a sweep waits for the jobs that it makes.
        queues.append(queue_name(repairs.settings, SWEEP))
        _add_sweep(app, sweeps, queues[-1])
    async with app.open_async():
        log.info("waiting for jobs")
        tasks = [asyncio.create_task(_take_jobs(app, queue)) for queue in queues]
        if sweeps is not None:
            tasks.append(asyncio.create_task(_drop_stalled_sweeps(app, queues[-1])))
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            repairs.end()
            if sweeps is not None:
                sweeps.ended.set()
        for task in tasks:
            task.cancel()
        for ended in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(ended, Exception):
                raise ended


async def _take_jobs(app: procrastinate.App, queue: str) -> None:
    await app.run_worker_async(
        queues=[queue],
        concurrency=1,
        install_signal_handlers=False,
        fetch_job_polling_interval=FETCH_SECONDS,
        update_heartbeat_interval=HEARTBEAT_SECONDS,
        stalled_worker_timeout=STALLED_SECONDS,
        delete_jobs="always",
    )


def _add_repair(app: procrastinate.App, repairs: PartRepairs) -> None:
    @app.task(name=REPAIR, retry=TryAgain(), pass_context=True)
    async def repair_part(
        context: JobContext, run_id: str, table: str, part: int, last: bool
    ) -> None:
        log.info("run %s: part %s of %s", run_id, part, redactor.clean(table))
        try:
            ended = await asyncio.to_thread(repairs.repair, run_id, table, part, last=last)
        except GivenBackError:
            log.info("run %s: part %s is given back", run_id, part)
            raise
        except Exception as error:
            words = redactor.clean(words_of(error))
            log.warning("run %s: part %s failed: %s", run_id, part, words)
            last = context.job.attempts + 1 >= MOST_TRIES
            reason = f"a job failed {MOST_TRIES} times: {words}" if last else None
            # Where the schema cannot be reached, the coordinator finds its own end.
            with suppress(psycopg.Error, IntegrityError):
                await asyncio.to_thread(repairs.give_up, run_id, table, part, reason=reason)
            raise JobFailedError(type(error).__name__) from None
        if ended:
            log.info("run %s: part %s ended early: %s", run_id, part, redactor.clean(ended))


def _add_sweep(app: procrastinate.App, sweeps: Sweeps, queue: str) -> None:
    @app.periodic(cron=cron_of(sweeps.every))
    @app.task(name=SWEEP, queue=queue, lock=queue, queueing_lock=queue)
    async def sweep(timestamp: int) -> None:  # noqa: ARG001 - whichever tick it is of
        try:
            await asyncio.to_thread(sweeps.sweep)
        except Exception as error:
            log.warning("the sweep failed: %s", redactor.clean(words_of(error)))
            raise JobFailedError(type(error).__name__) from None


async def _drop_stalled_sweeps(app: procrastinate.App, queue: str) -> None:
    """Make room for the next sweep where the worker of the last one died."""
    while True:
        await asyncio.sleep(STALLED_SECONDS / 2)
        stalled = await app.job_manager.get_stalled_jobs(
            queue=queue, seconds_since_heartbeat=STALLED_SECONDS
        )
        for job in stalled:
            assert job.id is not None
            # Another worker may have been as quick.
            with suppress(ConnectorException):
                await app.job_manager.finish_job_by_id_async(
                    job.id, status=Status.FAILED, delete_job=True
                )


def _end_now() -> Any:
    os._exit(ExitStatus.INTERRUPTED)
