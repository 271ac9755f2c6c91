"""Writes the journal of a repair: what was about to be replaced, what became of each row.

The journal is evidence and undo, not state: only the database says what is left to do. It is lines
of JSON in `<report dir>/<run id>/journal.jsonl`, without texts and keys; `past_journals` reads it.
"""

from __future__ import annotations

import base64
import fcntl
import os
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from checks.redaction import redactor
from remediation.journal.outcomes import Outcome
from remediation.journal.sealed_lines import END, event_of, last_seal, line_of, seal_of, sealed
from remediation.selection.batching import FailingRow

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from checks.database.server import DatabaseIdentity
    from checks.targets.stores import StoreTable
    from checks.targets.target import Target
    from remediation.journal.outcomes import RowOutcome
    from remediation.journal.throughput import Throughput
    from remediation.journal.vain_writes import VainWrites

FILE_NAME = "journal.jsonl"
CANNOT_BE_WRITTEN = "the journal cannot be written"
FIXED = b'"fixed"'
"""In the line of such an outcome."""


class RowChange(Protocol):
    """A row as it was read, with what is to be written to it."""

    @property
    def row(self) -> FailingRow: ...

    @property
    def stored_as(self) -> str | None:
        """The md5 of the vector that will be stored, None for no vector."""

    @property
    def deletes(self) -> bool:
        """Whether the row is deleted instead of getting a vector."""


Changed = TypeVar("Changed", bound=RowChange)


class Journal:
    """Appends events. Safe across threads.

    What a write replaces is on disk before the call returns; an outcome by the next of these, or by
    `sync`: an undo needs none, and a killed process leaves it to the system all the same.
    """

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.path = directory / FILE_NAME
        self._lock = threading.Lock()
        self._descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        _lock_out_others(self._descriptor, self.path)
        self._end = last_seal(self.path)
        for folder in (directory, directory.parent):
            # The file is found after a crash only if its name is on disk too.
            _sync_folder(folder)

    def begin(
        self, run_id: str, database: DatabaseIdentity, *, rolls_back: str | None = None
    ) -> None:
        """Record first which run this is and where it writes. Raises OSError."""
        self.take_in([header(run_id, database, rolls_back=rolls_back)])

    def begin_table(self, target: Target) -> None:
        """Record, before a table's first write, which columns are written. Raises OSError."""
        self._append([{"event": "table", "table": target.name, **columns_written(target)}])

    def replacing(self, table: str, changes: Sequence[RowChange]) -> None:
        """Record, before a write, the vectors that it will replace. Raises OSError."""
        self._append(
            {
                "event": "replacing",
                "table": table,
                "key": new.row.key,
                "tenant": new.row.tenant,
                "checks": new.row.checks,
                "text_md5": new.row.text_hash,
                "vector": None
                if new.row.vector is None
                else base64.b64encode(new.row.vector).decode(),
                "beside": new.row.beside,
                # There was no row to replace: an undo deletes the one that was inserted.
                "inserted": new.row.missing,
                # Recorded before, so that an undo is possible even where no outcome was.
                "writing_md5": new.stored_as,
                "deleting": new.deletes,
            }
            for new in changes
        )

    def outcomes(self, table: str, outcomes: Sequence[RowOutcome]) -> None:
        """Enter what became of rows; `sync` has it on disk. Raises OSError."""
        self._append(
            (
                {
                    "event": "outcome",
                    "table": table,
                    "key": outcome.row.key,
                    "tenant": outcome.row.tenant,
                    "checks": outcome.row.checks,
                    "outcome": outcome.outcome,
                    # These alone are words to redact; a key or a vector must stay as it is.
                    "reason": redactor.clean(outcome.reason),
                    "text_md5": outcome.row.text_hash,
                    "written": outcome.written,
                    "written_md5": outcome.written_hash,
                    **({"uncertain": True} if outcome.uncertain else {}),
                    **({} if outcome.refused is None else outcome.refused.entry),
                }
                for outcome in outcomes
            ),
            sync=False,
        )

    def wrote_in_vain(self, vain: VainWrites) -> None:
        """Record which checks a table's writes did not heal, or broke. Raises OSError."""
        self._append([{**vain.entry, "reason": redactor.clean(vain.reason)}])

    def throughputs(self, measured: Iterable[Throughput]) -> None:
        """Record last how long requests and writes took. Raises OSError."""
        self._append(one.entry for one in measured)

    def sync(self) -> None:
        """Have on disk what was entered so far. Raises OSError."""
        os.fsync(self._descriptor)

    def _append(self, events: Iterable[dict[str, Any]], *, sync: bool = True) -> None:
        lines = [line_of(event) for event in events]
        if lines:
            self.take_in(lines, sync=sync)

    def take_in(self, lines: Iterable[bytes], *, sync: bool = True) -> None:
        """Append lines that are events already, without seals. Raises OSError."""
        with self._lock:
            if os.fstat(self._descriptor).st_size > self._end[1]:
                # A crash, a full disk or an interrupt cut a line off: its row was not written.
                os.ftruncate(self._descriptor, self._end[1])
            self._write(lines)
        # Beside the lock: another writer's lines join the same wait for the disk.
        if sync:
            self.sync()

    def _write(self, lines: Iterable[bytes]) -> None:
        seal, end = self._end
        whole = bytearray()
        for line in lines:
            one = sealed(line, seal)
            seal = seal_of(one)
            whole += one
        rest = memoryview(whole)
        # Unbuffered: what could not be written must not appear later, out of order.
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]
        self._end = seal, end + len(whole)

    def read(self, *, holding: bytes = b"") -> Iterator[dict[str, Any]]:
        """The events so far, one at a time; skips a line that a crash cut off.

        Lines without the text that they are to be `holding` are not even parsed.
        """
        with self.path.open("rb") as lines:
            for line in lines:
                if holding not in line:
                    continue
                event = event_of(line)
                if event is not None:
                    yield event

    def fixed(self, table: str) -> Iterator[dict[str, Any]]:
        """The outcome of every row of a table that was fixed so far, see `row_of`."""
        for event in self.read(holding=FIXED):
            if (
                event["event"] == "outcome"
                and event["table"] == table
                and event["outcome"] == Outcome.FIXED
            ):
                yield event

    def close(self) -> None:
        """Enter that nothing follows, where the disk takes it."""
        try:
            with suppress(OSError):
                self._append([{"event": END}])
        finally:
            os.close(self._descriptor)


def row_of(outcome: Mapping[str, Any]) -> FailingRow:
    """The row of an outcome in a journal, without its text."""
    return FailingRow(
        key=tuple(outcome["key"]),
        tenant=outcome["tenant"],
        text="",
        text_hash=outcome["text_md5"],
        vector_hash=None,
        checks=tuple(outcome["checks"]),
    )


def header(run_id: str, database: DatabaseIdentity, *, rolls_back: str | None = None) -> bytes:
    """The first line of a run's journal, without its seal."""
    event = {
        "event": "run",
        "run": run_id,
        "rolls_back": rolls_back,
        "database": {
            "system_identifier": database.system_identifier,
            "name": database.database,
            "oid": database.database_oid,
        },
    }
    return line_of(event)


def columns_written(target: Target) -> dict[str, Any]:
    """The relation and columns that a write to a target sets, by their names in the catalog."""
    key = target.key if target.store is None else target.store.key
    # Which rows of a store, where others have theirs in it: those of one key are several.
    rows = {} if target.store is None or not target.store.restricted else _rows_meant(target.store)
    return {
        **rows,
        "relation": [target.holder.schema, target.holder.name],
        "embedding": target.embedding.name,
        "key_columns": [column.name for column in key],
        "beside_columns": [held.column.name for held in target.written_beside],
    }


def _lock_out_others(descriptor: int, path: Path) -> None:
    """Have one writer at a time: the seals of two would contradict each other. Raises OSError."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise OSError(error.errno, "its run is still writing it", str(path)) from None
    except OSError:
        return  # a file system without such locks


def _rows_meant(store: StoreTable) -> dict[str, Any]:
    return {"constants": dict(store.constants), "where": store.declared.where}


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def journal_words(error: OSError) -> str:
    """Why a repair without a journal stops."""
    return f"{CANNOT_BE_WRITTEN} ({error.strerror}); nothing is replaced without it"
