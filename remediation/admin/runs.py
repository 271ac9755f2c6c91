"""Runs one repair at a time on a thread of its own, and remembers what came of it."""

from __future__ import annotations

import ctypes
import logging
import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from checks.database.open_sockets import open_sockets
from checks.errors import IntegrityError
from checks.examination.selection import UnknownNameError
from checks.exit_status import ExitStatus
from checks.redaction import for_terminal
from remediation.admin.run_record import RunRecord, keep, kept
from remediation.run.repair_run import RepairRun, new_run_id
from remediation.unattended import WriteIncident, repair_unattended, status_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from checks.examination.run_context import RunContext
    from remediation.admin.parameters import RepairRequest

GRACE_SECONDS = 5.0
"""When the service stops: for what is in flight to come back and be written; as of Ctrl-C."""
RUNS_REMEMBERED = 100
log = logging.getLogger(__name__)


class BusyError(IntegrityError):
    """A run is going on already, or the service stops; `run_id` names the run."""

    def __init__(self, words: str, run_id: str | None) -> None:
        super().__init__(words)
        self.run_id = run_id


@dataclass(kw_only=True)
class Runs:
    """The runs of one service. Safe across threads."""

    environment: Mapping[str, str] = field(repr=False)
    report_directory: Path
    write_incident: WriteIncident
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _records: OrderedDict[str, RunRecord] = field(default_factory=OrderedDict)
    _unknown: dict[str, UnknownNameError] = field(default_factory=dict)
    _thread: threading.Thread | None = None
    _interruptible: bool = False
    """Whether the thread is at work that a stop may break off: not at its report."""
    _stopping: bool = False
    _cut: threading.Timer | None = None

    def begin(self, request: RepairRequest) -> RunRecord:
        """Begin a run. Raises `BusyError` beside another one, and OSError without a folder."""
        record = RunRecord(run_id=new_run_id(), dry_run=request.dry_run, given=request.given)
        with self._lock:
            if self._stopping:
                raise BusyError("the service is stopping", None)
            last = next(reversed(self._records.values()), None)
            if last is not None and last.state == "running":
                raise BusyError(f"run {last.run_id} has not ended yet", last.run_id)
            keep(self.report_directory, record.answer())
            self._records[record.run_id] = record
            while len(self._records) > RUNS_REMEMBERED:
                oldest, _ = self._records.popitem(last=False)
                self._unknown.pop(oldest, None)
            self._interruptible = True
            self._thread = threading.Thread(
                target=self._work, args=(record, request), name="run", daemon=True
            )
            self._thread.start()
        return record

    def answer(self, run_id: str) -> dict[str, Any] | None:
        """What is known of a run, of an earlier service's too; None for an unknown one."""
        record = self._records.get(run_id)
        return kept(self.report_directory, run_id) if record is None else record.answer()

    def record(self, run_id: str) -> RunRecord | None:
        """A run of this service."""
        return self._records.get(run_id)

    def unknown_name(self, run_id: str) -> UnknownNameError | None:
        """Which of the selected names is none, where that is why the run was refused."""
        return self._unknown.get(run_id)

    def page(self, run_id: str) -> Path | None:
        """The incident report of a run, or None where it has none."""
        if self.answer(run_id) is None:
            return None
        path = self.report_directory / run_id / "incident.html"
        return path if path.is_file() else None

    def stop(self) -> None:
        """Begin no more, and have the running one end in order: what is written stays."""
        with self._lock:
            self._stopping = True
            thread = self._thread
            if thread is None or not thread.is_alive():
                return
            self._cut = threading.Timer(GRACE_SECONDS, open_sockets.cut)
            self._cut.daemon = True
            self._cut.start()
            if self._interruptible and thread.ident is not None:
                self._interruptible = False
                _interrupt(thread.ident)

    def wait(self, seconds: float) -> bool:
        """Wait for the running one to end. Whether it has."""
        thread = self._thread
        if thread is None:
            return True
        thread.join(seconds)
        ended = not thread.is_alive()
        if ended and self._cut is not None:
            self._cut.cancel()
        return ended

    def _work(self, record: RunRecord, request: RepairRequest) -> None:
        run = RepairRun(
            run_id=record.run_id,
            started_at=record.started_at,
            dry_run=record.dry_run,
            report_directory=self.report_directory,
        )
        log.info("run %s: begun, %s", run.run_id, "dry run" if run.dry_run else "repair")
        context: RunContext | None = None
        status: ExitStatus | None = None
        try:
            try:
                context = repair_unattended(
                    settings=request.settings,
                    environment=self.environment,
                    selection=request.selection,
                    run=run,
                    watcher=record,
                    started_from=Path.cwd(),
                    write_incident=self._write_incident,
                )
            finally:
                self._finishing()
        except KeyboardInterrupt:
            run.interrupted = True
        except UnknownNameError as error:
            self._unknown[run.run_id] = error
            run.refused = f"{error.kind} {error.name!r} {error.reason}"
            status = ExitStatus.USAGE_ERROR
        except IntegrityError as error:
            run.refuse(error)
        except Exception as error:
            # Its words may quote a row: they go nowhere.
            run.refused = f"an internal error: {type(error).__name__}"
            log.error("run %s: %s", run.run_id, run.refused)
        record.finish(run, status or status_of(context, run))
        log.info("run %s: %s", run.run_id, for_terminal(_words(record)))
        try:
            keep(self.report_directory, record.answer())
        except OSError as error:
            log.warning("run %s: its record cannot be written: %s", run.run_id, error.strerror)

    def _finishing(self) -> None:
        with self._lock:
            self._interruptible = False

    def _write_incident(
        self, context: RunContext | None, run: RepairRun, status: ExitStatus
    ) -> Path | None:
        self._finishing()
        return self.write_incident(context, run, status)


def _interrupt(thread: int) -> None:
    """Raise KeyboardInterrupt in a thread, as a signal does in the main one.

    All of the repair's waits have time-outs for the sake of the latter, and end for this one too;
    a statement is waited for until the links are cut.
    """
    ctypes.pythonapi.PyThreadState_SetAsyncExc(
        ctypes.c_ulong(thread), ctypes.py_object(KeyboardInterrupt)
    )


def _words(record: RunRecord) -> str:
    counts = ", ".join(f"{count:,} {outcome}" for outcome, count in record.counts.items() if count)
    return f"{record.state}, {record.selected:,} rows selected" + (f", {counts}" if counts else "")
