"""Splits a selection into parts, one job each, and reads the rows of a part by their keys.

A part has the keys themselves, as rows of one tenant may lie far apart: a range of keys would have
each worker read the rows of all tenants between them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from remediation.selection.row_reader import PAGE_ROWS, RowReader

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from checks.database.connection import Connection
    from remediation.selection.batching import FailingRow, Key
    from remediation.selection.put_aside import KeyedRow

PART_ROWS = 2_000
"""The most rows of a job: what is begun anew where its worker dies, less what it has written."""


def split(rows: Iterable[FailingRow]) -> Iterator[list[KeyedRow]]:
    """The rows in parts: each of one tenant, in key order; small tenants together at last."""
    open_parts: dict[str | None, list[KeyedRow]] = {}
    for row in rows:
        part = open_parts.setdefault(row.tenant, [])
        part.append((row.tenant, *row.key))
        if len(part) == PART_ROWS:
            yield open_parts.pop(row.tenant)
    together: list[KeyedRow] = []
    for part in open_parts.values():
        if together and len(together) + len(part) > PART_ROWS:
            yield together
            together = []
        together += part
    if together:
        yield together


@dataclass(frozen=True, kw_only=True, slots=True)
class PartReader(RowReader):
    """Reads the rows of one part, those that still fail; searches no table for them."""

    rows: Sequence[KeyedRow]

    def _failing_keys(
        self,
        connection: Connection,  # noqa: ARG002 - they are known
        *,
        tenants: Sequence[str] | None,  # noqa: ARG002 - the coordinator chose by them
        after: Key | None,
    ) -> Iterator[list[tuple[Any, ...]]]:
        keyed = [(*key, tenant) for tenant, *key in self.rows]
        if after is not None:
            keyed = keyed[[key[:-1] for key in keyed].index(after) + 1 :]
        yield from (keyed[i : i + PAGE_ROWS] for i in range(0, len(keyed), PAGE_ROWS))
