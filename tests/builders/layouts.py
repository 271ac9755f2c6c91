"""The layouts people really have, each from its public DDL, with whole and broken rows.

Their settings are not here: `settings_of` reads them from docs/layouts.md, where users do.
"""

from __future__ import annotations

import json
import re
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import psycopg

from tests.servers.provider_server import vector_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "layouts.md"
DIMENSIONS = 8
SHORT = 3
"""Dimensions of every vector but those that are too short."""

State: TypeAlias = Literal["whole", "missing", "zero", "short", "stub", "stale", "blank", "deleted"]
Statement: TypeAlias = tuple[str, tuple[Any, ...]]

FAILS: Mapping[State, str] = {
    "missing": "completeness",
    "zero": "degenerate",
    "short": "dimensionality",
    "stub": "uniqueness",
    "stale": "freshness",
}
"""The check that finds a row of a state; the other states are as they should be."""

WHOLE: tuple[State, ...] = ("whole",) * 3
# One zero vector to a table: two would be one vector under two texts as well.
NULLABLE: Mapping[str, tuple[State, ...]] = {
    "acme": (*WHOLE, "missing", "missing", "blank"),
    "globex": (*WHOLE, "missing", "zero", "stub", "stub"),
    "initech": WHOLE,
}
NOT_NULL: Mapping[str, tuple[State, ...]] = {
    "acme": (*WHOLE, "zero"),
    "globex": (*WHOLE, "stub", "stub"),
    "initech": WHOLE,
}
ANY_DIMENSION: Mapping[str, tuple[State, ...]] = {
    "acme": (*WHOLE, "short", "short", "missing"),
    "globex": (*WHOLE, "zero", "blank"),
    "initech": WHOLE,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """A row to insert: its number is its own in the whole layout."""

    number: int
    tenant: str
    state: State

    @property
    def title(self) -> str:
        return "" if self.state == "blank" else f"Note {self.number}"

    @property
    def body(self) -> str:
        # Two lines: what becomes of a line break is a matter of the layout.
        return (
            " \n"
            if self.state == "blank"
            else f"note {self.number} of {self.tenant},\nand its second line"
        )

    @property
    def key(self) -> uuid.UUID:
        return uuid.uuid5(uuid.NAMESPACE_OID, str(self.number))

    @property
    def tenant_id(self) -> uuid.UUID:
        return uuid.uuid5(uuid.NAMESPACE_OID, self.tenant)


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """How one application keeps its embeddings. `heading` is the one in docs/layouts.md."""

    heading: str
    create: tuple[str, ...]
    insert: Callable[[Row, str | None], list[Statement]]
    """Statements that insert a row with the literal of its vector."""
    tables: tuple[str, ...]
    """Everything the layout consists of; those with a vector hold it in `embedding`."""
    rows: Mapping[str, tuple[State, ...]] = field(default_factory=lambda: NULLABLE)
    embedding: str = "embedding"
    written: frozenset[str] = frozenset()
    """Columns that a repair writes along with the vector."""
    embedded: Callable[[Row], str] = lambda row: row.body
    """The text that the application sends to its model."""
    segment: Callable[[str], str | None] = lambda tenant: tenant
    """What the checks call a tenant."""

    def all_rows(self) -> Iterator[Row]:
        """Every row, numbered from 1."""
        number = 0
        for tenant, states in self.rows.items():
            for state in states:
                number += 1
                yield Row(number=number, tenant=tenant, state=state)

    def broken(self) -> dict[str, dict[str | None, int]]:
        """Rows that fail, by check and segment."""
        counts: dict[str, dict[str | None, int]] = {}
        for row in self.all_rows():
            if row.state in FAILS:
                of_check = counts.setdefault(FAILS[row.state], {})
                segment = self.segment(row.tenant)
                of_check[segment] = of_check.get(segment, 0) + 1
        return counts

    def build(self, url: str) -> None:
        """Create the layout and its rows in a database."""
        with psycopg.connect(url, autocommit=True) as connection:
            for statement in self.create:
                connection.execute(statement)
            for row in self.all_rows():
                for statement, values in self.insert(row, self._literal(row)):
                    connection.execute(statement, values)

    def _literal(self, row: Row) -> str | None:
        if row.state in ("missing", "blank", "deleted"):
            return None
        if row.state == "zero":
            return literal([0.0] * DIMENSIONS)
        text = "a stub" if row.state == "stub" else self.embedded(row)
        return literal(vector_of(text, SHORT if row.state == "short" else DIMENSIONS).tolist())

    def contents(self, url: str) -> dict[tuple[str, int | None], list[tuple[str, Any]]]:
        """All rows of all tables, by table and number of the row: version and columns."""
        found: dict[tuple[str, int | None], list[tuple[str, Any]]] = {}
        with psycopg.connect(url) as connection:
            for table in self.tables:
                for version, record in connection.execute(
                    f"SELECT t.xmin::text || t.ctid::text, to_jsonb(t) FROM {table} AS t ORDER BY 1"
                ):
                    found.setdefault((table, _number(record)), []).append((version, record))
        return found


def literal(numbers: Sequence[float]) -> str:
    """A vector as pgvector writes it."""
    return "[" + ",".join(map(str, numbers)) + "]"


def settings_of(heading: str) -> str:
    """The settings that docs/layouts.md shows under a heading."""
    section = DOCUMENT.read_text(encoding="utf-8").split(f"\n## {heading}\n", 1)[1]
    block = re.search(
        r"^```toml\n(.*?)^```$", section.split("\n## ", 1)[0], re.MULTILINE | re.DOTALL
    )
    assert block is not None, f"no settings under {heading!r}"
    return block[1]


def headings() -> list[str]:
    """The layouts that docs/layouts.md tells of."""
    return re.findall(r"^## (.+)$", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)


def _number(record: Mapping[str, Any]) -> int | None:
    """The number of the row that a record belongs to; None for what belongs to none."""
    if "article_id" in record:
        return int(record["article_id"])
    found = re.search(r"note (\d+) of", json.dumps(record))
    return int(found[1]) if found else None
