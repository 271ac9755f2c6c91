"""Remembers whether and why a repair must end, and says it in words."""

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
    """Whether and why the repair of one table must end. Changed by one thread."""

    stop: threading.Event
    """Set when the repair must end: waits of its threads end at once."""
    reason: str | None = None
    """Why nothing more is sent; None while the repair goes on."""
    rest_is_counted: bool = False
    """Whether rows that are still unread must be read, to count them as skipped."""

    def end(self, reason: str, *, rest_is_counted: bool = False) -> str:
        """Send no more, but finish what is in flight. Returns the reason that came first."""
        if self.reason is None:
            self.reason, self.rest_is_counted = reason, rest_is_counted
        return self.reason

    def break_off(self, reason: str) -> None:
        """Send no more, and end all waits: what is in flight could not be written anyway."""
        self.end(reason)
        self.stop.set()


def words_of(error: BaseException) -> str:
    """What stopped the work, in words that quote none of its rows."""
    if isinstance(error, psycopg.Error):
        return f"the database refused: {reason_of(error)}"
    return str(error) if isinstance(error, IntegrityError) else f"unexpected {type(error).__name__}"


def out_of_memory(error: BaseException) -> bool:
    """Whether that is what ended the work; a thread's stack is memory too."""
    return isinstance(error, MemoryError) or str(error) == "can't start new thread"
