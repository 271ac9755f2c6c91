"""Freezes the checks about sets of rows before the first write, so that no row is left behind.

Repairing one of two rows that share a vector makes the other one hold its check, with the wrong
vector. Reads only.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from psycopg import sql

from checks.row_checks.essence import BEGINNING, essence
from checks.row_checks.row_check import with_sets
from remediation.journal.outcomes import Outcome

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from checks.database.connection import Connection
    from checks.row_checks.row_check import AppliedCheck
    from remediation.journal.outcomes import RowOutcome
    from remediation.selection.row_reader import RowReader

MOST_MEMBERS = 10_000
"""Members of a set that one run repairs: about 55 bytes each in every statement."""

REMEMBERED = 10_000
"""Vectors written of late that an answer is held against."""


def freeze(connection: Connection, reader: RowReader) -> RowReader:
    """The reader with the sets of its checks as they are now, over all tenants.

    Raises psycopg's errors.
    """
    if not any(check.members for check in reader.checks):
        return reader
    checks, cut, left = [], [], []
    accepted = {check.name: check for check in reader.accepted}
    with reader.transaction(connection):
        for check in reader.checks:
            if check.members is None:
                checks.append(check)
                continue
            members = connection.execute(_members(check)).fetchall()
            frozen = check.frozen(members[:MOST_MEMBERS])
            checks.append(frozen)
            if len(members) > MOST_MEMBERS:
                # What is left to a later run is no healthy row either.
                left.append(accepted.get(check.name, check).united(frozen))
                cut.append(
                    f"{check.name}: the rows of {MOST_MEMBERS:,} vectors are repaired in this"
                    " run; run it again for the rest"
                )
    return replace(reader, checks=tuple(checks), cut=tuple(cut), accepted=(*reader.accepted, *left))


def _members(check: AppliedCheck) -> sql.Composed:
    # In an order of their own: the next run finds the same first ones among what is left.
    return sql.SQL("{}SELECT DISTINCT print, member FROM {} ORDER BY member LIMIT {}").format(
        with_sets([check]), check.set_name, sql.Literal(MOST_MEMBERS + 1)
    )


@dataclass(kw_only=True, slots=True)
class Answers:
    """The vectors that were written to rows of frozen sets; used by one thread.

    Such a row may rightly keep its vector, its twin being the wrong one; but a provider that
    gives different texts one vector has healed none of them.
    """

    checks: frozenset[str]
    """The checks about sets."""
    alike: int | None = None
    """Letters and digits of which texts that begin alike count as the same."""
    _texts: OrderedDict[str, str] = field(default_factory=OrderedDict)
    """The md5 of a written vector -> the essence of the text it was written for."""

    def judge(self, outcomes: Sequence[RowOutcome]) -> list[RowOutcome]:
        """The outcomes of a batch, where one vector for different texts is no repair."""
        written = [outcome for outcome in outcomes if self._is_repair(outcome)]
        texts: dict[str, set[str]] = {}
        for outcome in written:
            vector, text = (
                outcome.written_hash or "",
                essence(outcome.row.text, characters=self.alike),
            )
            texts.setdefault(vector, set()).update({text, self._texts.get(vector, text)})
        for outcome in written:
            self._remember(
                outcome.written_hash or "", essence(outcome.row.text, characters=self.alike)
            )
        shared = {v: _hint(different) for v, different in texts.items() if len(different) > 1}
        return [
            self._unhealed(outcome, shared[outcome.written_hash or ""])
            if self._is_repair(outcome) and outcome.written_hash in shared
            else outcome
            for outcome in outcomes
        ]

    def _is_repair(self, outcome: RowOutcome) -> bool:
        return outcome.outcome is Outcome.FIXED and not self.checks.isdisjoint(outcome.row.checks)

    def _unhealed(self, outcome: RowOutcome, hint: str) -> RowOutcome:
        unhealed = tuple(name for name in outcome.row.checks if name in self.checks)
        return replace(
            outcome,
            outcome=Outcome.FAILED,
            reason="the provider gave different texts one and the same vector" + hint,
            unhealed=unhealed,
        )

    def _remember(self, vector: str, text: str) -> None:
        self._texts[vector] = text
        self._texts.move_to_end(vector)
        if len(self._texts) > REMEMBERED:
            self._texts.popitem(last=False)


def _hint(different: Collection[str]) -> str:
    """How to say that a model reads no more than the texts' common beginning, if it is long."""
    first, last = min(different), max(different)
    pairs = enumerate(zip(first, last, strict=False))
    common = next((n for n, (one, other) in pairs if one != other), min(len(first), len(last)))
    if common < BEGINNING:
        return ""
    return (
        f"; they begin alike: where its model reads no more, declare uniqueness = {{ alike ="
        f" {common // 10 * 10} }} in [tables.checks]"
    )


def set_checks(checks: Collection[AppliedCheck]) -> frozenset[str]:
    """The names of the checks about sets of rows."""
    return frozenset(check.name for check in checks if check.members is not None)
