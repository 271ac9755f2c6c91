"""Builds the statements that read a target's rows: failing keys, rows by key, healthy ones.

Builds SQL and its parameters; runs nothing.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from psycopg import sql

from checks.database.expressions import beside_parameters
from checks.database.key_comparisons import equal
from checks.database.undecodable import as_sent
from checks.database.vectors.types import vector_bytes
from checks.row_checks.row_check import with_sets
from checks.row_checks.row_relation import rows_of
from checks.row_checks.text_parts import text_traits
from checks.scanning.scan_statement import among
from remediation.selection.given_keys import (
    beyond,
    key_columns,
    key_texts,
    keys_given,
    positions,
    row_of_key,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from checks.row_checks.row_check import AppliedCheck
    from checks.targets.target import Target

CANDIDATES = 1_000
"""Healthy rows of a tenant, alike in the parts of their texts, of which samples are chosen: the
last ones, since an application may have joined its texts otherwise in former years."""
ALL_CANDIDATES = 20_000
"""Of many tenants each has fewer: to look into a text takes about 25 µs."""
FEWEST_CANDIDATES = 5
LONG_ENOUGH = 8_192
"""Characters; a text that is longer tells no more, as applications cut them shorter."""


def compile_failing_keys(
    target: Target, checks: Sequence[AppliedCheck], *, tenants: Sequence[str] | None, first: bool
) -> sql.Composed:
    """The keys of all failing rows, in their order.

    Parameters, unless it begins with the `first` row: after_1 … after_n, the key after which it
    begins. Returns the key's columns as text, and tenant.
    """
    keys = sql.SQL(", ").join(key_columns(target, "r"))
    return sql.SQL(
        """
{sets}SELECT {key_texts}, tenant
FROM {rows} AS r
WHERE ({fails}) AND {tenants} AND {beyond}
ORDER BY {keys}
"""
    ).format(
        sets=beside_parameters(with_sets(checks)),
        key_texts=key_texts(target),
        rows=beside_parameters(rows_of(target)),
        fails=beside_parameters(_fails(checks)),
        tenants=beside_parameters(among(tenants)),
        beyond=sql.SQL("true") if first else beyond(target),
        keys=keys,
    )


def compile_rows_by_key(
    target: Target,
    checks: Sequence[AppliedCheck],
    held: Sequence[AppliedCheck],
    *,
    tenants: Sequence[str] | None,
) -> sql.Composed:
    """The keyed rows that fail a check or hold the vector whose md5 is in `written`.

    Parameters: keys_1 … keys_n, written. Returns, in the order of the keys, position among them
    (from 1), the key's columns as text, tenant, text, md5 of the text, the stored vector's binary
    form, what stands beside it as texts, whether its store has no row for it, and whether the row
    fails each check and each of `held`.
    """
    return sql.SQL(
        """
{sets}SELECT integrity_key.position, {keys}, tenant,
       {sent}, md5(coalesce(text, '')), {bytes},
       beside_vector, NOT stored{checks}
FROM {given}
CROSS JOIN LATERAL ({keyed}) AS r
WHERE ({fails} OR md5({bytes}) = integrity_key.written) AND {tenants}
ORDER BY integrity_key.position
"""
    ).format(
        sets=beside_parameters(with_sets(checks)),
        keys=key_texts(target),
        sent=as_sent(sql.SQL("CASE WHEN embeddable THEN text ELSE '' END"), target.server),
        bytes=beside_parameters(_stored_bytes(target)),
        checks=beside_parameters(_check_columns((*checks, *held))),
        given=keys_given(target, with_written=True),
        keyed=row_of_key(target),
        fails=beside_parameters(_fails(checks)),
        tenants=beside_parameters(among(tenants)),
    )


def compile_read_back(target: Target, checks: Sequence[AppliedCheck]) -> sql.Composed:
    """The keyed rows as they are now.

    Parameters: keys_1 … keys_n. Returns position among the keys (from 1), tenant, md5 of the text,
    md5 of the stored vector, what stands beside it as texts, whether its store has no row for it,
    and whether the row fails each check.
    """
    return sql.SQL(
        """
{sets}SELECT integrity_key.position, tenant, md5(coalesce(text, '')), md5({bytes}),
       beside_vector, NOT stored{checks}
FROM {keys}
CROSS JOIN LATERAL ({keyed}) AS r
"""
    ).format(
        sets=beside_parameters(with_sets(checks)),
        bytes=beside_parameters(_stored_bytes(target)),
        checks=beside_parameters(_check_columns(checks)),
        keys=keys_given(target, with_written=False),
        keyed=row_of_key(target),
    )


def compile_edited(target: Target) -> sql.Composed:
    """Those of the keyed rows whose text has another md5 than the one in `written`.

    Parameters: keys_1 … keys_n, written. Returns position among the keys (from 1); reads no vector.
    """
    return sql.SQL(
        """
SELECT integrity_key.position
FROM {keys}
CROSS JOIN LATERAL ({keyed}) AS r
WHERE md5(coalesce(text, '')) <> integrity_key.written
ORDER BY integrity_key.position
"""
    ).format(
        keys=keys_given(target, with_written=True),
        keyed=row_of_key(target),
    )


def compile_texts(target: Target, *, characters: int) -> sql.Composed:
    """The beginnings of the keyed rows' texts, where they have one.

    Parameters: keys_1 … keys_n. Returns position among the keys (from 1) and text.
    """
    return sql.SQL(
        """
SELECT integrity_key.position, {sent}
FROM {keys}
CROSS JOIN LATERAL ({keyed}) AS r
WHERE text IS NOT NULL
"""
    ).format(
        sent=as_sent(
            sql.SQL("pg_catalog.left(text, {})").format(sql.Literal(characters)), target.server
        ),
        keys=keys_given(target, with_written=False),
        keyed=row_of_key(target),
    )


def compile_candidates(
    target: Target,
    checks: Sequence[AppliedCheck],
    *,
    tenants: Sequence[str | None],
    each: int,
) -> sql.Composed:
    """Rows of each tenant that fail no check, of which its sample is chosen.

    Of the last ones (see `CANDIDATES`) that have the same parts of their text, the `each` shortest
    and longest of those alike. Takes no parameters. Returns key as texts, tenant, what the text has
    (an array of integers) and its length. The windows run over keys alone, and no vector is read.
    """
    keys = sql.SQL(", ").join(sql.Identifier(f"key_{i}") for i in positions(target))
    return sql.SQL(
        """
{sets}SELECT {key}, tenant, traits, length
FROM (
    SELECT *,
           pg_catalog.row_number() OVER (
               PARTITION BY tenant, traits ORDER BY length, {last_first}
           ) AS from_short,
           pg_catalog.row_number() OVER (
               PARTITION BY tenant, traits ORDER BY length DESC, {last_first}
           ) AS from_long
    FROM (
        SELECT {own_keys}, r.tenant, pg_catalog.array_cat(r.text_parts, {traits}) AS traits,
               least(pg_catalog.length(r.text), {long}) AS length
        FROM {rows} AS r
        JOIN (
            SELECT {keys}, pg_catalog.row_number() OVER (
                PARTITION BY tenant, text_parts ORDER BY {last_first}
            ) AS turn
            FROM {rows} AS r
            WHERE embedding IS NOT NULL AND embeddable AND ({fails}) IS NOT TRUE AND {tenants}
        ) AS late ON {same}
        WHERE late.turn <= {candidates}
    ) AS r
) AS r
WHERE {each} >= least(from_short, from_long)
ORDER BY tenant COLLATE "C", {last_first}
"""
    ).format(
        sets=with_sets(checks),
        key=key_texts(target),
        traits=text_traits(sql.SQL("r.text")),
        # Of any age: that no changed row is healthy must not spare the probe.
        rows=rows_of(replace(target, changed_since=None)),
        keys=keys,
        own_keys=sql.SQL(", ").join(key_columns(target, "r")),
        same=equal(target.key, key_columns(target, "r"), key_columns(target, "late")),
        last_first=sql.SQL(", ").join(
            sql.SQL("{} DESC").format(column) for column in key_columns(target, "r")
        ),
        fails=_fails(checks),
        tenants=sql.SQL("({} OR tenant IS NULL AND {})").format(
            among([tenant for tenant in tenants if tenant is not None]),
            sql.Literal(None in tenants),
        ),
        long=sql.Literal(LONG_ENOUGH),
        candidates=sql.Literal(
            min(CANDIDATES, max(FEWEST_CANDIDATES, ALL_CANDIDATES // max(1, len(tenants))))
        ),
        each=sql.Literal(each),
    )


def compile_healthy(target: Target, checks: Sequence[AppliedCheck]) -> sql.Composed:
    """The keyed rows that still fail no check.

    Parameters: keys_1 … keys_n. Returns position among the keys (from 1), tenant, text and vector:
    an array as it is, since it may hold what no `vector` admits; any other type as a `vector` in
    binary form.
    """
    embedding = sql.SQL("embedding")
    return sql.SQL(
        """
{sets}SELECT integrity_key.position, tenant, {sent}, {vector}
FROM {keys}
CROSS JOIN LATERAL ({keyed}) AS r
WHERE embedding IS NOT NULL AND embeddable AND ({fails}) IS NOT TRUE
ORDER BY integrity_key.position
"""
    ).format(
        sets=beside_parameters(with_sets(checks)),
        sent=as_sent(sql.SQL("text"), target.server),
        vector=beside_parameters(vector_bytes(embedding, target.server.vector_schema))
        if target.embedding_type.from_extension
        else embedding,
        keys=keys_given(target, with_written=False),
        keyed=row_of_key(replace(target, changed_since=None)),
        fails=beside_parameters(_fails(checks)),
    )


def _fails(checks: Sequence[AppliedCheck]) -> sql.Composable:
    return sql.SQL(" OR ").join(sql.SQL("({})").format(check.predicate) for check in checks)


def _check_columns(checks: Sequence[AppliedCheck]) -> sql.Composable:
    return sql.SQL("").join(sql.SQL(", ({}) IS TRUE").format(check.predicate) for check in checks)


def _stored_bytes(target: Target) -> sql.Composable:
    return target.embedding_type.bytes(sql.Identifier("embedding"), target.server.vector_schema)
