"""Scans a table of which some rows were written: these alone by the checks that read vectors.

All other checks look at every row. Runs inside the caller's read-only transaction.
"""

from __future__ import annotations

from array import array
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from psycopg import sql

from checks.row_checks.keyed_rows import keyed_rows_of
from checks.scanning.scan import scan
from checks.scanning.scan_statement import COUNTS, among, compile_scan

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from datetime import datetime

    from checks.database.connection import Connection
    from checks.expectations.measurements import Measurement
    from checks.row_checks.keyed_rows import Key
    from checks.row_checks.row_check import AppliedCheck
    from checks.row_checks.set_rule import SetRule
    from checks.scanning.scan import Scan
    from checks.targets.target import Target


@dataclass(frozen=True, kw_only=True, slots=True)
class KeyedPart:
    """The rows of these keys, for these checks: no other row is known to fail one of them."""

    pages: Callable[[], Iterator[Sequence[Key]]]
    """Of keys: the rows of each are found by a statement of their own."""
    checks: frozenset[str]


def scan_keyed_part(
    connection: Connection,
    target: Target,
    checks: Sequence[AppliedCheck],
    part: KeyedPart,
    *,
    tenants: Sequence[str] | None,
) -> Scan:
    """Measure every segment of a target; raises psycopg's errors.

    A rule about sets compares the rows of the part with each other, by their fingerprints. Where
    some of them may fail it together, all rows of the table are counted by it.
    """
    of_all = [check for check in checks if check.name not in part.checks]
    keyed = [check for check in checks if check.name in part.checks]
    counted = [check for check in keyed if check.rule_of_sets is None]
    whole = scan(connection, target, of_all, tenants=tenants, later=counted)
    sets = {check.name: _Fingerprints() for check in keyed if check.rule_of_sets is not None}
    found = _Found(names=[check.name for check in keyed])
    for keys in part.pages():
        rows = keyed_rows_of(target, keys)
        if counted:
            statement = compile_scan(target, counted, tenants=tenants, rows=rows, earlier=of_all)
            for row in connection.execute(statement):
                *of_segment, affected = row[: -COUNTS * len(counted)]
                counts = row[-COUNTS * len(counted) :]
                tenant = of_segment[1]
                found.add(tenant, [check.name for check in counted], counts)
                found.affected[tenant] += affected
        for check in keyed:
            if check.rule_of_sets is not None:
                statement = _fingerprints(check.rule_of_sets, rows, tenants=tenants)
                sets[check.name].add(connection.execute(statement).fetchall())
    together = [check for check in keyed if check.name in sets and sets[check.name].may_fail]
    if together:
        earlier = [*of_all, *counted]
        again = scan(connection, target, together, tenants=tenants, earlier=earlier)
        for one in again.measurements:
            found.affected[one.segment.tenant] += one.affected
            for name in one.failing:
                counts = (one.failing[name], one.first[name], one.last[name], None, None)
                found.add(one.segment.tenant, [name], counts)
    return replace(whole, measurements=tuple(found.beside(one) for one in whole.measurements))


@dataclass(kw_only=True, slots=True)
class _Found:
    """How many rows fail each of the keyed checks, by tenant, and when these were created."""

    names: Sequence[str]
    affected: Counter[str | None] = field(default_factory=Counter)
    """Rows that fail one of them and none of the other checks, by tenant."""
    _counts: dict[tuple[str | None, str], int] = field(default_factory=dict)
    _values: dict[tuple[str | None, str], set[str]] = field(default_factory=dict)
    _times: dict[tuple[str | None, str], list[datetime]] = field(default_factory=dict)

    def add(self, tenant: str | None, names: Sequence[str], counts: Sequence[object]) -> None:
        """The counts of a scan for each name."""
        for position, name in enumerate(names):
            count, *others = counts[COUNTS * position : COUNTS * (position + 1)]
            times, values = others[:2], others[2:]
            where = (tenant, name)
            self._values.setdefault(where, set()).update(filter(None, values))  # type: ignore[arg-type]
            self._counts[where] = self._counts.get(where, 0) + count  # type: ignore[operator]
            known = [*self._times.get(where, ()), *filter(None, times)]
            self._times[where] = [min(known), max(known)] if known else []

    def beside(self, measured: Measurement) -> Measurement:
        """A measurement by the other checks, with what was found by these."""
        tenant = measured.segment.tenant
        times = {name: self._times.get((tenant, name)) or (None, None) for name in self.names}
        return replace(
            measured,
            affected=measured.affected + self.affected[tenant],
            found={
                **measured.found,
                **{
                    name: tuple(dict.fromkeys((min(values), max(values))))
                    for name in self.names
                    if (values := self._values.get((tenant, name)))
                },
            },
            failing={
                **measured.failing,
                **{name: self._counts.get((tenant, name), 0) for name in self.names},
            },
            first=_with(measured.first, {name: first for name, (first, _) in times.items()}),
            last=_with(measured.last, {name: last for name, (_, last) in times.items()}),
        )


def _with(
    measured: Mapping[str, datetime | None], found: Mapping[str, datetime | None]
) -> Mapping[str, datetime | None]:
    return {**measured, **found}


def _fingerprints(
    rule: SetRule, rows: sql.Composable, *, tenants: Sequence[str] | None
) -> sql.Composed:
    """Eight bytes of each row's fingerprint, and of what rows of a set must have in common."""
    return sql.SQL(
        "SELECT {fingerprint}, {common} FROM {rows} AS r WHERE {tenants} AND {among}"
    ).format(
        fingerprint=_number(sql.SQL("({})::text").format(rule.fingerprint)),
        common=_number(rule.common),
        rows=rows,
        tenants=among(tenants),
        among=rule.among,
    )


def _number(text: sql.Composable) -> sql.Composable:
    # Sixteen hexadecimal digits as the bits of a bigint.
    return sql.SQL("('x' || left(pg_catalog.md5({}), 16))::bit(64)::bigint").format(text)


class _Fingerprints:
    """Of perhaps a million rows, with what those of one must have in common: 16 bytes a row."""

    def __init__(self) -> None:
        self._own, self._common = array("q"), array("q")

    def add(self, rows: Sequence[tuple[int, int]]) -> None:
        for own, common in rows:
            self._own.append(own)
            self._common.append(common)

    @property
    def may_fail(self) -> bool:
        """Whether two rows of one fingerprint have not in common what those of a set must."""
        if not self._own:
            return False
        own, common = (np.frombuffer(values, dtype="i8") for values in (self._own, self._common))
        order = np.argsort(own)
        own, common = own[order], common[order]
        return bool(((own[1:] == own[:-1]) & (common[1:] != common[:-1])).any())
