"""`python -m checks.discover` on databases of every layout, of hostile names, and of nothing."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from checks.discovery.layouts.known import KNOWN
from tests.builders.layout_tables import LAYOUTS
from tests.builders.layouts import DIMENSIONS, settings_of
from tests.builders.tables import role, rows, run
from tests.drivers.discoveries import discovered, examined, tables

REPOSITORY = Path(__file__).resolve().parents[2]


TOGETHER = tuple(layout for layout in LAYOUTS if not layout.heading.startswith("LangChain, "))
"""Of the layouts that are one table with two kinds of settings, the first."""


def test_all_layouts_together_are_found_once_each_and_their_broken_rows_too(
    database: str, tmp_path: Path
) -> None:
    for layout in TOGETHER:
        layout.build(database)
    text = discovered(database)
    declared = {tomllib.loads(settings_of(each.heading))["tables"][0]["name"] for each in TOGETHER}
    assert tables(text).keys() == declared

    examination = examined(database, text, tmp_path)
    found: dict[str, dict[str | None, int]] = {}
    for finding in examination.findings:
        of_check = found.setdefault(finding.check, {})
        of_check[finding.tenant] = of_check.get(finding.tenant, 0) + finding.failing
    expected: dict[str, dict[str | None, int]] = {}
    for layout in TOGETHER:
        for check, tenants in layout.broken().items():
            of_check = expected.setdefault(check, {})
            for tenant, failing in tenants.items():
                of_check[tenant] = of_check.get(tenant, 0) + failing
    assert found == expected


@pytest.mark.parametrize("layout", TOGETHER, ids=lambda layout: layout.heading)
def test_a_layout_by_itself_is_guessed_as_the_document_has_it(database: str, layout: Any) -> None:
    layout.build(database)
    (guessed,) = tables(discovered(database)).values()
    (documented,) = tomllib.loads(settings_of(layout.heading))["tables"]
    for key in ("name", "tenant_from", "where", "created_at", "updated_at", "embedded_at"):
        assert guessed.get(key) == documented.get(key)
    assert guessed["text"] == documented["text"]
    assert guessed.get("embedding", "embedding") == documented.get("embedding", "embedding")
    assert guessed["dimensions"] == DIMENSIONS
    # pgai's source is named after by the same subselect, written with an alias.
    if layout.heading != "pgai vectorizer":
        assert guessed.get("tenant") == documented.get("tenant")
    for section in ("store", "source"):
        assert guessed.get(section) == documented.get(section)
    if "index" in documented:
        assert (guessed["index"], guessed["metric"]) == (documented["index"], "cosine")


def test_the_layouts_that_are_known_by_name_are_told_by_name(database: str) -> None:
    for layout in TOGETHER:
        layout.build(database)
    text = discovered(database)
    assert [known.title for known in KNOWN if f"# {known.title}, known by" not in text] == []


HOSTILE = (
    'a "quoted" name',
    "it's",
    "x'; DROP TABLE docs; --",
    "line\nbreak",
    "100%s %(a)s {} {0}",
    "a.b",
    "data_*",
    "Ж",
    "\x1b[31mred",
    "select",
    "back\\slash",
)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_is_quoted_wherever_it_stands(
    database: str, tmp_path: Path, name: str
) -> None:
    own = '"' + name.replace('"', '""') + '"'
    run(
        database,
        f"CREATE SCHEMA {own}",
        f"""CREATE TABLE {own}.{own} (
            {own} int PRIMARY KEY, "order" text, "tenantId" text, "user" jsonb,
            "order Embedding" vector(3))""",
        f"""CREATE INDEX {own[:-1]} i" ON {own}.{own}
            USING hnsw ("order Embedding" vector_l2_ops)""",
        f"""INSERT INTO {own}.{own}
            VALUES (1, 'x', 'a', '{{}}', NULL), (2, 'y', 'a', NULL, '[1,2,3]')""",
    )
    text = discovered(database)
    assert "\x1b" not in text
    (entry,) = tables(text).values()
    assert (entry["text"], entry["tenant"]) == ('"order"', '"tenantId"')
    assert (entry["index"], entry["metric"]) == ("hnsw", "l2")
    examination = examined(database, text, tmp_path)
    assert [(f.check, f.tenant, f.failing) for f in examination.findings] == [
        ("completeness", "a", 1)
    ]
    assert examination.tables[0].target.unrepairable is None
    assert rows(database, f"SELECT count(*) FROM {own}.{own}") == [(2,)]


def test_a_json_key_may_hold_quotes(database: str, tmp_path: Path) -> None:
    run(
        database,
        "CREATE TABLE memories (id int PRIMARY KEY, extra json, embedding vector(3))",
        """INSERT INTO memories
            VALUES (1, '{"con''tent": "x", "Org ID": "a", "b\\\\": 1}', NULL)""",
    )
    text = discovered(database)
    (entry,) = tables(text).values()
    assert entry["text"] == "extra ->> 'con''tent'"
    assert entry["tenant"] == "extra ->> 'Org ID'"
    assert [f.tenant for f in examined(database, text, tmp_path).findings] == ["a"]


def test_partitions_and_views_stand_for_nothing_beside_their_table(database: str) -> None:
    run(
        database,
        """CREATE TABLE docs (org_id int, id int, body text, embedding vector(3),
            PRIMARY KEY (org_id, id)) PARTITION BY LIST (org_id)""",
        "CREATE TABLE docs_1 PARTITION OF docs FOR VALUES IN (1)",
        "CREATE TABLE docs_2 PARTITION OF docs FOR VALUES IN (2)",
        "CREATE INDEX ON docs USING hnsw (embedding vector_ip_ops)",
        "CREATE VIEW all_docs AS SELECT * FROM docs",
        "CREATE VIEW of_view AS SELECT * FROM all_docs",
        "CREATE MATERIALIZED VIEW kept AS SELECT * FROM docs",
    )
    (entry,) = tables(discovered(database)).values()
    assert entry["name"] == "public.docs"
    assert entry["key"] == ["org_id", "id"]
    assert entry["tenant"] == "org_id"
    assert (entry["index"], entry["metric"]) == ("hnsw", "inner_product")


def test_what_cannot_be_read_now_is_left_to_a_person(database: str) -> None:
    run(
        database,
        "CREATE TABLE docs (id int PRIMARY KEY, body text, embedding vector(3))",
        """CREATE MATERIALIZED VIEW kept AS
            SELECT 1 AS id, 'x'::text AS body, '[1,2,3]'::vector(3) AS embedding WITH NO DATA""",
        "CREATE FOREIGN DATA WRAPPER without_handler",
        "CREATE SERVER elsewhere FOREIGN DATA WRAPPER without_handler",
        """CREATE FOREIGN TABLE far (id int, body text, embedding vector(3))
            SERVER elsewhere""",
    )
    text = discovered(database)
    assert tables(text).keys() == {"public.docs"}
    assert text.count("# nothing can be read of it now") == 2


@pytest.mark.parametrize(
    "expression",
    [
        "(binary_quantize(embedding)::bit(3)) bit_hamming_ops",
        "(subvector(embedding, 1, 2)::vector(2)) vector_cosine_ops",
        "(title_embedding::halfvec(3)) halfvec_l2_ops",
    ],
)
def test_an_index_on_something_else_than_the_vectors_is_not_taken_for_theirs(
    database: str, expression: str
) -> None:
    run(
        database,
        """CREATE TABLE docs (id int PRIMARY KEY, body text, embedding vector(3),
            title_embedding vector(3))""",
        f"CREATE INDEX ann ON docs USING hnsw ({expression})",
    )
    text = discovered(database)
    entry = tables(text)["public.docs.embedding"]
    assert entry.keys().isdisjoint({"index", "metric"})
    assert '#index = "hnsw"  # none was found over the whole vectors, but ann on (' in text


def test_a_large_table_is_sampled_from_all_over_and_never_read_whole(database: str) -> None:
    run(
        database,
        "CREATE TABLE docs (id int PRIMARY KEY, tenant_id int, body text, embedding vector)",
        """INSERT INTO docs SELECT i, i / 10000, 'text', '[1,2,3]'
            FROM generate_series(1, 60000) AS i""",
        "ANALYZE docs",
        "SELECT pg_stat_force_next_flush()",
    )
    text = discovered(database)
    (line,) = (line for line in text.splitlines() if line.startswith("tenant = "))
    # The first 1,000 rows are of one tenant alone.
    assert "1 value " not in line
    assert "values in 1,000 rows from all over the table" in line
    run(database, "SELECT pg_stat_force_next_flush()")
    ((read,),) = rows(
        database, "SELECT seq_tup_read FROM pg_stat_user_tables WHERE relname = 'docs'"
    )
    assert read < 60_000


def test_a_role_that_may_not_read_is_told_so_and_nothing_breaks(database: str) -> None:
    run(
        database,
        "CREATE TABLE docs (id int PRIMARY KEY, body text, embedding vector(3))",
        "CREATE TABLE hidden (id int PRIMARY KEY, body text, embedding vector)",
    )
    with role(database, "looker") as url:
        run(database, "GRANT SELECT ON docs TO looker")
        text = discovered(url)
    assert tables(text).keys() == {"public.docs"}
    assert "# the role may not read it" in text


def test_a_view_of_somebody_else_s_is_named_and_not_read(database: str) -> None:
    run(
        database,
        "CREATE TABLE docs (id int PRIMARY KEY, body text, embedding vector(3))",
        "CREATE SCHEMA theirs",
    )
    with role(database, "mallory_of_a_view") as theirs:
        run(database, 'GRANT USAGE, CREATE ON SCHEMA theirs TO "mallory_of_a_view"')
        run(
            theirs,
            "CREATE FUNCTION theirs.trap() RETURNS text LANGUAGE plpgsql AS"
            " $$ BEGIN RAISE 'it ran as %', current_user; END $$",
            "CREATE VIEW theirs.notes AS SELECT 1 AS id, theirs.trap() AS body,"
            " '[1,2,3]'::public.vector(3) AS embedding",
        )
        # A view of ours is no better where it stands upon theirs.
        run(database, "CREATE VIEW ours AS SELECT id, body, embedding FROM theirs.notes")
        text = discovered(database)
        run(database, "DROP VIEW ours")
    assert tables(text).keys() == {"public.docs"}
    for name in ("theirs.notes", "public.ours"):
        assert f"# {name} is a view of role mallory_of_a_view, or upon one: not read" in text
    assert "it ran as" not in text
