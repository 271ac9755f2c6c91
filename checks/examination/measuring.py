"""Scans tables, each in a short transaction of its own, and has their suites judge them.

What PostgreSQL or the engine refuses becomes the table's error, never a verdict.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TYPE_CHECKING

import psycopg

from checks.awake import wait_for_all
from checks.database.connection import TRANSIENT, cancel, connect, read_only, reason_of
from checks.database.undecodable import SQL_ASCII
from checks.errors import CannotExamineError
from checks.examination.table_examination import TableExamination
from checks.expectations.asked_rows import asked_of_rows
from checks.expectations.engine import SuiteError
from checks.expectations.suites import Asked, judge
from checks.findings.acceptance import today_in_utc
from checks.row_checks.applied import applied_checks
from checks.scanning.gaps import asked_of_gaps
from checks.scanning.keyed_part import scan_keyed_part
from checks.scanning.part import part_of
from checks.scanning.scan import scan
from checks.scanning.undecodable_rows import without_undecodable
from checks.scanning.unreadable import may_be_of_a_row, without_unreadable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractContextManager
    from datetime import date, timedelta

    from checks.database.connection import Connection, ConnectionTarget
    from checks.expectations.measurements import Verdict
    from checks.row_checks.row_check import AppliedCheck
    from checks.scanning.keyed_part import KeyedPart
    from checks.scanning.part import Part
    from checks.scanning.sample import Sample
    from checks.scanning.scan import Scan
    from checks.targets.target import Target


@dataclass(frozen=True, kw_only=True, slots=True)
class Scanned:
    """A target that was scanned and is not judged yet."""

    target: Target
    checks: tuple[AppliedCheck, ...]
    part: Part
    scan: Scan
    seconds: float

    @property
    def asked(self) -> tuple[Asked, ...]:
        """What the suites are asked: about the rows first, then about each gap."""
        return (
            *asked_of_rows(
                self.target,
                self.checks,
                self.scan.measurements,
                sampled=self.part.sampled,
                segments_seen=self.scan.segments_seen,
            ),
            *asked_of_gaps(self.target, self.scan.gaps),
        )


def examine_targets(
    connection: Connection,
    place: ConnectionTarget,
    targets: Sequence[Target],
    *,
    timeout: timedelta,
    tenants: tuple[str, ...] | None,
    sample: Sample | None = None,
    today: date | None = None,
    side_by_side: int = 1,
    keyed: Mapping[str, KeyedPart] | None = None,
) -> tuple[TableExamination, ...]:
    """Scan and judge targets, in their order; `today` None: the day it is in UTC.

    `keyed` names tables of which some checks look at some rows alone.

    As many as `side_by_side` are scanned at a time, each further one over a connection of its own.
    The tables of one declaration are judged together: a validation costs the same for one segment
    as for thousands.
    """
    day = today_in_utc() if today is None else today
    results: dict[int, TableExamination] = {}
    scanned: dict[int, Scanned] = {}
    scannable = [position for position, target in enumerate(targets) if target.scannable]
    work = _Scanning(
        place=place,
        targets=targets,
        timeout=timeout,
        tenants=tenants,
        sample=sample,
        waiting=deque(scannable),
        keyed=keyed or {},
    )
    seen = work.side_by_side(connection, min(side_by_side, len(scannable)))
    for position, target in enumerate(targets):
        if position not in seen:
            results[position] = TableExamination(target=target, today=day)
            continue
        target, (part, checks), scan = seen[position]
        if isinstance(scan, psycopg.Error):
            failed = _unmeasured(target, checks, scan, tenants=tenants, today=day)
            results[position] = replace(failed, seconds=work.seconds[position])
        else:
            scanned[position] = Scanned(
                target=target,
                checks=checks,
                part=part,
                scan=scan,
                seconds=work.seconds[position],
            )
    results |= _judged(scanned, tenants=tenants, today=day)
    return tuple(results[position] for position in range(len(targets)))


def _judged(
    scanned: dict[int, Scanned], *, tenants: tuple[str, ...] | None, today: date
) -> dict[int, TableExamination]:
    """The examinations of what was scanned, by position."""
    asked = {position: one.asked for position, one in scanned.items()}
    answers = iter(judge([one for of_table in asked.values() for one in of_table]))
    results: dict[int, TableExamination] = {}
    for position, one in scanned.items():
        verdicts: list[tuple[Verdict, ...]] = []
        errors: list[SuiteError] = []
        for answer in islice(answers, len(asked[position])):
            if isinstance(answer, SuiteError):
                errors.append(answer)
            else:
                verdicts.append(answer)
        if errors:
            results[position] = _unmeasured(
                one.target, one.checks, errors[0], tenants=tenants, today=today
            )
            continue
        gaps = len(verdicts) - len(one.scan.gaps)
        of_rows, of_gaps = verdicts[:gaps], verdicts[gaps:]
        results[position] = TableExamination(
            target=one.target,
            checks=one.checks,
            part=one.part,
            unlisted=one.scan.unlisted,
            index_advice=one.scan.index_advice,
            mixed=one.scan.mixed,
            measurements=one.scan.measurements,
            gaps=one.scan.gaps,
            verdicts=tuple(verdict for of_some in of_rows for verdict in of_some),
            gap_verdicts=tuple(verdict for of_gap in of_gaps for verdict in of_gap),
            asked=asked[position],
            seconds=one.seconds,
            tenants=tenants,
            today=today,
        )
    return results


def _unmeasured(
    target: Target,
    checks: tuple[AppliedCheck, ...],
    error: psycopg.Error | SuiteError,
    *,
    tenants: tuple[str, ...] | None,
    today: date,
) -> TableExamination:
    reason = reason_of(error) if isinstance(error, psycopg.Error) else str(error)
    return TableExamination(
        target=target,
        checks=checks,
        tenants=tenants,
        error=f"{target.name} could not be measured: {reason}",
        today=today,
    )


Asking = tuple["Part", tuple["AppliedCheck", ...]]
Seen = tuple["Target", Asking, "Scan | psycopg.Error"]
"""A target, the part of it that was looked at and its checks, and what its scan came to."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Scanning:
    """The scans of some targets, each in a short transaction of its own."""

    place: ConnectionTarget
    targets: Sequence[Target]
    timeout: timedelta
    tenants: Sequence[str] | None
    sample: Sample | None
    waiting: deque[int]
    """Positions of the targets that nobody scans yet."""
    keyed: Mapping[str, KeyedPart]
    broken_off: threading.Event = field(default_factory=threading.Event)
    seconds: dict[int, float] = field(default_factory=dict)
    """What each scan took, by position."""

    def side_by_side(self, connection: Connection, most: int) -> dict[int, Seen]:
        """What came of each, by position. The given connection serves, with up to `most` in all."""
        with ExitStack() as stack:
            connections = [connection]
            # Where the server has no room for more, those that there are will do.
            with suppress(CannotExamineError):
                while len(connections) < most:
                    connections.append(stack.enter_context(connect(self.place)))
            if len(connections) == 1:
                return self._serve(connection)
            threads = ThreadPoolExecutor(len(connections), thread_name_prefix="scan")
            stack.enter_context(threads)
            parts = [threads.submit(self._serve, one) for one in connections]
            try:
                wait_for_all(parts)
            except BaseException:
                self.waiting.clear()
                self.broken_off.set()
                for one in connections:
                    # Aside, as each may take its time where the server has fallen silent.
                    threading.Thread(target=cancel, args=(one,), daemon=True).start()
                wait_for_all(parts)
                raise
        return {position: seen for part in parts for position, seen in part.result().items()}

    def _serve(self, connection: Connection) -> dict[int, Seen]:
        """Scan over one connection until nothing waits any more."""
        seen: dict[int, Seen] = {}
        while True:
            try:
                position = self.waiting.popleft()
            except IndexError:
                return seen
            begun = time.monotonic()
            target = self._without_undecodable(connection, self.targets[position])
            seen[position] = one = self._seen(connection, target)
            found = target.unreadable is not None
            if isinstance(one[2], psycopg.Error) and may_be_of_a_row(one[2]) and not found:
                readable = self._without_unreadable(connection, target)
                if readable is not None:
                    whole = readable.unreadable is None or readable.unreadable.complete
                    seen[position] = (
                        self._seen(connection, readable) if whole else (readable, *one[1:])
                    )
            self.seconds[position] = time.monotonic() - begun

    def _seen(self, connection: Connection, target: Target) -> Seen:
        asking = part_of(target, applied_checks(target), sample=self.sample)
        try:
            return target, asking, self._scan(connection, target, asking)
        except psycopg.Error as error:
            return target, asking, error

    def _without_undecodable(self, connection: Connection, target: Target) -> Target:
        """The target without the rows whose keys or provenance cannot be told."""
        if target.server.encoding != SQL_ASCII:
            return target
        with suppress(psycopg.Error), self._transaction(connection, target):
            return without_undecodable(connection, target)
        return target  # the scan meets the same error, and tells it

    def _without_unreadable(self, connection: Connection, target: Target) -> Target | None:
        """The target without the rows that raise an error; None where none was found in time."""
        with suppress(psycopg.Error), self._transaction(connection, target):
            return without_unreadable(connection, target, timeout=self.timeout)
        return None  # the error of the scan stands

    def _transaction(
        self, connection: Connection, target: Target
    ) -> AbstractContextManager[Connection]:
        return read_only(
            connection,
            self.place,
            statement_timeout=self.timeout,
            row_security=target.row_security,
        )

    def _scan(self, connection: Connection, target: Target, asking: Asking) -> Scan:
        part, checks = asking
        for last_try in (False, True):
            try:
                with self._transaction(connection, target):
                    keyed = self.keyed.get(target.name)
                    if keyed is not None:
                        return scan_keyed_part(
                            connection, target, checks, keyed, tenants=self.tenants
                        )
                    return scan(connection, target, checks, tenants=self.tenants, part=part)
            except TRANSIENT:
                if last_try or self.broken_off.is_set():
                    raise
        raise AssertionError("unreachable: the second try returns or raises")
