"""Holds how long the requests and the writes of a table's repair took. Values only."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

EVENT = "throughput"
"""In the journal's line of it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Throughput:
    """What the requests and the writes of one table's repair took, in seconds of one thread each.

    They are measured while others run beside them, and so hold what the others cost them.
    """

    table: str
    host: str
    """Of the endpoint, without its port."""
    model: str
    indexed: bool
    """Whether each written row was entered in an ANN index too."""
    requests: int
    request_seconds: float
    rows: int
    row_seconds: float

    @property
    def entry(self) -> dict[str, Any]:
        """The form in which the journal holds it."""
        return {"event": EVENT, **asdict(self)}
