"""Looks at what a repair must wait for: pause file, lagging standbys, write-ahead log.

Reads, on a connection of its own and in short statements; writes nothing. What cannot be read is
a reason to wait, never to go on.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql

from checks.database.connection import connect, read_only, reason_of
from checks.errors import CannotExamineError
from remediation.throttling.wait_reasons import ReplicationLag, Standby, WaitReason, WalRate

if TYPE_CHECKING:
    from pathlib import Path

    from checks.database.connection import Connection, ConnectionTarget
    from checks.settings.integrity_toml import RepairLimits

STATEMENT_TIMEOUT = timedelta(seconds=2)

_POSITIONS = """
SELECT
    pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_lsn(), '0/0')::bigint  AS written,
    current_user::text                                    AS role,
    standby.*
FROM (VALUES (true)) AS always
LEFT JOIN (
    SELECT
        pid,
        -- NULL where the role may not see it.
        state,
        coalesce(nullif(application_name, ''), host(client_addr), 'without a name') AS name,
        -- NULL of what replays nothing: a base backup, an archive of the log.
        pg_catalog.pg_wal_lsn_diff(replay_lsn, '0/0')::bigint    AS replayed,
        extract(epoch FROM replay_lag)::float8        AS reported_lag
    FROM pg_catalog.pg_stat_replication
    -- A logical subscriber confirms when it likes, and is no copy of the server.
    WHERE pid NOT IN (
        SELECT active_pid FROM pg_catalog.pg_replication_slots
        WHERE slot_type = 'logical' AND active_pid IS NOT NULL
    )
) AS standby ON true
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Positions:
    """What a reading saw: how far the log is written, and the standbys, hidden ones apart."""

    written: int
    role: str
    standbys: tuple[Standby, ...]
    hidden: bool


class Health:
    """The conditions of `[repair]`, looked at in turn; `look` is for one thread.

    `folder` is where a relative `pause_file` is looked for.
    """

    def __init__(self, repair: RepairLimits, place: ConnectionTarget, *, folder: Path) -> None:
        self._pause_file = None if repair.pause_file is None else folder / repair.pause_file
        lag, rate = repair.max_replication_lag, repair.max_wal_rate
        self._lag = None if lag is None else ReplicationLag(limit=lag)
        self._rate = None if rate is None else WalRate(limit=rate)
        self._place = place
        self._connection: Connection | None = None

    @property
    def limited(self) -> bool:
        """Whether there is anything to look at."""
        return not (self._pause_file is None and self._lag is None and self._rate is None)

    def look(self) -> WaitReason | None:
        """Why the server makes the repair wait now, or None. Raises nothing that is foreseen."""
        return self._look_at_server() if self._lag or self._rate else None

    def close(self) -> None:
        """Close the connection; the next look opens another one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def look_for_file(self) -> WaitReason | None:
        """Why the pause file makes the repair wait now, or None. Safe across threads, and quick."""
        if self._pause_file is None:
            return None
        try:
            # Also a link that leads nowhere was put there by somebody.
            self._pause_file.lstat()
        except FileNotFoundError:
            return None
        except OSError as error:
            return WaitReason(
                reason=f"it cannot be seen whether the file {self._pause_file} exists"
                f" ({error.strerror}; [repair] pause_file)"
            )
        return WaitReason(reason=f"the file {self._pause_file} exists; remove it to go on")

    def _look_at_server(self) -> WaitReason | None:
        try:
            positions = self._read()
        except (psycopg.Error, CannotExamineError) as error:
            self.close()
            if self._rate is not None:
                self._rate.forget()
            reason = reason_of(error) if isinstance(error, psycopg.Error) else str(error)
            return WaitReason(reason=f"the health of the server cannot be read: {reason}")
        now = time.monotonic()
        behind = None
        if self._lag is not None:
            behind = (
                _hidden(positions.role)
                if positions.hidden
                else self._lag.judge(now, positions.written, positions.standbys)
            )
        busy = None if self._rate is None else self._rate.judge(now, positions.written)
        holds = [hold for hold in (behind, busy) if hold is not None]
        return min(holds, key=lambda hold: hold.expected, default=None)

    def _read(self) -> _Positions:
        if self._connection is None or self._connection.closed:
            self._connection = connect(self._place)
        with read_only(self._connection, self._place, statement_timeout=STATEMENT_TIMEOUT):
            rows = self._connection.execute(_POSITIONS).fetchall()
        return _positions(rows)


def _positions(rows: list[tuple[Any, ...]]) -> _Positions:
    standbys = []
    hidden = False
    for _, _, pid, state, name, replayed, reported_lag in rows:
        if pid is not None and state is None:
            hidden = True
        elif replayed is not None:
            standbys.append(
                Standby(pid=pid, name=name, replayed=replayed, reported_lag=reported_lag)
            )
    written, role = rows[0][:2]
    return _Positions(written=written, role=role, standbys=tuple(standbys), hidden=hidden)


def _hidden(role: str) -> WaitReason:
    grant = sql.SQL("GRANT pg_monitor TO {}").format(sql.Identifier(role)).as_string()
    return WaitReason(
        reason=f"role {role!r} may not see how far the standbys are behind; {grant}, or leave"
        " max_replication_lag out"
    )
