"""Defines the exit statuses of a run and what each means. Imports nothing of ours."""

from __future__ import annotations

from enum import IntEnum


class ExitStatus(IntEnum):
    """pytest's own statuses and ours; a run ends with the first of 3, 2, 4, 10, 12, 11, 1, 5, 0."""

    HOLDS = 0
    FAILS = 1
    INTERRUPTED = 2
    INTERNAL_ERROR = 3
    USAGE_ERROR = 4
    NOTHING_COLLECTED = 5
    NOTHING_EXAMINED = 10
    STOPPED_EARLY = 11
    JOURNAL_DAMAGED = 12

    @classmethod
    def in_order(cls) -> tuple[ExitStatus, ...]:
        """All of them, the first that applies first."""
        return tuple(map(cls, (3, 2, 4, 10, 12, 11, 1, 5, 0)))

    @property
    def meaning(self) -> str:
        return _MEANINGS[self]


_MEANINGS = {
    ExitStatus.HOLDS: "all checks hold",
    ExitStatus.FAILS: "some check does not hold, or a table could not be examined",
    ExitStatus.INTERRUPTED: "the run was interrupted",
    ExitStatus.INTERNAL_ERROR: "an internal error",
    ExitStatus.USAGE_ERROR: "pytest was called wrongly, or the settings are wrong",
    ExitStatus.NOTHING_COLLECTED: "no check was collected",
    ExitStatus.NOTHING_EXAMINED: "nothing could be examined",
    ExitStatus.JOURNAL_DAMAGED: "the journal of the run is damaged; nothing was put back",
    ExitStatus.STOPPED_EARLY: "the repair, or the rollback, stopped early",
}
"""0 to 5 are pytest's own (`pytest.ExitCode`)."""
