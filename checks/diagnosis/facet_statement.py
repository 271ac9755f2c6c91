"""Writes the one statement that counts a table's rows by every facet; runs nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from psycopg import sql

from checks.diagnosis import facets
from checks.row_checks.row_check import with_sets
from checks.row_checks.row_relation import group_names, has_place, rows_of
from checks.scanning.scan_statement import DATABLE, DATABLE_AS, among

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from checks.row_checks.row_check import AppliedCheck
    from checks.targets.target import Target

MOST_VALUES = 2_000
"""Values of a facet that are listed, those with most failing rows first."""
MOST_HOURS = 90_000
"""About ten years."""
MOST_KEYS = 100_000
"""Keys of failing rows that are listed; the statement of a finding shows all."""
TOTAL = "total"


def compile_facets(
    target: Target,
    checks: Sequence[AppliedCheck],
    *,
    tenants: Sequence[str] | None,
    longest: int,
    failing_only: bool,
    keys: bool = False,
    outside: tuple[datetime, datetime] | None = None,
) -> sql.Composed:
    """Result: (facet, value, rows, failing, first, last, values of the facet), see `gathered`.

    `longest` is the number of characters over which a text is long. `keys` lists the failing rows
    themselves, too. `outside` looks at failing
    rows alone that were created outside these times, or of which nobody knows when.
    `failing_only` reads the rows without an embedding alone.
    """
    checks = [check.by_place for check in checks]
    of_all: dict[str, sql.Composable] = {TOTAL: sql.SQL("''")}
    if target.declared.created_at is not None:
        of_all[facets.HOUR] = sql.SQL(
            "CASE WHEN {} THEN pg_catalog.floor(extract(epoch FROM created_at) / 3600::numeric)"
            "::bigint::text END"
        ).format(DATABLE)
    if target.declared.tenant is not None:
        of_all[facets.TENANT] = sql.SQL("tenant")
    if target.declared.declares("model_column"):
        of_all[facets.MODEL] = sql.SQL("model")
    if has_place(target):
        of_all[facets.WRITTEN_BY] = sql.SQL("written_by")
    for column, name in zip(target.declared.group_by, group_names(target), strict=True):
        of_all[f"{facets.GROUP}{column}"] = sql.Identifier(name)
    dimension = target.embedding_type.dimension(sql.SQL("embedding"), target.server.vector_schema)
    of_failing: dict[str, sql.Composable] = {
        facets.CHECKS: sql.SQL("pg_catalog.array_to_json(failed)::text"),
        facets.DIMENSION: sql.SQL("dimension"),
        facets.LONG: sql.SQL("long"),
    }
    if keys:
        of_failing[facets.KEY] = sql.SQL(
            "pg_catalog.array_to_json("
            "pg_catalog.array_cat(ARRAY[identity, tenant]::text[], failed))::text"
        )
    dated = target.declared.updated_at is not None
    if dated and "freshness" in {check.name for check in checks}:
        of_failing[facets.EDITED] = sql.SQL(
            "CASE WHEN 'freshness'::text = ANY (failed) AND {} THEN"
            " pg_catalog.floor(extract(epoch FROM updated_at) / 3600::numeric)::bigint::text END"
        ).format(sql.SQL(DATABLE_AS).format(sql.SQL("updated_at")))
    columns = [
        *(["updated_at"] if facets.EDITED in of_failing else []),
        *("tenant", "created_at", "identity"),
        *(["model"] if facets.MODEL in of_all else []),
        *(["written_by"] if has_place(target) else []),
        *group_names(target),
    ]
    return sql.SQL(
        """{sets}
SELECT facet, value, rows, failing, first, last, values
FROM (
    SELECT facet, value, count(*) AS rows, count(*) FILTER (WHERE fails) AS failing,
           min(created_at) FILTER (WHERE fails AND {datable}) AS first,
           max(created_at) FILTER (WHERE fails AND {datable}) AS last,
           count(*) OVER (PARTITION BY facet) AS values,
           row_number() OVER (
               PARTITION BY facet ORDER BY count(*) FILTER (WHERE fails) DESC, count(*) DESC, value
           ) AS place
    FROM (
        SELECT {columns}, failed, fails,
               CASE WHEN fails THEN {dimension}::text END AS dimension,
               CASE WHEN fails AND pg_catalog.char_length(text) > {longest}
                    THEN 'true' END AS long
        FROM {rows} AS r
        -- Apart, so that text and vector are read of failing rows alone.
        CROSS JOIN LATERAL (
            SELECT failed, pg_catalog.cardinality(failed) > 0 AS fails
            FROM (SELECT pg_catalog.array_remove(ARRAY[{failed}]::text[], NULL::text) AS failed
                  OFFSET 0) AS gathered
            OFFSET 0
        ) AS judged
        WHERE {tenants} AND {read}
        OFFSET 0
    ) AS told
    CROSS JOIN LATERAL (VALUES {facets}) AS facets (facet, value, of_failing)
    WHERE {among} AND (fails OR NOT of_failing)
    GROUP BY facet, value
) AS counted
WHERE place <= CASE WHEN facet IN ({hour}, {edited}) THEN {most_hours}
                    WHEN facet = {key} THEN {most_keys} ELSE {most_values} END
ORDER BY facet, place
"""
    ).format(
        sets=with_sets(checks),
        columns=sql.SQL(", ").join(sql.Identifier(name) for name in columns),
        dimension=dimension,
        datable=DATABLE,
        longest=sql.Literal(longest),
        failed=sql.SQL(", ").join(
            sql.SQL("CASE WHEN {} THEN {} END").format(check.predicate, sql.Literal(check.name))
            for check in checks
        ),
        rows=rows_of(target),
        tenants=among(tenants),
        read=sql.SQL("embedding IS NULL" if failing_only else "true"),
        facets=sql.SQL(", ").join(
            sql.SQL("({}, {}, {})").format(
                sql.Literal(name), value, sql.SQL("true" if name in of_failing else "false")
            )
            for name, value in {**of_all, **of_failing}.items()
        ),
        among=sql.SQL("true")
        if outside is None
        else sql.SQL("fails AND (created_at BETWEEN {} AND {}) IS NOT TRUE").format(
            *map(sql.Literal, outside)
        ),
        hour=sql.Literal(facets.HOUR),
        edited=sql.Literal(facets.EDITED),
        key=sql.Literal(facets.KEY),
        most_hours=sql.Literal(MOST_HOURS),
        most_keys=sql.Literal(MOST_KEYS),
        most_values=sql.Literal(MOST_VALUES),
    )
