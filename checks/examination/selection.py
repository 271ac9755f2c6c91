"""Restricts a run to `--table` and `--tenant`, and refuses unknown names.

Decides by values alone; asks no database.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from checks.errors import IntegrityError
from checks.redaction import redactor
from checks.settings.names import display_name
from checks.wording import number

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from datetime import timedelta

    from checks.examination.table_examination import TableExamination
    from checks.scanning.sample import Sample
    from checks.targets.target import Target

NAMES_LISTED = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class Selection:
    """The tables, tenants and rows a run is restricted to; None means all."""

    tables: Collection[str] | None = None
    tenants: tuple[str, ...] | None = None
    sample: Sample | None = None
    """The rows whose vectors are read."""
    since: timedelta | None = None
    """Only rows that changed within this time are looked at."""

    def wants(self, target: Target) -> bool:
        """Whether a target is selected, by its name, its declared name, or its bare name."""
        if self.tables is None:
            return True
        names = {target.name, target.entry, str(target.declared.name)}
        if target.relation is not None:
            schema, name = target.relation.schema, target.relation.name
            for table in (name, f"{schema}.{name}", display_name(schema, name)):
                names |= {table, table + target.place}
        return not names.isdisjoint(self.tables)


class UnknownNameError(IntegrityError):
    """A table or tenant was selected that is not there; `reason` follows on its name."""

    def __init__(self, kind: Literal["table", "tenant"], name: str, reason: str) -> None:
        super().__init__(redactor.clean(f"--{kind}={name} {reason}"))
        self.kind = kind
        self.name = name
        self.reason = redactor.clean(reason)


def require_known_tables(selection: Selection, targets: Sequence[Target]) -> None:
    for name in selection.tables or ():
        if not any(Selection(tables={name}).wants(target) for target in targets):
            known = sorted({target.name for target in targets})
            listed = ", ".join(known[:NAMES_LISTED])
            if (more := len(known) - NAMES_LISTED) > 0:
                listed += f" and {number(more)} more"
            raise UnknownNameError(
                "table", name, f"is not declared; {_nearest(name, known)}declared are: {listed}"
            )


def require_known_tenants(
    selection: Selection,
    tables: Sequence[TableExamination],
    tenants_there: Callable[[], Collection[str]],
) -> None:
    """Raise UnknownNameError for a selected tenant that has no rows.

    `tenants_there` lists the tenants of the selected tables, to suggest one; it may take long.
    """
    seen = {m.segment.tenant for table in tables for m in table.measurements}
    seen |= {name for table in tables for name in table.unlisted.tenants}
    declared = {name for table in tables for name in table.target.declared.tenants}
    # A table that could not be measured may hold the tenant.
    known = all(table.measured or table.target.absent for table in tables)
    for tenant in selection.tenants or ():
        if known and tenant not in seen | declared:
            raise UnknownNameError(
                "tenant",
                tenant,
                "has no rows in any selected table;"
                f" {_nearest(tenant, tenants_there())}expected a tenant's name as it is stored",
            )


def _nearest(name: str, known: Collection[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]!r}? " if near else ""
