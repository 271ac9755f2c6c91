"""Measures the tables again that were written to, through the connection that wrote.

A replica may lag behind what was just written, and would prove nothing. Reads only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from checks.connection import connect
from checks.measuring import examine_targets

if TYPE_CHECKING:
    from collections.abc import Collection

    from checks.connection import ConnectionTarget
    from checks.examination import Examination
    from checks.settings import Settings


def measure_again(
    examination: Examination,
    tables: Collection[str],
    place: ConnectionTarget,
    settings: Settings,
    *,
    tenants: tuple[str, ...] | None,
) -> Examination:
    """The examination with some of its tables as they are now. Raises `CannotExamineError`."""
    with connect(place) as connection:
        again = examine_targets(
            connection,
            place,
            [table.target for table in examination.tables if table.target.name in tables],
            timeout=settings.database.statement_timeout,
            tenants=tenants,
            today=examination.today,
        )
    return examination.updated(again)
