"""Writes what GitHub Actions shows of a run: annotations; its step summary is the Markdown report.

Bounded: a step shows ten errors and ten warnings, and a summary has room for a mebibyte.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from checks.redaction import for_terminal
from checks.wording import plural

if TYPE_CHECKING:
    from collections.abc import Iterator

    from reports.page.sections import FindingGroup, Shown
    from reports.values.incident import Incident

MOST = 10
"""Annotations of a kind that GitHub shows of one step."""
MESSAGE = 400


def workflow_commands(groups: Shown[FindingGroup]) -> Iterator[str]:
    """A workflow command for each check and table with findings, errors before warnings."""
    shown = {"error": 0, "warning": 0}
    for group in groups.items:
        if shown[group.severity] == MOST:
            continue
        shown[group.severity] += 1
        title = f"{group.check} in {group.table}"
        tenants = len(group.findings.items) + group.findings.left_out
        said = group.findings.items[0].message
        if tenants > 1:
            said = (
                f"{plural(group.failing, 'row')} of {plural(tenants, 'tenant')}; the worst: {said}"
            )
        yield f"::{group.severity} title={_property(title)}::{_value(said)}"


def passed(incident: Incident) -> str:
    """The step summary of a run in which everything holds."""
    return (
        f"### Embedding integrity: every check holds\n\n{plural(len(incident.tables), 'table')},"
        f" {plural(incident.rows, 'row')}, {plural(incident.tenants, 'tenant')}\n"
    )


def _value(text: str) -> str:
    shown = for_terminal(text)[:MESSAGE]
    return shown.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _value(text).replace(":", "%3A").replace(",", "%2C")
