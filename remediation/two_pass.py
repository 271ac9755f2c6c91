"""Runs the items of tables that will be repaired twice, and counts each once.

Their first failure is logged as a rerun; the second pass decides. All other items run once, as
usual.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from _pytest.runner import runtestprotocol

from checks.plugin import case_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from remediation.run.repair import Repair


@dataclass(kw_only=True, slots=True)
class TwoPasses:
    """Runs the two passes; `tables` are those that the repair will touch."""

    tables: frozenset[str]
    first: bool = True
    waiting: list[pytest.Item] = field(default_factory=list)
    _held: dict[str, list[pytest.TestReport]] = field(default_factory=dict)

    def run_first(self, items: Sequence[pytest.Item]) -> None:
        """Run every item once; it is not final for those that wait for the repair."""
        _run(items)

    def run_second(self) -> None:
        """Run the waiting items again; now they count."""
        self.first = False
        self._held.clear()
        waiting, self.waiting = self.waiting, []
        _run(waiting)

    def settle_by_first(self) -> None:
        """Make the results of the first pass final: there will be no second one."""
        self.first = False
        for item in self.waiting:
            _log(item, self._held[item.nodeid])
        self.waiting = []
        self._held.clear()

    def protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
        """pytest_runtest_protocol in the first pass: run a waiting item, and log only a rerun."""
        case = case_of(item)
        if not self.first or case is None or case.table not in self.tables:
            return None
        reports = runtestprotocol(item, log=False, nextitem=nextitem)
        if any(report.failed and report.when == "setup" for report in reports):
            _log(item, reports)
        else:
            self.waiting.append(item)
            self._held[item.nodeid] = reports
            _log(item, [_rerun(r) for r in reports if r.when == "call" and r.failed])
        item.user_properties.clear()
        return True


def _run(items: Sequence[pytest.Item]) -> None:
    for position, item in enumerate(items):
        following = items[position + 1] if position + 1 < len(items) else None
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        session = item.session
        if session.shouldfail:
            raise session.Failed(session.shouldfail)
        if session.shouldstop:
            raise session.Interrupted(session.shouldstop)


def _log(item: pytest.Item, reports: Sequence[pytest.TestReport]) -> None:
    """Show reports as if the item had just run; a held item shows nothing until it counts."""
    if not reports:
        return
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    for report in reports:
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)


def _rerun(report: pytest.TestReport) -> pytest.TestReport:
    """The report of a call that failed before the repair, as pytest-rerunfailures shapes it."""
    return pytest.TestReport(
        nodeid=report.nodeid,
        location=report.location,
        keywords=report.keywords,
        outcome="rerun",  # type: ignore[arg-type]
        longrepr=report.longrepr,
        when="call",
        sections=report.sections,
        duration=report.duration,
        start=report.start,
        stop=report.stop,
    )


PASSES = pytest.StashKey[TwoPasses]()
"""The passes of a `--remediate` run, from its first one on."""
REPAIR: pytest.StashKey[Repair] = pytest.StashKey()
"""The opened repair of a `--remediate` run."""
