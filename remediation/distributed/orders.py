"""Says in JSON what a worker must know of a table's repair, and makes its checks of that again.

No SQL travels: a worker builds each check by its name, from its own settings.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from psycopg import sql

from checks.canary.drift_verdicts import NAME as DRIFT
from checks.canary.drift_verdicts import drifting_check
from checks.row_checks.applied import applied_checks
from checks.row_checks.row_check import with_sets
from remediation.run.checks_to_heal import without

if TYPE_CHECKING:
    from checks.row_checks.row_check import AppliedCheck
    from checks.row_checks.set_rule import Member
    from checks.targets.target import Target
    from remediation.run.repair import Repair
    from remediation.selection.row_reader import RowReader


@dataclass(frozen=True, kw_only=True, slots=True)
class Orders:
    """What a table's workers are told."""

    checks: list[str]
    held: list[str]
    """The checks that no write may make a row fail."""
    accepted: list[list[str | None]]
    """Check and tenant of failures that are not repaired."""
    members: dict[str, list[Member]]
    """The frozen sets of checks about sets."""
    tenants: list[str] | None
    """Those that are repaired; None: all."""
    known_tenants: list[str | None]
    """All that decide whose key is whose."""
    batch_size: int
    names: dict[str, str]
    """The other names of models that the probe has proven, by `endpoint_hash`."""
    others_wait: bool
    """Whether a table that is still to come has rows of tenants who are not late."""

    def applied(self, target: Target) -> tuple[AppliedCheck, ...]:
        """The checks as the coordinator has them. Raises LookupError where one does not apply."""
        by_name = {check.name: check for check in applied_checks(target)}
        if DRIFT in self.checks:
            by_name[DRIFT] = drifting_check(target, [])
        found = []
        for name in self.checks:
            check = by_name[name]
            if name in self.members:
                check = check.frozen(self.members[name])
            spared = {tenant for accepted, tenant in self.accepted if accepted == name}
            found.append(without(check, spared))
        return tuple(found)

    def kept(self, target: Target) -> tuple[AppliedCheck, ...]:
        """The checks that are held. Raises LookupError where one does not apply."""
        by_name = {check.name: check for check in applied_checks(target)}
        return tuple(by_name[name] for name in self.held)


def orders_of(repair: Repair, reader: RowReader, *, others_wait: bool) -> Orders:
    """The orders for a table, whose sets are frozen by now. Raises psycopg's errors."""
    examined = next(
        table for table in repair.examination.tables if table.target.name == reader.target.name
    )
    members: dict[str, list[Member]] = {}
    with reader.transaction(repair.connection) as connection:
        for check in reader.checks:
            if check.members is not None:
                statement = sql.SQL("{}SELECT print, member FROM {}").format(
                    with_sets([check]), check.set_name
                )
                members[check.name] = connection.execute(statement).fetchall()
    accepted: list[list[Any]] = [[name, tenant] for name, tenant in examined.accepted]
    return Orders(
        checks=[check.name for check in reader.checks],
        held=[check.name for check in reader.held],
        accepted=accepted,
        members=members,
        tenants=None if repair.tenants is None else list(repair.tenants),
        known_tenants=list(repair.known_tenants),
        batch_size=repair.settings.provider.batch_size,
        names=dict(repair.limits.names.proven),
        others_wait=others_wait,
    )
