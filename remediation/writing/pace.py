"""How many rows a write transaction takes. Counts only."""

from __future__ import annotations

from dataclasses import dataclass

FIRST_ROWS = 10
"""Rows of the first write transaction; under an HNSW index each may cost 35 ms."""
GROWTH = 1.2
MOST_ROWS = 500


@dataclass(kw_only=True, slots=True)
class Pace:
    """Rows per write transaction: starts small, grows gently, halves as soon as one times out."""

    rows: float = FIRST_ROWS

    def faster(self) -> None:
        self.rows = min(self.rows * GROWTH, MOST_ROWS)

    def slower(self) -> None:
        self.rows = max(1.0, self.rows / 2)
