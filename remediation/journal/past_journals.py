"""Reads the journals of earlier runs: which exist, which run each is of, and its events.

Reads only, and only below the folder of reports: a run's id is never a path.
"""

from __future__ import annotations

import difflib
import errno
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from checks.database.server import DatabaseIdentity
from checks.errors import IntegrityError
from remediation.journal.journal import CANNOT_BE_WRITTEN, FILE_NAME
from remediation.journal.sealed_lines import LONGEST_SEAL, event_of, seal_of, sealed_event_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import BinaryIO

RUN_ID = re.compile(r"[0-9]{8}T[0-9]{6}Z-[0-9a-f]{6}")
"""As `new_run_id` makes them."""
IDS_SHOWN = 5
REPORT = "incident.json"
"""What a run that was not killed leaves beside its journal."""


class JournalDamagedError(IntegrityError):
    """A journal that is to be put back is not what its run wrote, or cannot be read."""

    def __init__(self, journal: PastJournal, fault: str) -> None:
        super().__init__(
            f"the journal of run {journal.run_id} {fault}; restore {journal.path} from a copy:"
            " nothing is put back from a journal that may be wrong"
        )


class UnknownRunError(IntegrityError):
    """No earlier run has this id; the message says which ones exist."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunHeader:
    """Which run a journal is of, and the database it wrote to."""

    run_id: str
    database: DatabaseIdentity


@dataclass(frozen=True, kw_only=True)
class PastJournal:
    """The journal of one run."""

    run_id: str
    path: Path

    def header(self) -> RunHeader | None:
        """The journal's header; None where it begins with something else. Raises OSError."""
        _, event = next(self.events(), (0, {}))
        try:
            database = event["database"]
            return RunHeader(
                run_id=event["run"],
                database=DatabaseIdentity(
                    system_identifier=database["system_identifier"],
                    database=database["name"],
                    database_oid=database["oid"],
                ),
            )
        except (KeyError, TypeError):
            return None

    @property
    def must_end(self) -> bool:
        """Whether its run came to an end, which then stands in the journal too. Raises OSError.

        A killed run leaves no report, and one whose disk was full says so in it.
        """
        report = self.path.with_name(REPORT)
        _, first = next(self.lines(), (0, b""))
        if seal_of(first) is None or not report.is_file():
            return False
        return CANNOT_BE_WRITTEN not in report.read_text("utf-8", errors="replace")

    def lines(self, start: int = 0) -> Iterator[tuple[int, bytes]]:
        """Each whole line with its offset; ends before one that is being written."""
        with self._open() as file:
            file.seek(start)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                yield start, line
                start += len(line)

    def events(self, start: int = 0) -> Iterator[tuple[int, dict[str, Any]]]:
        """Each event with its offset; skips a line that a crash cut off."""
        for offset, line in self.lines(start):
            event = event_of(line)
            if event is not None:
                yield offset, event

    def _open(self) -> BinaryIO:
        # In a folder that others write to, it may be something that has no end.
        if self.path.exists() and not self.path.is_file():
            raise OSError(errno.EINVAL, "it is no file")
        return self.path.open("rb")

    def events_at(self, offsets: list[int]) -> Iterator[dict[str, Any]]:
        """The events at these offsets, in their order. Raises `JournalDamagedError`, OSError."""
        with self._open() as file:
            for offset in offsets:
                before = _seal_before(file, offset)
                event = sealed_event_of(file.readline(), before)
                if event is None:
                    raise JournalDamagedError(self, "changed while it was read")
                yield event


def _seal_before(file: BinaryIO, offset: int) -> int | None:
    """The seal of the line that ends at an offset; the next read begins there."""
    file.seek(max(0, offset - LONGEST_SEAL))
    return seal_of(file.read(offset - file.tell()))


def past_journals(directory: Path) -> list[PastJournal]:
    """The journals of all runs in a folder of reports, the oldest first. Raises OSError."""
    if not directory.is_dir():
        return []
    journals = [
        PastJournal(run_id=folder.name, path=folder / FILE_NAME)
        for folder in directory.iterdir()
        if RUN_ID.fullmatch(folder.name) and (folder / FILE_NAME).exists()
    ]
    return sorted(journals, key=_began)


def _began(journal: PastJournal) -> tuple[str, int]:
    """The second of the run's id; of runs in one second, whose journal was written first."""
    return journal.run_id.partition("-")[0], journal.path.stat().st_mtime_ns


def find_journal(run_id: str, directory: Path) -> PastJournal:
    """The journal of a run. Raises `UnknownRunError`, and OSError."""
    if not RUN_ID.fullmatch(run_id):
        raise UnknownRunError(
            f"{run_id!r} is no run's id; expected one such as 20261122T203438Z-f36a3d,"
            f" {_others(run_id, directory)}"
        )
    journal = PastJournal(run_id=run_id, path=directory / run_id / FILE_NAME)
    try:
        journal.path.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise UnknownRunError(
            f"no run {run_id} has a journal in {directory}; {_others(run_id, directory)}"
        ) from None
    except OSError:
        pass  # it is there: who reads it says what keeps us from it
    return journal


def _others(run_id: str, directory: Path) -> str:
    """The ids most like one, or else the latest."""
    ids = [journal.run_id for journal in past_journals(directory)]
    if not ids:
        return f"and {directory} holds the journal of no run (--report-dir)"
    near = difflib.get_close_matches(run_id, ids, n=IDS_SHOWN, cutoff=0.8)
    if near:
        return f"did you mean {' or '.join(near)}?"
    return f"the latest there are {', '.join(reversed(ids[-IDS_SHOWN:]))}"
