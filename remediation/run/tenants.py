"""All tenants that the database knows, over every declared table: who may share a variable's name.

Reads only. A run restricted to some tables or tenants still needs them all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
from psycopg import sql

from checks.database.connection import read_only, reason_of
from checks.errors import CannotExamineError
from checks.row_checks.row_relation import rows_of
from checks.targets.resolution import resolve

if TYPE_CHECKING:
    from checks.database.connection import Connection, ConnectionTarget
    from checks.examination.examination import Examination
    from checks.settings.integrity_toml import Settings


def known_tenants(
    connection: Connection,
    place: ConnectionTarget,
    settings: Settings,
    examination: Examination,
) -> set[str | None]:
    """Tenants of every declared table: from its measurements where those are whole, else asked for.

    Raises `CannotExamineError` where a table's tenants cannot be read: a name that is not seen
    might share a variable with one that is.
    """
    tenants: set[str | None] = {name for table in settings.tables for name in table.tenants}
    measured = set()
    for table in examination.tables:
        tenants.update(m.segment.tenant for m in table.measurements)
        if table.measured and not examination.restricted:
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
