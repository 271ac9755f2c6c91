"""Holds how long the requests and the writes of a table's repair took. Values only."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

EVENT = "throughput"
"""In the journal's line of it."""
OF_A_PART = "throughput_of_part"
"""In the line that a worker sends of one job; a plan rests on their sum."""


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

    @classmethod
    def of(cls, event: Mapping[str, Any]) -> Throughput:
        """What a line of the journal holds, whatever stands beside it. Raises KeyError."""
        return cls(**{each.name: event[each.name] for each in fields(cls)})

    def __add__(self, other: Throughput) -> Throughput:
        """Both together, of one table and one endpoint."""
        return replace(
            self,
            requests=self.requests + other.requests,
            request_seconds=self.request_seconds + other.request_seconds,
            rows=self.rows + other.rows,
            row_seconds=self.row_seconds + other.row_seconds,
        )

    @property
    def entry(self) -> dict[str, Any]:
        """The form in which the journal holds it."""
        return {"event": EVENT, **asdict(self)}
