"""Estimates how long the repair of a table takes, from what is known of requests and writes.

Values only: asks no provider and reads nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from math import ceil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from remediation.journal.past_throughput import Past
    from remediation.provider.endpoint import Endpoint

SECONDS_PER_REQUEST = 0.25
"""Assumed where no run has asked this endpoint: users of OpenAI tell of 0.2 to 0.3 s a request."""
SECONDS_PER_ROW = 0.0006
"""Of one writer without an ANN index, with what Python does for it (bench.repair)."""
REQUESTS_ASSUMED = 4
REQUESTS_OF_A_RUN = 20
"""So many requests of a probe count as much as what is assumed, or as an earlier run."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rates:
    """Seconds of one request, and of one row on one writing connection; and where from."""

    per_request: float
    per_row: float
    requests_known: int
    """What the first rests on, in requests of a probe that would count as much."""
    source: str
    """In words, as they follow a time."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """How long the repair of one table takes, at certain rates."""

    rates: Rates
    probe_requests: int
    requests: int
    """Those of the probe not included."""
    rows: int
    concurrency: int
    """Requests at a time."""
    writers: int
    begins_alone: bool
    """Whether nothing is asked for beside the first batch until its write has healed."""
    by_limits: float = 0.0
    """Seconds that the limits of a minute ask for at least."""

    @property
    def source(self) -> str:
        """What the time rests on, in words."""
        return self.rates.source if self.seconds > self.by_limits else "by the limits of a minute"

    @property
    def seconds(self) -> float:
        """Rounds of as many requests as go at a time, or the writes, which go on beside them.

        The probe is a round of its own, as nothing else is asked for until it has agreed; so is the
        first batch where it begins alone.
        """
        if not self.requests:
            return 0.0
        before = self.begins_alone + ceil(self.probe_requests / self.concurrency)
        together = self.requests - self.begins_alone
        asking = ceil(together / self.concurrency) * self.rates.per_request
        writing = self.rows * self.rates.per_row / self.writers
        return max(before * self.rates.per_request + max(asking, writing), self.by_limits)

    def after_probe(self, seconds: float) -> Estimate:
        """Of what is left once the probe is over, whose requests took so many seconds together."""
        known, asked = self.rates.requests_known, self.probe_requests
        per_request = (known * self.rates.per_request + seconds) / (known + asked)
        rates = replace(
            self.rates,
            per_request=per_request,
            source=f"at {per_request:.2g} s a request by its probe",
        )
        return replace(self, rates=rates, probe_requests=0)


def rates_of(
    past: Past, *, endpoint: Endpoint, table: str, indexed_row: Callable[[], float] | None
) -> Rates:
    """The rates of the latest runs that know them, and for the rest what is assumed.

    `indexed_row` reckons the seconds of a row under an ANN index, None where there is no index; it
    is not called where a run has measured them.
    """
    request = past.per_request(endpoint.host, endpoint.model)
    row = past.per_row(table, indexed=indexed_row is not None)
    per_request = SECONDS_PER_REQUEST if request is None else request.seconds
    if row is not None:
        per_row = row.seconds
    else:
        per_row = SECONDS_PER_ROW if indexed_row is None else SECONDS_PER_ROW + indexed_row()
    told = [(f"{per_request:.2g} s a request", request)]
    if indexed_row is not None:
        told.append((f"{1000 * per_row:.0f} ms a row for its index", row))
    known = [words for words, measured in told if measured is not None]
    assumed = [words for words, measured in told if measured is None]
    latest = max((one.run_id for _, one in told if one is not None), default="")
    source = f"{' and '.join(known)} as in the run of {_day(latest)}" if known else ""
    if assumed:
        source += f"{', ' if known else ''}assuming {' and '.join(assumed)}"
    return Rates(
        per_request=per_request,
        per_row=per_row,
        requests_known=REQUESTS_ASSUMED if request is None else REQUESTS_OF_A_RUN,
        source=source,
    )


def _day(run_id: str) -> str:
    """The day of a run by its id, as 12 Nov 2026."""
    day = datetime.strptime(run_id[:8], "%Y%m%d")
    return f"{day.day} {day:%b %Y}"
