"""Decides how an embedding is marked stale when its text changes, or says why nothing marks it.

Judges the settings and the catalog's facts; asks nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from checks.row_checks.row_expressions import embedded_text_of
from checks.targets.target import KINDS

if TYPE_CHECKING:
    from checks.database.catalog import Column
    from checks.targets.stores import PlacedColumn
    from checks.targets.target import Target

Means = Literal["hash", "time", "null"]


@dataclass(frozen=True, kw_only=True, slots=True)
class StaleMark:
    """The column that tells, of the row or of its row in the store.

    `hash` keeps the hash of the text that was embedded, `time` and `null` set their column to NULL.
    """

    means: Means
    column: Column

    @property
    def says(self) -> str:
        """What the trigger does, for its comment and the reviewer."""
        if self.means == "hash":
            return f"keeps {self.column.name} that of the embedded text when the text changes alone"
        return f"sets {self.column.name} to NULL when the text changes and its embedding does not"


@dataclass(frozen=True, kw_only=True, slots=True)
class NoMark:
    """Why no trigger is made; `lacking` where an edit then stays unseen."""

    reason: str
    lacking: bool


def stale_mark(target: Target) -> StaleMark | NoMark:
    """How the target's embeddings are marked."""
    if not target.declared.check_settings("freshness").enabled:
        return NoMark(reason="freshness is switched off in the settings", lacking=False)
    if not target.facts.writable_kind:
        kind = KINDS[target.facts.kind]
        reason = f"{target.name} is a {kind}, whose rows have no triggers: declare the table below"
        return NoMark(reason=reason, lacking=True)
    return _own_mark(target) if target.store is None else _mark_in_store(target)


def _own_mark(target: Target) -> StaleMark | NoMark:
    held = target.provenance_column("content_hash")
    if held is not None and not held.column.generated:
        return StaleMark(means="hash", column=held.column)
    if (time := _time(target)) is not None:
        return StaleMark(means="time", column=time)
    return _null_mark(target, "content_hash, or updated_at with an embedded_at that may be NULL")


def _mark_in_store(target: Target) -> StaleMark | NoMark:
    store = target.store
    assert store is not None
    if not target.repeats:
        held = target.provenance_column("content_hash")
        if embedded_text_of(target) is not None or (held is not None and not held.column.generated):
            reason = f"{store.name} keeps what was embedded, so that each edit is seen by itself"
            return NoMark(reason=reason, lacking=False)
    if not store.relation.writable_kind:
        return NoMark(reason=f"{store.name} is no table", lacking=True)
    if (time := _time(target)) is not None:
        return StaleMark(means="time", column=time)
    if target.repeats:
        reason = (
            f"{store.name} holds pieces of a text, and nothing tells which are stale; declare"
            " updated_at of the table and embedded_at of the store"
        )
        return NoMark(reason=reason, lacking=True)
    return _null_mark(target, "content_hash of the store")


def _time(target: Target) -> Column | None:
    """The column that tells when the text was embedded, where NULL in it is seen by `freshness`."""
    held: PlacedColumn | None = target.provenance_column("embedded_at")
    if target.declared.updated_at is None or held is None:
        return None
    beside = held.in_store == (target.store is not None)
    return held.column if beside and not (held.column.not_null or held.column.generated) else None


def _null_mark(target: Target, instead: str) -> StaleMark | NoMark:
    column = target.embedding
    if column.not_null:
        reason = f"column {column.name!r} may not be NULL; declare {instead}"
        return NoMark(reason=reason, lacking=True)
    return StaleMark(means="null", column=column)
