"""Says in one sentence what broke, how bad it is, where it stands, and what to type next.

Plain text for every form of the report; whoever shows it escapes it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from checks.wording import number, plural
from reports.account.again import again
from reports.page import wording
from reports.values.incident import Incident, Result

if TYPE_CHECKING:
    from collections.abc import Sequence

CRITICAL_ROWS, MAJOR_ROWS, MAJOR_TENANTS = 0.5, 0.05, 0.5
SCALE = (
    "critical from 50% of the rows, major from 5% of the rows or half of the tenants, minor below"
)
STATUSES = {
    Result.WHOLE: "repaired",
    Result.PARTLY: "partly repaired",
    Result.STOPPED: "the repair stopped early",
    Result.NOTHING_REPAIRED: "open: nothing was repaired",
    Result.ROLLED_BACK: "rolled back",
    Result.INTERRUPTED: "interrupted",
    Result.NOT_EXAMINED: "not examined",
    Result.OPEN: "open: nothing was repaired yet",
}


def sentence(incident: Incident) -> str:
    """What broke, for how many, and what came of it."""
    if not incident.tables or len(incident.unexamined) == len(incident.tables):
        return wording.shortened(incident.headline, 300)
    broken = incident.failing_before
    if not broken.rows:
        unsound = len(incident.findings_before)
        if not unsound:
            return "Every check holds" if incident.result is Result.WHOLE else incident.headline
        checks = plural(unsound, "check of a whole table does", "checks of whole tables do")
        return f"No row fails, but {checks} not hold"
    said = (
        f"{wording.count(broken)} of {'about ' if incident.estimated else ''}"
        f"{plural(incident.rows, 'row')} ({wording.share(broken.rows, incident.rows)})"
        f" {'failed' if incident.repair else 'fail'}"
    )
    if incident.tenants:
        hit = len(incident.affected_tenants)
        said += f", of {number(hit)} of {plural(incident.tenants, 'tenant')}"
    return f"{said}; {_what_came_of_it(incident)}"


def _what_came_of_it(incident: Incident) -> str:
    now = incident.failing_now
    if incident.mode == "check":
        return "nothing was repaired yet"
    if incident.mode == "dry run":
        return "nothing was repaired yet, as this was a dry run"
    if incident.unproven:
        return "what still fails is not known"
    if incident.mode == "rollback":
        restored = incident.repair.totals.restored if incident.repair else 0
        return f"{number(restored)} were put back as they had been"
    if not now.rows:
        return "all of them are whole again"
    fixed = incident.repair.totals.fixed if incident.repair else 0
    if not fixed:
        return "nothing was repaired"
    return f"{number(fixed)} were repaired, and {wording.count(now)} still fail"


def severity(incident: Incident) -> tuple[str, str] | None:
    """The severity in a word, and by what; None where nothing failed or nobody looked."""
    if not incident.failing_before.rows:
        return None
    share = incident.share
    tenants = len(incident.affected_tenants) / incident.tenants if incident.tenants else 0.0
    if share >= CRITICAL_ROWS:
        word = "critical"
    elif share >= MAJOR_ROWS or (incident.tenants > 1 and tenants >= MAJOR_TENANTS):
        word = "major"
    else:
        word = "minor"
    by = f"{wording.share(incident.failing_before.rows, incident.rows)} of the rows"
    if incident.tenants:
        by += (
            f" and {number(len(incident.affected_tenants))} of {plural(incident.tenants, 'tenant')}"
        )
    return word, by


def status(incident: Incident) -> str:
    """Where the incident stands."""
    if incident.mode == "dry run" and incident.result is Result.OPEN:
        return "open: a dry run, which writes nothing"
    if incident.result is Result.WHOLE and not incident.failing_before.rows:
        return "nothing to repair"
    return STATUSES[incident.result]


def next_command(incident: Incident) -> str | None:
    """What to type next; None where nothing is left, or where what is left says it better."""
    more: Sequence[str]
    if incident.mode == "dry run":
        if incident.plan is None or not incident.plan.rows:
            return None
        more = ("--remediate",)
    elif incident.result is Result.OPEN:
        if not any("--remediate" in line.next_step for line in incident.left):
            return None  # No repair mends what fails.
        more = ("--remediate", "--dry-run")
    elif incident.mode == "repair" and incident.result in (Result.INTERRUPTED, Result.STOPPED):
        left = sorted(incident.left, key=lambda line: -(line.rows or 0))
        told = [line.commands[0] for line in left if line.commands]
        if told:
            return told[0]
        more = ("--remediate",)
    else:
        return None
    return again(incident.command, *more)
