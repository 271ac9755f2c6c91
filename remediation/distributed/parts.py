"""Splits a selection into parts, one job each, and reads the rows of a part by their keys.

A part has the keys themselves, as rows of one tenant may lie far apart: a range of keys would have
each worker read the rows of all tenants between them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from remediation.selection.row_reader import RowReader

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from checks.database.connection import Connection
    from remediation.selection.batching import FailingRow, Key

PartRow: TypeAlias = "tuple[str | None, *tuple[str, ...]]"
"""A row of a part: its tenant, and the columns of its key."""

PART_ROWS = 2_000
"""The most rows of a job: what is begun anew where its worker dies, less what it has written."""
ROWS_AT_ONCE = 200
"""Read in one statement; each may have a long text and a vector."""


def split(rows: Iterable[FailingRow]) -> Iterator[list[PartRow]]:
    """The rows in parts: each of one tenant, in key order; small tenants together at last."""
    open_parts: dict[str | None, list[PartRow]] = {}
    for row in rows:
        part = open_parts.setdefault(row.tenant, [])
        part.append((row.tenant, *row.key))
        if len(part) == PART_ROWS:
            yield open_parts.pop(row.tenant)
    together: list[PartRow] = []
    for part in open_parts.values():
        if together and len(together) + len(part) > PART_ROWS:
            yield together
            together = []
        together += part
    if together:
        yield together


@dataclass(frozen=True, kw_only=True, slots=True)
class PartReader(RowReader):
    """Reads the rows of one part, those that still fail."""

    keys: tuple[Key, ...]

    def failing_rows(
        self,
        connection: Connection,
        *,
        tenants: Sequence[str] | None,
        after: Key | None = None,
        bare: bool = False,  # noqa: ARG002 - no part is so large
    ) -> Iterator[FailingRow]:
        begin = 0 if after is None else self.keys.index(after) + 1
        for start in range(begin, len(self.keys), ROWS_AT_ONCE):
            some = self.keys[start : start + ROWS_AT_ONCE]
            yield from self.rows_by_key(connection, some, [None] * len(some), tenants=tenants)
