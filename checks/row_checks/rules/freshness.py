"""Finds vectors of an earlier version of their text. Builds SQL only; runs nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from psycopg import sql

from checks.row_checks.row_check import RowCheck
from checks.row_checks.row_relation import columns_of

if TYPE_CHECKING:
    from checks.row_checks.row_relation import RowWords
    from checks.settings.tables import Table
    from checks.targets.target import Target


def _stale(_: Target, row: RowWords) -> sql.Composable:
    """Whether a row's text changed after it was embedded, by every column that is declared.

    A NULL embedded_at, content_hash or text of a store proves nothing about the text, so the row
    fails; a NULL updated_at means that the row was never edited.
    """
    return sql.SQL("{embedding} IS NOT NULL AND {embeddable} AND ({signs})").format(
        embedding=row.embedding,
        embeddable=row.embeddable,
        signs=sql.SQL(" OR ").join(_signs_of_edits(row)),
    )


def _signs_of_edits(row: RowWords) -> list[sql.Composable]:
    signs: list[sql.Composable] = []
    if row.embedded_at is not None and row.updated_at is not None:
        signs.append(
            sql.SQL("({embedded_at} IS NULL OR {embedded_at} < {updated_at})").format(
                embedded_at=row.embedded_at, updated_at=row.updated_at
            )
        )
    if row.content_hash is not None and row.text_hash is not None:
        signs.append(sql.SQL("{} IS DISTINCT FROM {}").format(row.content_hash, row.text_hash))
    if row.embedded_text is not None:
        # Compared byte for byte, as its md5 would be.
        signs.append(
            sql.SQL('{} COLLATE "C" IS DISTINCT FROM {} COLLATE "C"').format(
                row.embedded_text, row.text
            )
        )
    return signs


def _tells_edits(declared: Table) -> bool:
    dated = declared.updated_at is not None and declared.declares("embedded_at")
    kept = declared.store is not None and declared.store.text is not None
    return dated or kept or declared.declares("content_hash")


CHECK = RowCheck(
    name="freshness",
    order=4,
    says="have a vector of an earlier version of their text",
    remedy="re-embed",
    predicate=_stale,
    applies=_tells_edits,
    meaningful=lambda target: bool(_signs_of_edits(columns_of(target))),
)
