"""Writes the SQL of what LangGraph embeds of a JSON value: all of it, or what a path leads to.

Follows `get_text_at_path` of langgraph-checkpoint. Writes expressions only, and asks no database.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from psycopg import sql

if TYPE_CHECKING:
    from collections.abc import Sequence

AS_JSON = """(
    WITH RECURSIVE part (place, label, own) AS (
        SELECT ARRAY[]::int[], '', {0}
        UNION ALL
        SELECT place || n::int,
               CASE WHEN n > 1 THEN ', ' ELSE '' END || coalesce(to_json(k)::text || ': ', ''), v
        FROM part CROSS JOIN LATERAL (
            SELECT row_number() OVER (ORDER BY k COLLATE "C"), k, v
            FROM jsonb_each(CASE jsonb_typeof(own) WHEN 'object' THEN own ELSE '{{}}' END)
                AS of_object (k, v)
            UNION ALL
            SELECT n, NULL, v
            FROM jsonb_array_elements(CASE jsonb_typeof(own) WHEN 'array' THEN own ELSE '[]' END)
                WITH ORDINALITY AS of_array (v, n)
        ) AS within (n, k, v)
    )
    SELECT string_agg(written, '' ORDER BY place)
    FROM (
        SELECT place, label || CASE
            WHEN jsonb_typeof(own) = 'object' THEN '{{' WHEN jsonb_typeof(own) = 'array' THEN '['
            WHEN own::text ~ '^-?0\\.0000\\d*[1-9]' THEN own::text::float8::text ELSE own::text END
        FROM part
        UNION ALL
        SELECT place || 2147483647, CASE jsonb_typeof(own) WHEN 'object' THEN '}}' ELSE ']' END
        FROM part WHERE jsonb_typeof(own) IN ('object', 'array')
    ) AS of_part (place, written)
)"""
"""A jsonb value as Python's json.dumps(sort_keys=True, ensure_ascii=False) writes it. What jsonb
does not keep cannot be told: -0.0, and 1e16 as a float."""

STRING = "{0} #>> '{{}}'"
NO_STRING = "CASE WHEN jsonb_typeof({0}) NOT IN ('string', 'null') THEN 'other' END"
ANY = f"""CASE jsonb_typeof({{0}}) WHEN 'string' THEN {{0}} #>> '{{{{}}}}' WHEN 'null' THEN NULL
    WHEN 'boolean' THEN initcap({{0}}::text) ELSE {AS_JSON} END"""
"""Each of what a path leads to: if it is a string, whether it is none, and whatever it is."""

_STEP = re.compile(
    r"\.?(?:(?P<name>[^][{}.*]+)|\[(?P<at>-?\d+|\*)\]|\{(?P<several>[^][{}*]+)\}"
    r"|(?P<any>(?<![^.\]}])\*(?![^.[{])))"
)
_NUMBER = re.compile(r"\.(\d+)$")


def text_at(column: str, path: str, leaf: str) -> str | None:
    """The text at a path of a jsonb column; None where the path cannot be followed.

    `leaf` is one of the above. Where a path leads to several texts, LangGraph appends their number.
    Of an object's values, which `*` leads to, only one that is alone is told: which of several is
    the first, jsonb does not keep.
    """
    steps = _steps(path)
    if steps is None:
        return None
    if all(isinstance(step, str) for step in steps):
        return (
            _text_within(column, steps) if leaf is STRING else leaf.format(_within(column, steps))
        )
    number = _NUMBER.search(path)
    told = "among = 1" if number is None else f"among > 1 AND place = {int(number[1]) + 1}"
    relations, places, own = [f"(SELECT {column}) AS of_row (v0)"], [], "v0"
    names: list[object] = []
    for n, step in enumerate(steps if number is None else steps[:-1], start=1):
        if isinstance(step, str):
            names.append(step)
            continue
        holder = _within(own, names)
        names, own = [], f"v{n}"
        places.append(f"n{n}")
        if step:
            listed = ", ".join(f"({i}, {_within(holder, each)})" for i, each in enumerate(step))
            relations.append(f"CROSS JOIN LATERAL (VALUES {listed}) AS of_step_{n} (n{n}, v{n})")
            break
        of_array = (
            f"jsonb_array_elements(CASE jsonb_typeof({holder}) WHEN 'array' THEN {holder}"
            " ELSE '[]' END) WITH ORDINALITY"
        )
        if step is not None:
            relations.append(f"CROSS JOIN LATERAL {of_array} AS of_step_{n} (v{n}, n{n})")
            continue
        of_object = f"CASE jsonb_typeof({holder}) WHEN 'object' THEN {holder} ELSE '{{}}' END"
        relations.append(
            f"""CROSS JOIN LATERAL (
            SELECT * FROM {of_array}
            UNION ALL
            SELECT value, NULL FROM jsonb_each({of_object})
        ) AS of_step_{n} (v{n}, n{n})"""  # noqa: S608
        )
    joined, ordered = "\n        ".join(relations), ", ".join(places)
    place = f"row_number() OVER (ORDER BY {ordered})"
    if None in steps:
        place = f"CASE WHEN bool_and(num_nulls({ordered}) = 0) OVER () THEN {place} END"
    # Printed for the owner of the database, with names as its server quotes them.
    return f"""(
    SELECT {leaf.format("found")}
    FROM (
        SELECT {place}, count(*) OVER (), found
        FROM {joined}
        CROSS JOIN LATERAL (SELECT {_within(own, names)}) AS of_path (found)
        WHERE jsonb_typeof(found) <> 'null'
    ) AS of_texts (place, among, found)
    WHERE {told}
)"""  # noqa: S608


def _steps(path: str) -> list[str | tuple[Sequence[str], ...] | None] | None:
    """Names and positions as texts; `[*]` as an empty tuple, `{a,b.c}` as the names in each.

    `*` as None.
    """
    steps: list[str | tuple[Sequence[str], ...] | None] = []
    at = 0
    while at < len(path):
        found = _STEP.match(path, at)
        if found is None:
            return None
        at = found.end()
        if found["several"] is not None:
            fields = [each.strip() for each in found["several"].split(",")]
            steps.append(tuple(each.split(".") for each in fields if each))
        elif found["any"]:
            steps.append(None)
        else:
            steps.append(() if found["at"] == "*" else found["name"] or found["at"])
    return steps


def _within(own: str, names: Sequence[object]) -> str:
    """What names and positions lead to within a value, as jsonb."""
    return f"({own} #> {_array(names)})" if names else own


def _text_within(own: str, names: Sequence[object]) -> str:
    """The same as text."""
    if len(names) > 1:
        return f"{own} #>> {_array(names)}"
    return f"{own} ->> {sql.Literal(names[0]).as_string(None).strip()}"


def _array(names: Sequence[object]) -> str:
    texts = list(map(str, names))
    if all(re.fullmatch(r"[\w-]+", name, re.ASCII) for name in texts):
        return f"'{{{','.join(texts)}}}'"
    return f"ARRAY[{', '.join(sql.Literal(name).as_string(None).strip() for name in texts)}]"
