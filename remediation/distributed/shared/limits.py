"""Holds the limits of a key over all workers, by what they enter in the shared schema.

A key is never entered, only its hash. Each request costs two short statements there.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from psycopg import sql

from remediation.distributed.shared.schema import SCHEMA
from remediation.provider.rate_limits import RateLimit, RateLimits, Sent

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import SecretStr

    from checks.database.connection import Connection

_BEGIN = sql.SQL("SELECT * FROM {}.begin_request(%s, %s, %s, %s)").format(sql.Identifier(SCHEMA))
_END = sql.SQL("SELECT {}.end_request(%s, %s, %s, %s, %s)").format(sql.Identifier(SCHEMA))
_UNDO = sql.SQL("DELETE FROM {}.request WHERE id = %s").format(sql.Identifier(SCHEMA))


@dataclass(frozen=True, kw_only=True, slots=True)
class SharedSent(Sent):
    """A request that is entered in the schema too; 0 where no limit needs that."""

    request_id: int


class SharedRateLimit(RateLimit):
    """The limits of one key over all machines; what answers say of it, each machine sees itself."""

    def __init__(
        self,
        connection: Connection,
        key: SecretStr,
        *,
        requests_per_minute: int | None,
        tokens_per_minute: int | None,
        window: float,
    ) -> None:
        super().__init__(tokens_per_minute=tokens_per_minute, window=window)
        self._connection = connection
        self._key_hash = hash_of(key)
        self._most_requests_of_all = requests_per_minute
        self._others_until = 0.0
        """When the others may have left room, on our clock."""

    def begin(self, tokens: int) -> Sent | float:
        if (seconds := self.seconds_to_wait(tokens)) > 0.0:
            return seconds
        row = self._connection.execute(
            _BEGIN, (self._key_hash, tokens, self._most_requests_of_all, self._most_tokens)
        ).fetchone()
        assert row is not None
        request_id, wait, held = row
        if wait is not None:
            with self._lock:
                until = self._clock() + wait
                if held is not None:
                    self._held_until = max(self._held_until, until)
                self._others_until = until
            return float(wait)
        sent = super().begin(tokens)
        if isinstance(sent, Sent):
            return SharedSent(tokens=sent.tokens, at=sent.at, request_id=request_id)
        self._connection.execute(_UNDO, (request_id,))
        return sent

    def end(
        self,
        sent: Sent,
        *,
        headers: Mapping[str, str] | None = None,
        billed: int = 0,
        hold: float | None = None,
    ) -> None:
        super().end(sent, headers=headers, billed=billed, hold=hold)
        request_id = sent.request_id if isinstance(sent, SharedSent) else 0
        if request_id or hold is not None:
            self._connection.execute(_END, (self._key_hash, request_id, billed, self._window, hold))

    def seconds_to_wait(self, tokens: int) -> float:
        return max(super().seconds_to_wait(tokens), self._others_until - time.monotonic(), 0.0)


@dataclass(kw_only=True, slots=True)
class SharedRateLimits(RateLimits):
    """Every key's limits, for a run on many machines."""

    connection: Connection = field(repr=False)

    def _new(self, key: SecretStr) -> RateLimit:
        return SharedRateLimit(
            self.connection,
            key,
            requests_per_minute=self.requests_per_minute,
            tokens_per_minute=self.tokens_per_minute,
            window=self.window,
        )


def hash_of(key: SecretStr) -> str:
    """What stands for a key where others may read it."""
    secret = key.get_secret_value().encode()
    return hashlib.blake2b(secret, digest_size=16, person=b"embed-integrity").hexdigest()
