"""Opens a repair: connects to where it writes, and makes sure that it is what was read.

Raises what refuses it before anything is planned; repairs nothing.
"""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from remediation.journal.past_throughput import Past, look_back
from remediation.journal.quarantine import Quarantine
from remediation.run.preflight import key_ring, known_tenants, open_write_side, rate_limits
from remediation.run.repair import Repair
from remediation.throttling.budget import budget_of
from remediation.writing.locked_rows import PATIENCE_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from checks.database.connection import ConnectionTarget
    from checks.examination.examination import Examination
    from checks.settings.integrity_toml import Settings
    from remediation.provider.rate_limits import RateLimits
    from remediation.provider.retry import RetryPolicy


@contextmanager
def open_repair(
    *,
    run_id: str,
    settings: Settings,
    environment: Mapping[str, str],
    examination: Examination,
    read_place: ConnectionTarget,
    tenants: tuple[str, ...] | None,
    started_from: Path = Path(),
    retry: RetryPolicy | None = None,
    lock_patience: float = PATIENCE_SECONDS,
    limits: RateLimits | None = None,
    quarantine: Quarantine | None = None,
    report_directory: Path | None = None,
) -> Iterator[Repair]:
    """Connect to the write side, and make sure that it is the database that was read.

    `retry` None: the provider's own policy; `limits` None: those of the settings; `quarantine`
    None: nothing is remembered; `report_directory`: where the journals of earlier runs are, by
    which the plan tells its time. Raises
    `RepairRefusedError`, `CannotExamineError` and `ConnectionUrlError`.
    """
    with open_write_side(settings, environment, examination, read_place) as side:
        known = known_tenants(side.connection, side.place, settings, examination)
        repair = Repair(
            run_id=run_id,
            settings=settings,
            environment=environment,
            examination=examination,
            place=side.place,
            server=side.server,
            connection=side.connection,
            keys=key_ring(side.connection, side.place, settings, environment, known),
            known_tenants=frozenset(known),
            limits=limits or rate_limits(settings),
            tenants=tenants,
            budget=budget_of(settings),
            started_from=started_from,
            retry=retry,
            lock_patience=lock_patience,
            quarantine=quarantine or Quarantine(),
            past=look_back(report_directory, side.server.identity) if report_directory else Past(),
        )
        try:
            yield repair
        finally:
            repair.close()
