"""Keeps rows of tenants whose endpoints are late, by their keys, until others have been read.

Their texts are in memory no more, and are read again when their turn comes.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, TypeAlias

from remediation.selection.row_reader import bare_row
from remediation.selection.selected_keys import SelectedKeys

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from remediation.selection.batching import FailingRow

KeyedRow: TypeAlias = "tuple[str | None, *tuple[str, ...]]"
"""A row's tenant, and the columns of its key."""


class PutAside:
    """Of one table, in the order in which they were put aside; used by one thread at a time."""

    def __init__(self) -> None:
        self._first, self._last = SelectedKeys[KeyedRow](), SelectedKeys[KeyedRow]()
        """Those that are being taken out, and those that came since."""
        self._pages = self._first.pages()
        self._rows = Counter[str | None]()

    @property
    def tenants(self) -> frozenset[str | None]:
        """Whose rows are here."""
        return frozenset(self._rows)

    def put(self, rows: Iterable[FailingRow]) -> None:
        """Put rows behind those that are here. Raises CannotExamineError where the disk is full."""
        self._put([(row.tenant, *row.key) for row in rows])

    def take(self, wanted: Callable[[str | None], bool]) -> list[KeyedRow]:
        """Take out some rows of wanted tenants, in their order; none where none is here."""
        while any(map(wanted, self._rows)):
            page = self._next_page()
            self._put([row for row in page if not wanted(row[0])])
            if taken := [row for row in page if wanted(row[0])]:
                return taken
        return []

    def take_all(self) -> Iterator[FailingRow]:
        """Take out every row, without its text."""
        while self._rows:
            for tenant, *key in self._next_page():
                yield bare_row(tuple(key), tenant)

    def close(self) -> None:
        """Remove the files."""
        self._first.close()
        self._last.close()

    def _put(self, rows: Sequence[KeyedRow]) -> None:
        if rows:
            self._last.append(rows)
            self._rows.update(tenant for tenant, *_ in rows)

    def _next_page(self) -> list[KeyedRow]:
        page = next(self._pages, None)
        if page is None:
            self._first, self._last = self._last, self._first
            self._last.replace(())
            self._pages = self._first.pages()
            page = next(self._pages)
        self._rows.subtract(tenant for tenant, *_ in page)
        self._rows += Counter()  # without those of whom none is left
        return page
