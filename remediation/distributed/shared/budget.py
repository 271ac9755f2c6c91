"""Reserves rows and dollars under the caps of a run that many workers share.

Nothing is sent before it is reserved in the run's row: what a killed worker had in flight stays
reserved, so that a cap is never exceeded. Each batch costs two or three short statements there.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from psycopg import sql

from remediation.distributed.shared.schema import SCHEMA
from remediation.provider.usage import NOTHING, Usage
from remediation.throttling.budget import TOKENS_PER_PRICE, Budget

if TYPE_CHECKING:
    from datetime import datetime

    from checks.database.connection import Connection

_SCHEMA = sql.Identifier(SCHEMA)
_GRANT = sql.SQL("""
UPDATE {schema}.run AS r SET rows = r.rows + g.granted
FROM (
    SELECT least(%(wanted)s, greatest(0, max_rows - rows)) AS granted
    FROM {schema}.run WHERE run_id = %(run_id)s FOR UPDATE
) AS g
WHERE r.run_id = %(run_id)s
RETURNING g.granted
""").format(schema=_SCHEMA)
_LEASE = sql.SQL("""
UPDATE {schema}.run SET reserved = reserved + %(tokens)s
WHERE run_id = %(run_id)s
  AND (tokens + unsaid + reserved + %(tokens)s) * price / {per_price} <= max_cost
RETURNING true
""").format(schema=_SCHEMA, per_price=sql.Literal(TOKENS_PER_PRICE))
_SETTLE = sql.SQL("""
UPDATE {schema}.run
SET rows = rows + %(rows)s, reserved = reserved + %(reserved)s,
    requests = requests + %(requests)s, unanswered = unanswered + %(unanswered)s,
    tokens = tokens + %(tokens)s, unsaid = unsaid + %(unsaid)s
WHERE run_id = %(run_id)s
""").format(schema=_SCHEMA)
_READ = sql.SQL("""
SELECT max_rows - rows, requests, unanswered, tokens, unsaid FROM {schema}.run WHERE run_id = %s
""").format(schema=_SCHEMA)
_TODAY = sql.SQL("""
SELECT coalesce(sum((tokens + unsaid + reserved) * price / {per_price}), 0)::float8
FROM {schema}.run WHERE sweep AND begun_at >= %s
""").format(schema=_SCHEMA, per_price=sql.Literal(TOKENS_PER_PRICE))


@dataclass(kw_only=True, slots=True)
class SharedBudget(Budget):
    """One worker's share in a run's budget; used by one thread. `close` gives back the rest."""

    connection: Connection = field(repr=False)
    run_id: str
    _leased_rows: int = 0
    """Granted to us, and not sent yet."""
    _leased_tokens: int = 0

    @property
    def spent(self) -> float:
        return self.dollars(self.usage.reckoned)

    @property
    def usage(self) -> Usage:
        """What the requests of all workers took that have come back."""
        _, *took = self._read()
        return Usage(**dict(zip(("requests", "unanswered", "tokens", "unsaid"), took, strict=True)))

    def rows_left(self) -> int:
        return max(0, self._read()[0]) + self._leased_rows

    def grant(self, rows: int) -> int:
        if self._leased_rows < rows:
            wanted = rows - self._leased_rows
            cursor = self.connection.execute(_GRANT, {"run_id": self.run_id, "wanted": wanted})
            granted = cursor.fetchone()
            self._leased_rows += 0 if granted is None else granted[0]
        return min(rows, self._leased_rows)

    def affords(self, tokens: int) -> bool:
        if self._leased_tokens < tokens:
            more = tokens - self._leased_tokens
            cursor = self.connection.execute(_LEASE, {"run_id": self.run_id, "tokens": more})
            if cursor.fetchone() is None:
                return False
            self._leased_tokens = tokens
        return True

    def reserve(self, *, rows: int, tokens: int) -> None:
        self._leased_rows -= rows
        self._leased_tokens -= tokens

    def settle(self, *, reserved: int, took: Usage = NOTHING) -> None:
        if reserved or took != NOTHING:
            self._enter(reserved=-reserved, took=took)

    def close(self) -> None:
        """Give back what was granted and not sent."""
        rows, self._leased_rows = self._leased_rows, 0
        tokens, self._leased_tokens = self._leased_tokens, 0
        if rows or tokens:
            self._enter(rows=-rows, reserved=-tokens)

    def _enter(self, *, rows: int = 0, reserved: int = 0, took: Usage = NOTHING) -> None:
        self.connection.execute(
            _SETTLE,
            {
                "run_id": self.run_id,
                "rows": rows,
                "reserved": reserved,
                "requests": took.requests,
                "unanswered": took.unanswered,
                "tokens": took.tokens,
                "unsaid": took.unsaid,
            },
        )

    def _read(self) -> tuple[int, ...]:
        row = self.connection.execute(_READ, (self.run_id,)).fetchone()
        # A run that is gone has nothing left.
        return (0, 0, 0, 0, 0) if row is None else row


def spent_by_sweeps(connection: Connection, since: datetime) -> float:
    """Dollars of the sweeps that began since then, with what they have reserved."""
    row = connection.execute(_TODAY, (since,)).fetchone()
    return 0.0 if row is None else float(row[0])
