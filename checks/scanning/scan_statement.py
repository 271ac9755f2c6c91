"""Writes the statement of a scan: every row check counted for every tenant at once.

Builds SQL only; runs nothing and decides nothing about pass or fail.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from psycopg import sql

from checks.row_checks.compared_rows import compared_rows
from checks.row_checks.row_relation import NORM, PENDING, has_place, rows_of
from checks.row_checks.set_rule import standing_where
from checks.scanning.part import WHOLE

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from checks.row_checks.row_check import AppliedCheck
    from checks.scanning.part import Part
    from checks.targets.target import Target


_COUNTS = ("failing", "first", "last", "least", "most")
COUNTS = len(_COUNTS)
"""Columns of a check in the result of a scan."""

DATABLE_AS = "{} BETWEEN '0001-01-02 00:00+00' AND '9999-12-30 00:00+00'"
"""What Python's datetime can hold; PostgreSQL also knows -infinity and years before Christ."""
DATABLE = sql.SQL(DATABLE_AS).format(sql.SQL("created_at"))


def compile_scan(
    target: Target,
    checks: Sequence[AppliedCheck],
    *,
    tenants: Sequence[str] | None = None,
    part: Part = WHOLE,
    rows: sql.Composable | None = None,
    earlier: Sequence[AppliedCheck] = (),
    later: Sequence[AppliedCheck] = (),
) -> sql.Composed:
    """The statement of a scan: each predicate is computed once per row, then counted by tenant.

    Only rows of the part are read. Result: a row per tenant: how many segments the server counts,
    tenant, rows, not embeddable, pending, rows of the sample (NULL without one), rows that fail at
    least one check, then for each check `COUNTS` columns: the failing count, the first and last
    creation time of its failing rows, and the first and last of what these have in place of what is
    declared. `rows` None: all rows; a rule about sets looks at all of them anyway.

    Where several scans look at one table, a row is among those that fail at least one check in one
    of them: the first that counts it by a predicate, not by a rule about sets, or else the last.
    `earlier` and `later` are the checks of the others.
    """
    sets = {n: check for n, check in enumerate(checks) if check.rule_of_sets is not None}
    # A rule about sets looks at all tenants, whichever are selected.
    rows = _rows(
        target,
        checks,
        rows or rows_of(target),
        tenants=None if sets else tenants,
        part=part,
        earlier=earlier,
    )
    relations: list[sql.Composable] = [
        sql.SQL("integrity_rows AS {} ({})").format(
            sql.SQL("MATERIALIZED" if sets else "NOT MATERIALIZED"), rows
        ),
        sql.SQL(
            """integrity_counts AS (
    SELECT count(*) OVER () AS segments, tenant, count(*) AS total,
           count(*) FILTER (WHERE blank) AS blank,
           count(*) FILTER (WHERE pending) AS pending,
           {sampled} AS sampled,
           count(*) FILTER (WHERE {affected}) AS affected{counts}
    FROM integrity_rows
    WHERE {tenants}
    GROUP BY tenant
)"""
        ).format(
            sampled=sql.SQL(
                "NULL::bigint" if part.sample is None else "count(*) FILTER (WHERE in_sample)"
            ),
            affected=_any(
                (
                    check.of_norm or sql.Identifier(f"fails_{n}")
                    for n, check in enumerate(checks)
                    if n not in sets
                ),
                but=[sql.Identifier("fails_earlier")] if earlier else (),
            ),
            counts=_columns(
                _counts(
                    target,
                    check.of_norm or sql.Identifier(f"fails_{n}"),
                    n,
                    found=None if check.found is None else sql.Identifier(f"found_{n}"),
                )
                for n, check in enumerate(checks)
                if n not in sets
            ),
            tenants=among(tenants),
        ),
    ]
    others = [
        check.predicate
        for check in (*earlier, *checks, *later)
        if check.rule_of_sets is None and check.proof is None
    ]
    for n, check in sets.items():
        relations += _failing_together(target, check, n, part, others)
    return sql.SQL(
        """
WITH {relations}
SELECT c.segments, c.tenant, c.total, c.blank, c.pending, c.sampled, {affected}{results}
FROM integrity_counts AS c
{joins}
ORDER BY c.tenant NULLS LAST
"""
    ).format(
        relations=sql.SQL(",\n").join(relations),
        # There is one rule about sets; of several, a row could fail two, and be counted twice.
        affected=sql.SQL(" + ").join(
            [
                sql.SQL("c.affected"),
                *(sql.SQL("coalesce({}.alone, 0)").format(_together(n)) for n in sets),
            ]
        ),
        results=_columns(_result(n, of_sets=n in sets) for n, _ in enumerate(checks)),
        joins=sql.SQL("\n").join(_joined(n) for n in sets),
    )


def _rows(
    target: Target,
    checks: Sequence[AppliedCheck],
    rows: sql.Composable,
    *,
    tenants: Sequence[str] | None,
    part: Part,
    earlier: Sequence[AppliedCheck],
) -> sql.Composed:
    """The rows with what is counted of each, computed once.

    OFFSET 0 keeps PostgreSQL from computing a column again wherever it is used.
    """
    words: dict[str, sql.Composable] = {
        "tenant": sql.SQL("tenant"),
        "created_at": sql.SQL("created_at"),
        "blank": sql.SQL("embedding IS NULL AND NOT embeddable"),
        "pending": PENDING,
    }
    if part.sample is not None:
        words["in_sample"] = part.sample.takes(target)
    if earlier:
        words["fails_earlier"] = _any(c.predicate for c in earlier if c.rule_of_sets is None)
    for n, check in enumerate(checks):
        rule = check.rule_of_sets
        if check.of_norm is not None or (rule is not None and rule.fingerprint == NORM):
            words["scanned_norm"] = _sampled(target, NORM, part)
        elif rule is not None:
            words[f"print_{n}"] = _sampled(target, rule.fingerprint, part)
        else:
            sampled = check.name in part.sampled
            fails = _sampled(target, check.predicate, part) if sampled else check.predicate
            words[f"fails_{n}"] = fails
            if check.found is not None:
                words[f"found_{n}"] = sql.SQL("CASE WHEN {} THEN {} END").format(fails, check.found)
        if rule is not None and has_place(target):
            words |= {"place_table": sql.SQL("place_table"), "place": sql.SQL("place")}
    return sql.SQL(
        """
    SELECT {columns}
    FROM {rows} AS r
    WHERE {tenants} AND {read}
    OFFSET 0
"""
    ).format(
        read=sql.SQL("embedding IS NULL" if part.failing_only else "true"),
        columns=sql.SQL(",\n           ").join(
            sql.SQL("{} AS {}").format(word, sql.Identifier(name)) for name, word in words.items()
        ),
        rows=rows,
        tenants=among(tenants),
    )


def _sampled(target: Target, word: sql.Composable, part: Part) -> sql.Composable:
    """The word of sampled rows alone, NULL for the others, whose vectors are then not read."""
    if part.sample is None:
        return word
    return sql.SQL("CASE WHEN {} THEN {} END").format(part.sample.takes(target), word)


def _failing_together(
    target: Target,
    check: AppliedCheck,
    n: int,
    part: Part,
    others: Sequence[sql.Composable],
) -> list[sql.Composable]:
    """Reads the rows again that may fail a rule about sets, and counts those that do, by tenant.

    `alone` are those of them that none of the `others`, predicates of rows, is true of.
    """
    rule = check.rule_of_sets
    assert rule is not None
    own = sql.Identifier("scanned_norm" if rule.fingerprint == NORM else f"print_{n}")
    alike = sql.Identifier(f"alike_{n}")
    prints = sql.SQL("SELECT {} FROM integrity_rows").format(own)
    repeated = sql.SQL("(SELECT pg_catalog.unnest(prints) FROM {})").format(_repeated(n))
    compared: sql.Composable = alike
    if target.siblings:
        taken = {} if part.sample is None else {"taken": part.sample.takes}
        beside = compared_rows(target, target.siblings, **taken)
        prints += sql.SQL(" UNION ALL SELECT {} FROM {} AS s").format(rule.fingerprint, beside)
        compared = sql.SQL(
            """(SELECT known_by, text, held_at FROM {alike}
        UNION ALL SELECT {identity}, text, held_at FROM {beside} AS s
        WHERE ({fingerprint} IN {repeated}) IS TRUE AND {among}) AS compared"""
        ).format(
            alike=alike,
            identity=rule.identity,
            beside=beside,
            fingerprint=rule.fingerprint,
            repeated=repeated,
            among=rule.among,
        )
    # Sets in arrays and IS TRUE, as in `SetRule`: a join here is a nested loop over all rows where
    # the statistics are of a time when no row had a vector, as they are after a repair.
    found: sql.Composable = sql.SQL("{} IN {}").format(
        own if has_place(target) else _sampled(target, rule.fingerprint, part), repeated
    )
    if has_place(target):
        found = standing_where(found, sql.SQL("integrity_rows"))
    return [
        sql.SQL(
            """{name} (prints) AS MATERIALIZED (
    SELECT pg_catalog.array_agg(print) FROM (
        SELECT print FROM ({prints}) AS every_print (print)
        WHERE print IS NOT NULL GROUP BY 1 HAVING count(*) > 1
    ) AS repeated
)"""
        ).format(name=_repeated(n), prints=prints),
        sql.SQL(
            """{alike} AS MATERIALIZED (
    SELECT again.*, {identity} AS known_by, {others} AS fails_others
    FROM {rows} AS again
    WHERE ({found}) IS TRUE AND {among}
)"""
        ).format(
            alike=alike,
            identity=rule.identity,
            others=_any(others),
            rows=rows_of(target),
            found=found,
            among=rule.among,
        ),
        sql.SQL(
            """{together} AS (
    SELECT tenant, count(*) FILTER (WHERE fails_others IS NOT TRUE) AS alone{counts}
    FROM {alike}
    WHERE (known_by IN (
        SELECT pg_catalog.unnest(pg_catalog.array_agg(known_by)) FROM (
            SELECT known_by FROM {compared} GROUP BY 1 HAVING {fails}
        ) AS failing
    )) IS TRUE
    GROUP BY tenant
)"""
        ).format(
            together=_together(n),
            alike=alike,
            compared=compared,
            counts=_columns([_counts(target, sql.SQL("true"), n)]),
            fails=rule.fails,
        ),
    ]


def _counts(
    target: Target, fails: sql.Composable, n: int, *, found: sql.Composable | None = None
) -> sql.Composable:
    """How many rows fail, the first and last creation time of these, and of what is found."""
    names = {name: sql.Identifier(f"{name}_{n}") for name in _COUNTS}
    if target.declared.created_at is None:
        times = sql.SQL("NULL::timestamptz AS {first}, NULL::timestamptz AS {last}").format(**names)
    else:
        times = sql.SQL(
            """min(created_at) FILTER (WHERE {fails} AND {datable}) AS {first},
           max(created_at) FILTER (WHERE {fails} AND {datable}) AS {last}"""
        ).format(fails=fails, datable=DATABLE, **names)
    values = sql.SQL("NULL::text AS {least}, NULL::text AS {most}").format(**names)
    if found is not None:
        values = sql.SQL(
            'min({found} COLLATE "C") AS {least}, max({found} COLLATE "C") AS {most}'
        ).format(found=found, **names)
    return sql.SQL(
        "count(*) FILTER (WHERE {fails}) AS {failing},\n           {times},\n           {values}"
    ).format(fails=fails, times=times, values=values, failing=names["failing"])


def _any(
    predicates: Iterable[sql.Composable], *, but: Sequence[sql.Composable] = ()
) -> sql.Composed:
    """Whether one of the predicates is true of a row, and none of the others."""
    own: list[sql.Composable] = [sql.SQL("({})").format(one) for one in predicates]
    own = own or [sql.SQL("false")]
    parts: list[sql.Composable] = [sql.SQL("({})").format(sql.SQL(" OR ").join(own))]
    parts += [sql.SQL("({}) IS NOT TRUE").format(other) for other in but]
    return sql.SQL(" AND ").join(parts)


def _repeated(n: int) -> sql.Identifier:
    return sql.Identifier(f"repeated_{n}")


def _together(n: int) -> sql.Identifier:
    return sql.Identifier(f"together_{n}")


def _result(n: int, *, of_sets: bool) -> sql.Composable:
    relation = f"together_{n}" if of_sets else "c"
    failing, *others = (sql.Identifier(relation, f"{name}_{n}") for name in _COUNTS)
    return sql.SQL("coalesce({}, 0), {}").format(failing, sql.SQL(", ").join(others))


def _joined(n: int) -> sql.Composable:
    """The failing rows of a rule about sets beside their tenant; NULL is a tenant of its own."""
    return sql.SQL(
        "LEFT JOIN {set} ON coalesce({set}.tenant, '') = coalesce(c.tenant, '')"
        " AND ({set}.tenant IS NULL) = (c.tenant IS NULL)"
    ).format(set=_together(n))


def _columns(more: Iterable[sql.Composable]) -> sql.Composable:
    """Further columns of a SELECT list."""
    return sql.SQL("").join(sql.SQL(",\n           {}").format(column) for column in more)


def among(tenants: Sequence[str] | None) -> sql.Composable:
    """The condition that restricts rows to the selected tenants."""
    if tenants is None:
        return sql.SQL("true")
    return sql.SQL("tenant = ANY({})").format(sql.Literal(list(tenants)))
