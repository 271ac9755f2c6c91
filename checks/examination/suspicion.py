"""Suspects the settings, not the rows, where no row at all is as a check wants it.

Values only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from checks.wording import plural

if TYPE_CHECKING:
    from checks.examination.table_examination import TableExamination

SETTINGS = {"provenance": "model", "dimensionality": "dimensions"}
"""The setting that each of these checks holds rows against."""


def suspicion(table: TableExamination, check: str) -> str | None:
    """Why a check that fails for every embedding of a table may be a mistake of the settings.

    None where some row passes it, or where that is not known.
    """
    setting = SETTINGS.get(check)
    failing = 0 if setting is None else table.failing(check)
    if not failing or not table.part.proves(check) or failing < _embedded(table):
        return None
    declared = table.target.model if setting == "model" else table.target.dimensions
    return (
        f"no embedding of {table.target.name} is of {setting} {declared!r}, all"
        f" {plural(failing, 'row')} have another ({shown(found_of(table, check))}): is `{setting}`"
        " of the settings mistaken? A repair would pay for every row"
    )


def found_of(table: TableExamination, check: str) -> tuple[str, ...]:
    """What failing rows have in place of what is declared, each once, in order."""
    values = {value for one in table.measurements for value in one.found.get(check, ())}
    return tuple(sorted(values))


def shown(values: tuple[str, ...], most: int = 3) -> str:
    """The first of some values, and how many more there are."""
    more = f" and {len(values) - most} more" if len(values) > most else ""
    return ", ".join(values[:most]) + more


def _embedded(table: TableExamination) -> int:
    """How many rows have an embedding, as far as the counts tell."""
    return sum(
        one.rows - one.not_embeddable - one.failing.get("completeness", 0) - one.pending
        for one in table.measurements
    )
