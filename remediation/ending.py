"""Whether the repair of a table goes on, and why it ended where it did not reach its last row.

Remembers and tells; what is then done with the rows is for others to decide.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import psycopg

from checks.database.connection import reason_of
from checks.errors import IntegrityError

if TYPE_CHECKING:
    import threading

INTERRUPTED = "the repair was interrupted"


@dataclass(kw_only=True, slots=True)
class Ending:
    """Of one table; changed by one thread."""

    stop: threading.Event
    """Set when the repair must end: waits of its threads end at once."""
    reason: str | None = None
    """Why nothing more is sent; None while the repair goes on."""
    rest_is_counted: bool = False
    """Whether rows that were not read yet are read after all, to be counted as skipped."""

    def end(self, reason: str, *, rest_is_counted: bool = False) -> str:
        """Send no more; what is in flight is finished. Returns the first reason, which counts."""
        if self.reason is None:
            self.reason, self.rest_is_counted = reason, rest_is_counted
        return self.reason

    def break_off(self, reason: str) -> None:
        """Send no more, and wait no longer for what could not be written anyway."""
        self.end(reason)
        self.stop.set()


def words_of(error: BaseException) -> str:
    """What stopped the work, in words that hold nothing of its rows."""
    if isinstance(error, psycopg.Error):
        return f"the database refused: {reason_of(error)}"
    return str(error) if isinstance(error, IntegrityError) else f"unexpected {type(error).__name__}"
