"""Reads what is to be repaired: the keys of failing rows in one pass, then rows by their keys.

Reads only, each page in a short transaction of its own; none is open while its rows are worked on.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from itertools import compress
from typing import TYPE_CHECKING, Any

from checks.database.connection import ALL_ROWS, read_only
from checks.database.undecodable import as_read
from remediation.selection.batching import FailingRow
from remediation.selection.given_keys import key_arrays
from remediation.selection.row_statements import (
    compile_edited,
    compile_failing_keys,
    compile_read_back,
    compile_rows_by_key,
    compile_texts,
)
from remediation.selection.selected_keys import SelectedKeys

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from datetime import timedelta

    from psycopg import sql

    from checks.database.connection import Connection, ConnectionTarget
    from checks.row_checks.row_check import AppliedCheck
    from checks.targets.target import Target
    from remediation.selection.batching import Key

PAGE_ROWS = 2_000
PAGE_BYTES = 16 * 1024 * 1024
"""Text and vectors of a page in memory; it ends where they exceed this, whatever its rows hold."""
FETCH_ROWS = 200
"""Rows per round trip, and so the most that a page may exceed `PAGE_BYTES` by."""

WHOLE_TEXT = 2**31 - 1
"""Characters; PostgreSQL holds no longer text."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CurrentRow:
    """What a row looks like now, to be held against what was read of it before."""

    tenant: str | None
    text_hash: str
    vector_hash: str | None
    failing: tuple[str, ...]
    beside: tuple[str | None, ...] = ()
    missing: bool = False
    """Whether its store has no row for it."""
    broken: tuple[str, ...] = ()
    """Of the checks that a write must not change, those that it fails."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RowReader:
    """Reads one target's rows in the words of its `re-embed` checks."""

    target: Target
    checks: tuple[AppliedCheck, ...]
    place: ConnectionTarget
    timeout: timedelta
    accepted: tuple[AppliedCheck, ...] = ()
    """Checks of which some failures are not repaired, but no healthy rows either."""
    held: tuple[AppliedCheck, ...] = ()
    """Checks that no write heals; one must not make a row fail them."""
    cut: tuple[str, ...] = ()
    """What is left to a later run, in words."""
    lock_timeout: timedelta | None = None
    """How long a read waits for a lock on the table; None: as long as `timeout`."""
    selected: SelectedKeys[Key] = field(default_factory=SelectedKeys, repr=False, compare=False)
    """The rows that failed when the table was last searched; they may be whole by now."""
    _read_back: list[bytes] = field(default_factory=list, init=False, repr=False, compare=False)
    """Its statement, once composed: that takes longer than to run it on a few rows."""

    def failing_rows(
        self,
        connection: Connection,
        *,
        tenants: Sequence[str] | None,
        after: tuple[str, ...] | None = None,
        bare: bool = False,
    ) -> Iterator[FailingRow]:
        """Every row that fails a check, once, with all its reasons, in key order.

        `after` begins behind a key. `bare` leaves all but key and tenant unread, for rows that are
        only counted, in the transaction that reads them. A row edited while we read may be seen as
        it was or as it is; its write is guarded by what was read.
        """
        if bare:
            for page in self._failing_keys(connection, tenants=tenants, after=after):
                for *key, tenant in page:
                    yield bare_row(tuple(key), tenant)
            return
        for rows in self.pages(connection, tenants=tenants, after=after):
            yield from rows

    def pages(
        self,
        connection: Connection,
        *,
        tenants: Sequence[str] | None,
        after: tuple[str, ...] | None = None,
    ) -> Iterator[list[FailingRow]]:
        """The same in pages of at most `PAGE_ROWS` rows and about `PAGE_BYTES`.

        The table is searched once, for keys; `selected` holds them from then on.
        """
        self.selected.replace(
            [row[:-1] for row in page]
            for page in self._failing_keys(connection, tenants=tenants, after=after)
        )
        yield from self.keyed_pages(connection, self.selected.pages(), tenants=tenants)

    def keyed_pages(
        self,
        connection: Connection,
        pages: Iterable[list[Key]],
        *,
        tenants: Sequence[str] | None,
    ) -> Iterator[list[FailingRow]]:
        """Those of the keyed rows that still fail, in pages of about `PAGE_BYTES` at most."""
        statement = compile_rows_by_key(self.target, self.checks, self.held, tenants=tenants)
        most = FETCH_ROWS  # enough for a first request, beside which the others are read
        for keys in pages:
            while keys:
                page, left = self._read_page(connection, statement, keys[:most])
                keys, most = left + keys[most:], PAGE_ROWS
                if page:
                    yield page

    def _failing_keys(
        self,
        connection: Connection,
        *,
        tenants: Sequence[str] | None,
        after: tuple[str, ...] | None,
    ) -> Iterator[list[tuple[Any, ...]]]:
        """Key and tenant of every failing row, in pages of one transaction."""
        statement = compile_failing_keys(
            self.target, self.checks, tenants=tenants, first=after is None
        )
        parameters = {f"after_{i}": value for i, value in enumerate(after or (), start=1)}
        with (
            self.transaction(connection, planner=ALL_ROWS),
            # A cursor of the server: only what is fetched is in memory.
            connection.cursor(name="integrity_keys") as cursor,
        ):
            cursor.execute(statement, parameters)
            while page := cursor.fetchmany(PAGE_ROWS):
                yield page

    def _read_page(
        self, connection: Connection, statement: sql.Composed, keys: list[Key]
    ) -> tuple[list[FailingRow], list[Key]]:
        """Those of the keyed rows that still fail, and the keys that are left for another page."""
        page: list[FailingRow] = []
        size = 0
        with (
            self.transaction(connection),
            connection.cursor(name="integrity_page") as cursor,
        ):
            cursor.execute(statement, {**key_arrays(keys), "written": [None] * len(keys)})
            while size < PAGE_BYTES:
                fetched = cursor.fetchmany(FETCH_ROWS)
                rows = self._rows(fetched)
                page += rows
                size += sum(len(row.text) + len(row.vector or b"") for row in rows)
                if len(fetched) < FETCH_ROWS:
                    return page, []
        return page, keys[fetched[-1][0] :]

    def rows_by_key(
        self,
        connection: Connection,
        keys: Sequence[tuple[str, ...]],
        written: Sequence[str | None],
        *,
        tenants: Sequence[str] | None,
    ) -> list[FailingRow]:
        """Those of the keyed rows that still need us: they fail a check, or hold our old vector.

        `written` has the md5 of the vector that we wrote to each row before its text was edited,
        or None.
        """
        statement = compile_rows_by_key(self.target, self.checks, self.held, tenants=tenants)
        parameters = {**key_arrays(keys), "written": list(written)}
        return self._rows(self.read(connection, statement, parameters))

    def read_back(
        self,
        connection: Connection,
        keys: Sequence[tuple[str, ...]],
    ) -> list[CurrentRow | None]:
        """The rows as they are now, aligned with the keys; None where one is gone from sight."""
        current: list[CurrentRow | None] = [None] * len(keys)
        if not self._read_back:
            statement = compile_read_back(self.target, (*self.checks, *self.held))
            self._read_back.append(statement.as_bytes(connection))
        names = [check.name for check in self.checks]
        held = [check.name for check in self.held]
        for row in self.read(connection, self._read_back[0], key_arrays(keys)):
            position, tenant, text_hash, vector_hash, beside, missing, *fails = row
            current[position - 1] = CurrentRow(
                tenant=tenant,
                text_hash=text_hash,
                vector_hash=vector_hash,
                failing=tuple(compress(names, fails)),
                beside=tuple(beside),
                missing=missing,
                broken=tuple(compress(held, fails[len(names) :])),
            )
        return current

    def edited(
        self, connection: Connection, keys: Sequence[tuple[str, ...]], texts: Sequence[str]
    ) -> list[int]:
        """Which of the keyed rows have another text by now than the one of this md5."""
        parameters = {**key_arrays(keys), "written": list(texts)}
        found = self.read(connection, compile_edited(self.target), parameters)
        return [position - 1 for (position,) in found]

    def beginnings(
        self, connection: Connection, keys: Sequence[tuple[str, ...]], *, characters: int
    ) -> dict[tuple[str, ...], str]:
        """How the texts of the keyed rows begin, as they are now; rows without one are left out."""
        if not keys:
            return {}
        statement = compile_texts(self.target, characters=characters)
        return {
            keys[position - 1]: as_read(text).encode(errors="replace").decode()
            for position, text in self.read(connection, statement, key_arrays(keys))
        }

    def texts_as(
        self, connection: Connection, keys: Sequence[tuple[str, ...]], expression: str
    ) -> list[str | None]:
        """What the keyed rows' texts are by another expression; None where it gives none."""
        declared = self.target.declared.model_copy(update={"text": expression})
        statement = compile_texts(replace(self.target, declared=declared), characters=WHOLE_TEXT)
        texts: list[str | None] = [None] * len(keys)
        for position, text in self.read(connection, statement, key_arrays(keys)):
            texts[position - 1] = as_read(text)
        return texts

    def transaction(
        self, connection: Connection, *, planner: Mapping[str, str] | None = None
    ) -> AbstractContextManager[Connection]:
        """A short one, that only reads, in which hidden rows are an error."""
        return read_only(
            connection,
            self.place,
            statement_timeout=self.timeout,
            row_security=self.target.row_security,
            lock_timeout=self.lock_timeout,
            planner=planner,
        )

    def read(
        self,
        connection: Connection,
        statement: sql.Composed | bytes,
        parameters: dict[str, Any] | None,
    ) -> list[tuple[Any, ...]]:
        """What a statement returns, in a transaction of its own. Raises psycopg's errors."""
        with self.transaction(connection):
            return connection.execute(statement, parameters).fetchall()

    def _rows(self, found: Sequence[Sequence[Any]]) -> list[FailingRow]:
        """Rows as `compile_rows_by_key` returns them."""
        end, names = 1 + len(self.target.key), [check.name for check in self.checks]
        held = [check.name for check in self.held]
        rows = []
        for row in found:
            tenant, text, text_hash, vector, beside, missing, *failing = row[end:]
            rows.append(
                FailingRow(
                    key=tuple(row[1:end]),
                    tenant=tenant,
                    text=as_read(text),
                    text_hash=text_hash,
                    vector=vector,
                    vector_hash=None if vector is None else md5(vector),
                    checks=tuple(compress(names, failing)),
                    broken=tuple(compress(held, failing[len(names) :])),
                    beside=tuple(beside),
                    missing=missing,
                )
            )
        return rows


def bare_row(key: Key, tenant: str | None) -> FailingRow:
    """A row of which only key and tenant are known."""
    return FailingRow(key=key, tenant=tenant, text="", text_hash="", vector_hash=None, checks=())


def md5(value: bytes | memoryview) -> str:
    """The hash that SQL's md5() gives for the same bytes; a guard against change, not a secret."""
    return hashlib.md5(value, usedforsecurity=False).hexdigest()
