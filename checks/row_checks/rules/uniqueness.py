"""Finds vectors that stand under different texts, such as a stub or a default one.

Builds SQL only; runs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from psycopg import sql

from checks.row_checks.essence import essence_of
from checks.row_checks.row_check import RowCheck
from checks.row_checks.set_rule import SetRule

if TYPE_CHECKING:
    from checks.row_checks.row_relation import RowWords
    from checks.targets.target import Target

NAME = "uniqueness"


def _under_different_texts(target: Target, row: RowWords) -> SetRule:
    """One vector, byte for byte, under different texts, over all tenants and sibling entries.

    Texts differ by their `essence`: those that an uncased model or one with a short window takes
    for the same may share a vector.
    """
    alike = target.declared.check_settings(NAME).alike
    kind, schema = target.embedding_type, target.server.vector_schema
    return SetRule(
        among=sql.SQL("{} IS NOT NULL AND {}").format(row.embedding, row.embeddable),
        fingerprint=kind.hash(row.embedding, schema) if row.norm is None else row.norm,
        identity=sql.SQL("pg_catalog.md5({})").format(kind.bytes(row.embedding, schema)),
        common=essence_of(row.text, target.server, characters=alike),
        held_at=row.held_at,
    )


CHECK = RowCheck(
    name=NAME,
    order=6,
    says="have a vector that stands under a different text as well (case and marks aside)",
    remedy="re-embed",
    reads_vectors=lambda _: True,
    rule_of_sets=_under_different_texts,
    meaningful=lambda target: target.text_is_known,
)
