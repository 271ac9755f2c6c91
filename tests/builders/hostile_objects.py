"""Fills a schema, as a role without a privilege, with what PostgreSQL would take for its own.

Operators and functions of the same names as PostgreSQL's and pgvector's, with arguments that fit
better than theirs, and types of the same names (compare CVE-2018-1058). Each call is counted.
"""

from __future__ import annotations

import psycopg

from tests.builders.tables import rows, run

COMPARED = ("=", "<>", "<", "<=", ">", ">=")
OPERATORS = (
    *COMPARED,
    *("||", "+", "-", "*", "/", "&", "|", "#>>", "->>", "->"),
    *("~", "!~", "~*", "!~*", "~~", "!~~", "@>", "<@", "&&", "<->", "<=>", "<#>"),
)
TYPES = (
    *("text", "varchar", "bpchar", "name", '"char"', "text[]", "name[]", "json", "jsonb"),
    *("smallint", "integer", "bigint", "oid", "regclass", "regtype", "regnamespace", "regproc"),
    *("real", "float8", "numeric", "real[]", "float8[]", "bigint[]", "bytea", "uuid", "boolean"),
    *("timestamptz", "timestamp", "date", "interval", "tid", "int2vector", "public.short_code"),
)
FEW = (
    *("text", "varchar", "name", "text[]", "json", "smallint", "integer", "bigint", "oid"),
    *("regclass", "float8", "real[]", "public.short_code"),
)
"""Those with which our statements meet what has no operator of its own in PostgreSQL."""

_CREATE = """
DO $$
DECLARE
    one record;
    result text;
BEGIN
    FOR one IN
        SELECT o.name AS symbol, l.name AS left_type, r.name AS right_type,
               row_number() OVER () AS number
        FROM pg_catalog.unnest(%(operators)s::text[]) AS o (name),
             pg_catalog.unnest(%(types)s::text[]) AS l (name),
             pg_catalog.unnest(%(types)s::text[]) AS r (name)
        WHERE (l.name = r.name OR o.name = ANY(%(compared)s)
               OR r.name IN ('text', 'text[]', 'integer', 'bigint'))
          AND NOT EXISTS (
            SELECT FROM pg_catalog.pg_operator AS p
            WHERE p.oprname = o.name AND p.oprleft = l.name::regtype
              AND p.oprright = r.name::regtype
        )
    LOOP
        result := CASE WHEN one.symbol IN ('||', '#>>', '->>', '->') THEN 'text'
                       WHEN one.symbol IN ('+', '-', '*', '/', '&', '|') THEN one.left_type
                       WHEN one.symbol IN ('<->', '<=>', '<#>') THEN 'float8'
                       ELSE 'boolean' END;
        EXECUTE pg_catalog.format(
            'CREATE FUNCTION public.%%I(%%s, %%s) RETURNS %%s LANGUAGE plpgsql'
            ' AS ''BEGIN RETURN NULL; END''',
            'operator ' || one.symbol, one.left_type, one.right_type, result);
        EXECUTE pg_catalog.format(
            'CREATE OPERATOR public.%%s (LEFTARG = %%s, RIGHTARG = %%s, FUNCTION = public.%%I)',
            one.symbol, one.left_type, one.right_type, 'operator ' || one.symbol);
        -- Thousands of new objects in one transaction have more locks than there is room for.
        COMMIT;
    END LOOP;
    -- What takes any type, or text, or a type of pgvector's, with a type that it is called with.
    FOR one IN
        SELECT DISTINCT p.proname, r.arguments, p.prorettype, p.proretset
        FROM pg_catalog.pg_proc AS p
        CROSS JOIN pg_catalog.unnest(%(types)s::text[]) AS t (name)
        CROSS JOIN LATERAL (
            SELECT pg_catalog.string_agg(
                       CASE WHEN a.type IN (
                           SELECT oid FROM pg_catalog.pg_type
                           WHERE typtype = 'p' OR typname IN ('text', 'vector', 'halfvec')
                       ) THEN t.name ELSE a.type::regtype::text END, ', ' ORDER BY a.place
                   ) AS arguments
            FROM pg_catalog.unnest(p.proargtypes::oid[]) WITH ORDINALITY AS a (type, place)
        ) AS r
        WHERE (p.pronamespace = 'pg_catalog'::regnamespace OR p.proname ~ 'vector|norm|distance')
          AND p.prokind IN ('f', 'a', 'w') AND p.pronargs BETWEEN 1 AND 3
          AND p.proname !~ '_(in|out|recv|send|typmod_in|support|handler)$'
          AND p.proname !~ '^_?ri_'
    LOOP
        result := CASE WHEN one.prorettype IN (
                           SELECT oid FROM pg_catalog.pg_type WHERE typtype = 'p'
                       ) THEN 'text' ELSE one.prorettype::regtype::text END;
        BEGIN
            EXECUTE pg_catalog.format(
                'CREATE FUNCTION public.%%I(%%s) RETURNS %%s %%s LANGUAGE plpgsql'
                ' AS ''BEGIN RETURN %%s; END''',
                one.proname, one.arguments, CASE WHEN one.proretset THEN 'SETOF' END, result,
                CASE WHEN one.proretset THEN '' ELSE 'NULL' END);
        EXCEPTION WHEN OTHERS THEN
            NULL;  -- of a type that no function of PL/pgSQL takes, or there already
        END;
        COMMIT;
    END LOOP;
    FOR one IN
        SELECT pg_catalog.unnest(
            '{text,bigint,int8,timestamptz,bytea,float8,real,interval,boolean,oid,uuid,name,vector,
              halfvec}'::text[]) AS name
    LOOP
        BEGIN
            EXECUTE pg_catalog.format('CREATE TYPE public.%%I AS (evil integer)', one.name);
        EXCEPTION WHEN duplicate_object THEN
            NULL;
        END;
    END LOOP;
    FOR one IN
        SELECT pg_catalog.unnest(
            '{pg_class,pg_attribute,pg_namespace,pg_index,pg_stats,pg_locks,pg_proc}'::text[]
        ) AS name
    LOOP
        EXECUTE pg_catalog.format('CREATE TABLE public.%%I (evil integer)', one.name);
    END LOOP;
END
$$
"""

_CALLED = """
SELECT pg_catalog.format(
    '%s(%s)', f.funcname, pg_catalog.pg_get_function_identity_arguments(f.funcid))
FROM pg_catalog.pg_stat_user_functions AS f
JOIN pg_catalog.pg_proc AS p ON p.oid = f.funcid
WHERE p.proowner = 'mallory'::regrole
ORDER BY 1
"""


def mallory(url: str, *, thoroughly: bool) -> None:
    """What a role `mallory` may create in `public`, and a path of the database that favours it."""
    some = {
        "operators": list(OPERATORS),
        "compared": list(COMPARED if thoroughly else ("=", "<>", ">")),
        "types": list(TYPES if thoroughly else FEW),
    }
    name = url.rpartition("/")[2].partition("?")[0]
    run(
        url,
        f"ALTER DATABASE {name} SET track_functions = 'all'",
        f'ALTER DATABASE {name} SET search_path = public, extensions, pg_catalog, "$user"',
        "CREATE TYPE public.short_code AS ENUM ('a', 'b')",
        "GRANT USAGE ON SCHEMA extensions TO PUBLIC",
    )
    with psycopg.Connection.connect(
        url, autocommit=True, cursor_factory=psycopg.ClientCursor
    ) as connection:
        # She stays: dropping all that is hers would take more locks than there is room for.
        if not connection.execute("SELECT FROM pg_roles WHERE rolname = 'mallory'").fetchall():
            connection.execute("CREATE ROLE mallory")
        connection.execute("GRANT USAGE, CREATE ON SCHEMA public TO mallory")
        connection.execute("SET ROLE mallory; SET search_path = pg_catalog")
        connection.execute(_CREATE, some)


def called(url: str) -> list[str]:
    """Her functions that somebody called, with their arguments."""
    run(url, "SELECT pg_catalog.pg_stat_force_next_flush()")
    return [what for (what,) in rows(url, _CALLED)]
