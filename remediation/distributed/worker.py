"""Takes jobs from the queue, one after another, until a signal.

Logs which jobs it does, never what is in them.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from contextlib import suppress
from typing import TYPE_CHECKING

from checks.redaction import redactor
from remediation.distributed.queue import (
    HEARTBEAT_SECONDS,
    MOST_TRIES,
    REPAIR,
    STALLED_SECONDS,
    GivenBackError,
    TryAgain,
    open_queue,
    queue_name,
)
from remediation.interruptible import words_of

if TYPE_CHECKING:
    from procrastinate.job_context import JobContext

    from remediation.distributed.part_repair import PartRepairs

FETCH_SECONDS = 1.0
"""Between looks for a job; a notification mostly comes first."""
log = logging.getLogger(__name__)


def run_worker(repairs: PartRepairs) -> None:
    """Work until SIGTERM or SIGINT. Raises procrastinate's errors, and those of connecting."""
    asyncio.run(_work(repairs))


async def _work(repairs: PartRepairs) -> None:
    app = open_queue(repairs.place)

    @app.task(name=REPAIR, retry=TryAgain(), pass_context=True)
    async def repair_part(context: JobContext, run_id: str, table: str, part: int) -> None:
        log.info("run %s: part %s of %s", run_id, part, redactor.clean(table))
        try:
            ended = await asyncio.to_thread(repairs.repair, run_id, table, part)
        except GivenBackError:
            log.info("run %s: part %s is given back", run_id, part)
            raise
        except Exception as error:
            log.warning("run %s: part %s failed: %s", run_id, part, _words(error))
            if context.job.attempts + 1 >= MOST_TRIES:
                await asyncio.to_thread(
                    repairs.give_up, run_id, table, part, f"a job failed: {_words(error)}"
                )
            # Its own words may quote what is in a row.
            raise JobFailedError(type(error).__name__) from None
        if ended:
            log.info("run %s: part %s ended early: %s", run_id, part, redactor.clean(ended))

    async with app.open_async():
        working = asyncio.create_task(
            app.run_worker_async(
                queues=[queue_name(repairs.settings)],
                concurrency=1,
                install_signal_handlers=False,
                fetch_job_polling_interval=FETCH_SECONDS,
                update_heartbeat_interval=HEARTBEAT_SECONDS,
                stalled_worker_timeout=STALLED_SECONDS,
                delete_jobs="always",
            )
        )

        def end() -> None:
            repairs.end()
            working.cancel()

        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, end)
        log.info("waiting for jobs")
        with suppress(asyncio.CancelledError):
            await working
    log.info("ended")


class JobFailedError(Exception):
    """A job failed; says only how."""


def _words(error: Exception) -> str:
    return redactor.clean(words_of(error))
