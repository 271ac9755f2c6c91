"""Says which table's rows the rows of another one are embeddings of. Values only."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from checks.database.catalog import Relation


@dataclass(frozen=True, kw_only=True, slots=True)
class Link:
    """A table, the columns that name its row, and how sure that is."""

    parent: Relation
    columns: tuple[str, ...]
    parent_columns: tuple[str, ...]
    reason: str
    constants: Mapping[str, str] = field(default_factory=dict)
    """Values that tell its rows from those of other owners, by column, as text."""
    doubt: str | None = None
    """Why a person must confirm it; None where the catalog or the rows do."""
