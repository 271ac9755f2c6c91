"""Builds the statements that read a target's rows: failing keys, rows by key, healthy ones.

Builds SQL and its parameters; runs nothing.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from psycopg import sql
from psycopg.adapt import PyFormat

from checks.database.expressions import beside_parameters, unnested
from checks.database.key_comparisons import compared, equal
from checks.database.undecodable import as_sent
from checks.database.vectors.types import vector_bytes
from checks.row_checks.row_check import with_sets
from checks.row_checks.row_relation import rows_of
from checks.row_checks.text_parts import text_traits
from checks.scanning.scan_statement import among

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

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
    keys = sql.SQL(", ").join(_key_columns(target, "r"))
    return sql.SQL(
        """
{sets}SELECT {key_texts}, tenant
FROM {rows} AS r
WHERE ({fails}) AND {tenants} AND {beyond}
ORDER BY {keys}
"""
    ).format(
        sets=beside_parameters(with_sets(checks)),
        key_texts=_key_texts(target),
        rows=beside_parameters(rows_of(target)),
        fails=beside_parameters(_fails(checks)),
        tenants=beside_parameters(among(tenants)),
        beyond=sql.SQL("true") if first else _beyond(target),
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
        keys=_key_texts(target),
        sent=as_sent(sql.SQL("CASE WHEN embeddable THEN text ELSE '' END"), target.server),
        bytes=beside_parameters(_stored_bytes(target)),
        checks=beside_parameters(_check_columns((*checks, *held))),
        given=_keys(target, with_written=True),
        keyed=_keyed(target),
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
        keys=_keys(target, with_written=False),
        keyed=_keyed(target),
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
        keys=_keys(target, with_written=True),
        keyed=_keyed(target),
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
        keys=_keys(target, with_written=False),
        keyed=_keyed(target),
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
    keys = sql.SQL(", ").join(sql.Identifier(f"key_{i}") for i in _positions(target))
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
        key=_key_texts(target),
        traits=text_traits(sql.SQL("r.text")),
        # Of any age: that no changed row is healthy must not spare the probe.
        rows=rows_of(replace(target, changed_since=None)),
        keys=keys,
        own_keys=sql.SQL(", ").join(_key_columns(target, "r")),
        same=equal(target.key, _key_columns(target, "r"), _key_columns(target, "late")),
        last_first=sql.SQL(", ").join(
            sql.SQL("{} DESC").format(column) for column in _key_columns(target, "r")
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
        keys=_keys(target, with_written=False),
        keyed=_keyed(replace(target, changed_since=None)),
        fails=beside_parameters(_fails(checks)),
    )


def _beyond(target: Target) -> sql.Composable:
    """The condition that a row stands behind the key after_1 … after_n."""
    after = [
        sql.SQL("{}::{}").format(sql.Placeholder(f"after_{i}"), type_of(column.full_type))
        for i, column in enumerate(target.key, start=1)
    ]
    return compared(target.key, _key_columns(target, "r"), ">", after)


def texts_given(parameter: str) -> sql.Composed:
    """A parameter that is an array of texts.

    In binary: the literal of an array takes several times as long to write, row by row.
    """
    return sql.SQL("{}::text[]").format(sql.Placeholder(parameter, format=PyFormat.BINARY))


def key_arrays(keys: Sequence[tuple[str, ...]], columns: int | None = None) -> dict[str, Any]:
    """The parameters keys_1 … keys_n: one array of texts per key column.

    `columns` is needed only where there may be no keys at all.
    """
    width = columns if columns is not None else len(keys[0])
    return {f"keys_{i + 1}": [key[i] for key in keys] for i in range(width)}


def type_of(name: str) -> sql.SQL:
    """A type's name as format_type() wrote it, which quotes where it must."""
    return sql.SQL(name.replace("%", "%%"))


def _key_texts(target: Target) -> sql.Composable:
    return sql.SQL(", ").join(
        sql.SQL("{}::text").format(column) for column in _key_columns(target, "r")
    )


def _key_columns(target: Target, relation: str) -> list[sql.Identifier]:
    """The key's columns, qualified: a bare name in ORDER BY means the output column, a text."""
    return [sql.Identifier(relation, f"key_{i}") for i in _positions(target)]


def _fails(checks: Sequence[AppliedCheck]) -> sql.Composable:
    return sql.SQL(" OR ").join(sql.SQL("({})").format(check.predicate) for check in checks)


def _check_columns(checks: Sequence[AppliedCheck]) -> sql.Composable:
    return sql.SQL("").join(sql.SQL(", ({}) IS TRUE").format(check.predicate) for check in checks)


def _stored_bytes(target: Target) -> sql.Composable:
    return target.embedding_type.bytes(sql.Identifier("embedding"), target.server.vector_schema)


def _keys(target: Target, *, with_written: bool) -> sql.Composable:
    """The keys of a statement's parameters as a relation, one row per key."""
    names = [sql.Identifier(f"key_{i}") for i in _positions(target)]
    arrays = [texts_given(f"keys_{i}") for i in _positions(target)]
    if with_written:
        names.append(sql.Identifier("written"))
        arrays.append(texts_given("written"))
    return sql.SQL("{arrays} WITH ORDINALITY AS integrity_key ({names}, position)").format(
        arrays=unnested(arrays), names=sql.SQL(", ").join(names)
    )


def key_is(
    target: Target, columns: Iterable[sql.Composable], given: Iterable[sql.Composable]
) -> sql.Composable:
    """The condition that columns hold the key given as texts, each cast back to its own type."""
    typed = [
        sql.SQL("{}::{}").format(text, type_of(column.full_type))
        for text, column in zip(given, target.key, strict=True)
    ]
    return equal(target.key, list(columns), typed)


def _keyed(target: Target) -> sql.Composable:
    """The row of one key.

    OFFSET 0 has it looked up by itself, through the key's index. A join may read the whole table
    instead, up to the last of the keys, and there may be hundreds of such statements.
    """
    names = [f"key_{position}" for position in _positions(target)]
    return sql.SQL("SELECT * FROM {rows} AS keyed WHERE {same} OFFSET 0").format(
        rows=beside_parameters(rows_of(target)),
        same=key_is(
            target,
            [sql.Identifier("keyed", name) for name in names],
            [sql.Identifier("integrity_key", name) for name in names],
        ),
    )


def _positions(target: Target) -> range:
    return range(1, len(target.key) + 1)
