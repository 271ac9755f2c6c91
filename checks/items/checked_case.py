"""Lets a test function assert a case, which passes, fails, warns, or fails as was accepted.

Knows pytest; `judgements` decides what holds.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from _pytest.outcomes import Failed

from checks.items.judgements import TENANTS_LISTED
from checks.redaction import for_terminal, redactor

if TYPE_CHECKING:
    from collections.abc import Callable

    from checks.items.judgements import Judgement


class DoesNotHoldError(Failed):
    """A check that does not hold, or could not be made: told in words, not by a traceback."""


class IntegrityWarning(UserWarning):
    """A finding of severity `warning`: shown, and not failing the run."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckedCase:
    """A case and its judgement, as a test function sees it."""

    judgement: Judgement
    record: Callable[[str, object], None]
    provisional: bool = False

    def must_hold(self) -> None:
        """Fail with the findings; warn where all of them are of severity `warning`.

        Accepted findings are an expected failure.
        """
        self._describe()
        message = for_terminal(self.judgement.message)
        unaccepted = self.judgement.open_findings
        if any(finding.severity == "error" for finding in unaccepted):
            raise DoesNotHoldError(message, pytrace=False)
        if unaccepted and not self.provisional:
            warnings.warn(IntegrityWarning(message), stacklevel=2)
        if accepted := self.judgement.accepted:
            pytest.xfail(for_terminal(accepted))

    def _describe(self) -> None:
        """Record what the case is about, and its findings, the worst first, as far as one item
        spells them out.
        """
        case, findings = self.judgement.case, self.judgement.findings
        if self.judgement.bound is not None:
            self.record("bound", self.judgement.bound)
        if not findings:
            self.record("check", case.check)
            self.record("table", redactor.clean(case.table))
            if not case.whole_table:
                self.record("tenant", redactor.clean(str(case.tenant)))
        for finding in sorted(findings, key=lambda f: -f.failing)[:TENANTS_LISTED]:
            for name in ("check", "table", "tenant", "rows", "failing", "severity"):
                self.record(name, redactor.clean(str(getattr(finding, name))))
            if finding.since is not None:
                self.record("since", finding.since.isoformat())
            if finding.accepted is not None:
                self.record("accepted", redactor.clean(finding.accepted))
        if len(findings) > 1:
            self.record("findings", len(findings))
            self.record("failing_in_all", sum(finding.failing for finding in findings))
