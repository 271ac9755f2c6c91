"""One validation for tables of one layout: a pattern may stand for thousands of them.

Remembers what the server said; asks it nothing itself.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from checks.database.catalog import Relation
    from checks.settings.integrity_toml import Table


@dataclass(kw_only=True, slots=True)
class Layouts:
    """What expressions of one declaration came to over columns of the same names and types."""

    _known: dict[tuple[object, ...], list[str]] = field(default_factory=dict)
    _sources: dict[int, str] = field(default_factory=dict)

    def faults(
        self,
        declared: Table,
        relations: Sequence[Relation],
        what: str,
        ask: Callable[[], list[str]],
    ) -> list[str]:
        """The faults that `ask` finds, asked once for relations that are alike.

        What `ask` raises is not remembered: the next table may not be locked.
        """
        alike = (what, id(declared), *(self._layout(declared, one) for one in relations))
        if alike not in self._known:
            self._known[alike] = ask()
        return self._known[alike]

    def _layout(self, declared: Table, relation: Relation) -> tuple[object, ...]:
        source = self._sources.get(id(declared))
        if source is None:
            source = self._sources[id(declared)] = "\0".join(_sources(declared)).casefold()
        # An expression that speaks of its own table by name means another one in each.
        spoken = tuple(
            name for name in (relation.schema, relation.name) if name.casefold() in source
        )
        columns = tuple(
            (column.name, column.full_type, column.readable) for column in relation.columns.values()
        )
        return (relation.kind, relation.primary_key, spoken, frozenset(columns))


def _sources(declared: Table) -> Iterator[str]:
    """Every SQL expression of a declaration."""
    own = (declared.text, declared.tenant, declared.where, declared.created_at, declared.updated_at)
    yield from (source for source in own if source is not None)
    yield from (check.failing_when for check in declared.custom)
    if declared.store is not None:
        yield declared.store.text or ""
        yield from declared.store.insert.values()
