"""The text expressions that are printed for LangGraph's store, against what it embeds.

`langgraph_values.json` was recorded from langgraph-checkpoint 4.3.2: of each value the texts that
its `get_text_at_path` finds, by the `field_name` that the store gives them.
"""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import psycopg
import pytest

from checks.database.expressions import embed_sql
from checks.discovery.stores.json_texts import ANY, AS_JSON, text_at
from checks.discovery.stores.store_keys import MOST_FIELDS
from tests.builders.tables import run
from tests.drivers.discoveries import discovered

RECORDED = json.loads((Path(__file__).parent / "langgraph_values.json").read_text(encoding="utf-8"))
STORE = (
    "CREATE TABLE store (prefix text, key text, value jsonb NOT NULL, PRIMARY KEY (prefix, key))",
    "CREATE TABLE store_vectors (prefix text, key text, field_name text, embedding vector(3),"
    " PRIMARY KEY (prefix, key, field_name), FOREIGN KEY (prefix, key) REFERENCES store)",
)


def test_a_field_of_any_type_and_depth_is_written_as_the_store_embeds_it(database: str) -> None:
    fields = sorted({field for row in RECORDED for field in row["embedded"]})
    sources = [AS_JSON.format("value") if f == "$" else text_at("value", f, ANY) for f in fields]
    told = ", ".join(embed_sql(source or "").as_string(None) for source in sources)
    with psycopg.connect(database) as connection:
        connection.execute("CREATE TABLE store (value jsonb)")
        for row in RECORDED:
            connection.execute("INSERT INTO store VALUES (%s)", [json.dumps(row["value"])])
        given = connection.execute(f"SELECT {told} FROM store ORDER BY ctid").fetchall()
    for row, texts in zip(RECORDED, given, strict=True):
        present = {f: t for f, t in zip(fields, texts, strict=True) if t is not None}
        assert present == row["embedded"]


@pytest.mark.parametrize("path", ["facts*", "a.*b", "a[", "a]b", "{a[0],b}", "a..*"])
def test_a_path_that_cannot_be_told_is_not_followed(path: str) -> None:
    assert text_at("value", path, ANY) is None


@pytest.mark.parametrize(
    ("value", "texts"),
    [
        ({"facts": {"likes": "tea"}}, {"facts.*": "tea"}),
        ({"facts": {"bb": None, "likes": {"b": True, "a": 1}}}, {"facts.*": '{"a": 1, "b": true}'}),
        ({"facts": {"zz": "tea", "b": "rain"}}, {}),
        ({"facts": ["tea", None, True]}, {"facts.*.0": "tea", "facts.*.1": "True"}),
        ({"facts": {"c": {"said": "x"}, "b": {}}}, {"facts.*.said": "x"}),
        ({"facts": [{"said": "x"}, {"said": "y"}]}, {"facts.*.said.1": "y", "facts.*.said.0": "x"}),
    ],
)
def test_a_star_tells_a_value_that_is_alone_and_the_values_of_an_array(
    database: str, value: object, texts: dict[str, str]
) -> None:
    """As langgraph-checkpoint 4.3.2 numbers them; an object's order jsonb does not keep."""
    fields = ["facts.*", "facts.*.0", "facts.*.1", "facts.*.said", "facts.*.said.0"]
    fields.append("facts.*.said.1")
    written = json.dumps(value).replace("'", "''")
    with psycopg.connect(database) as connection:
        given = connection.execute(
            f"SELECT {', '.join(text_at('value', each, ANY) or '' for each in fields)}"
            f" FROM (SELECT '{written}'::jsonb AS value) AS store"
        ).fetchone()
    found = {f: t for f, t in zip(fields, given or (), strict=True) if t is not None}
    told = {f: t for f, t in found.items() if f in texts or "said" not in str(value)}
    assert told == texts


@pytest.mark.parametrize("cached", [0, 2, 3])
def test_values_without_a_vector_are_told_as_they_may_be_put_so_by_design(
    database: str, cached: int
) -> None:
    """LangGraph's `index=False` of a namespace and of one value, and another path of one value."""
    run(
        database,
        *STORE,
        "INSERT INTO store SELECT CASE WHEN i > 8 THEN 'it''s.cache' ELSE 'users' END, i,"
        " jsonb_build_object('text', 'text ' || i, 'summary', 'short ' || i)"
        f" FROM generate_series(1, {8 + cached}) AS i",
        "INSERT INTO store_vectors SELECT prefix, key, 'text', ARRAY[1, 2, key::int]"
        " FROM store WHERE prefix = 'users' AND key <> '3'",
        "INSERT INTO store_vectors VALUES ('users', '3', 'summary', '[1,2,3]')",
    )
    printed = discovered(database)
    said = "of {} values that have this text have no vector of it"
    assert f"{1 + cached} {said.format(8 + cached)}" in printed
    assert f"{7 + cached} {said.format(8 + cached)}" in printed
    # Of `summary`, which one value alone has, a person says; and of a namespace that has none.
    entries = tomllib.loads(printed).get("tables", [])
    fields = [entry["store"]["constants"]["field_name"] for entry in entries]
    assert fields == (["'text'"] if cached < 3 else [])
    where = """#where = "prefix NOT IN ('it''s.cache')\""""
    assert printed.count(where) == (2 if cached == 3 else 0)


def test_each_number_of_an_array_has_an_entry_and_what_is_not_followed_is_said(
    database: str,
) -> None:
    """The parts of a row of two are other fields than the part of a row of one."""
    run(
        database,
        *STORE,
        "INSERT INTO store SELECT 'users', i, jsonb_build_object('steps', (SELECT jsonb_agg("
        " jsonb_build_object('said', 'step ' || i || n)) FROM generate_series(1, 1 + i % 2) AS n),"
        " 'done', i > 2, 'facts', jsonb_build_object('b', 'x', 'a', 'y'))"
        " FROM generate_series(1, 4) AS i",
        "INSERT INTO store_vectors SELECT prefix, key, field, ARRAY[1, length(field), key::int]"
        " FROM store, unnest(ARRAY['done', 'facts.*.0', 'facts.*.1'] || CASE key::int % 2"
        " WHEN 1 THEN ARRAY['steps[*].said.0', 'steps[*].said.1'] ELSE ARRAY['steps[*].said'] END)"
        " AS field",
    )
    printed = discovered(database)
    entries = tomllib.loads(printed)["tables"]
    texts = {entry["store"]["constants"]["field_name"]: entry["text"] for entry in entries}
    assert sorted(texts) == ["'done'", "'steps[*].said'", "'steps[*].said.0'", "'steps[*].said.1'"]
    with psycopg.connect(database) as connection:
        given = connection.execute(
            f"SELECT {', '.join(texts[field] for field in sorted(texts))} FROM store ORDER BY key"
        ).fetchall()
    assert given == [
        ("False", None, "step 11", "step 12"),
        ("False", "step 21", None, None),
        ("True", None, "step 31", "step 32"),
        ("True", "step 41", None, None),
    ]
    assert printed.count("what field_name names is no column or key of store") == 2


def test_more_fields_than_entries_are_left_to_a_person(database: str) -> None:
    run(
        database,
        *STORE,
        "INSERT INTO store SELECT 'users', i, jsonb_build_object('text', 'text ' || i)"
        " FROM generate_series(1, 2) AS i",
        "INSERT INTO store_vectors SELECT prefix, key, 'turns[*].' || n, ARRAY[1, n, key::int]"
        f" FROM store, generate_series(0, {MOST_FIELDS}) AS n",
    )
    printed = discovered(database)
    assert "tables" not in tomllib.loads(printed)
    assert f"field_name names more than {MOST_FIELDS} fields" in printed
