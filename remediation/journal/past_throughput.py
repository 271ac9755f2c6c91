"""Remembers how long a request and a written row of earlier repairs took, for the next plan.

Its memory is one line a table at the end of each journal. Reads only, and never a whole journal.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from remediation.journal.past_journals import PastJournal, past_journals
from remediation.journal.sealed_lines import event_of
from remediation.journal.throughput import EVENT, Throughput

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from checks.database.server import DatabaseIdentity

TAIL = 1 << 18
"""Bytes of a journal's end that are read: the lines of about a thousand tables."""
JOURNALS = 20
"""Of so many runs at most, the latest first: older ones say little of today."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """Seconds of one request or of one row, and the run that measured them."""

    seconds: float
    run_id: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Past:
    """What earlier runs on one database measured, the latest first; by default nothing."""

    runs: tuple[tuple[str, Throughput], ...] = ()

    def per_request(self, host: str, model: str) -> Measured | None:
        """Of the latest run that asked this host for this model."""
        for run_id, one in self.runs:
            if one.requests and (one.host, one.model) == (host, model):
                return Measured(seconds=one.request_seconds / one.requests, run_id=run_id)
        return None

    def per_row(self, table: str, *, indexed: bool) -> Measured | None:
        """Of the latest run that wrote to this table, with as many ANN indexes as now."""
        for run_id, one in self.runs:
            if one.rows and (one.table, one.indexed) == (table, indexed):
                return Measured(seconds=one.row_seconds / one.rows, run_id=run_id)
        return None


def look_back(directory: Path, database: DatabaseIdentity) -> Past:
    """What the latest journals in a folder of reports say of runs on a database.

    A journal that cannot be read says nothing: only an estimate rests on it.
    """
    try:
        latest = reversed(past_journals(directory))
    except OSError:
        return Past()
    return Past(runs=tuple(_measured(latest, database)))


def _measured(
    journals: Iterator[PastJournal], database: DatabaseIdentity
) -> Iterator[tuple[str, Throughput]]:
    for journal in islice(journals, JOURNALS):
        try:
            header = journal.header()
            if header is None or not header.database.same_as(database):
                continue
            size = journal.path.stat().st_size
            for _, line in journal.lines(max(0, size - TAIL)):
                event = event_of(line) if EVENT.encode() in line[:32] else None
                if event is not None and event["event"] == EVENT:
                    yield journal.run_id, Throughput.of(event)
        except (OSError, KeyError):
            continue
