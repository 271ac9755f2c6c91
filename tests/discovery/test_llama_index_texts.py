"""The text expression that is printed for LlamaIndex, against what the framework embeds.

`llama_index_nodes.json` was recorded from llama-index-core 0.14.25: of each node its text, what it
keeps in `_node_content` (the keys that matter here), and its get_content(MetadataMode.EMBED).
"""

from __future__ import annotations

import json
from pathlib import Path

import psycopg
import pytest

from checks.database.expressions import embed_sql
from checks.discovery.layouts.known import LLAMA_INDEX_TEXT, with_datetimes
from tests.drivers.discoveries import discovered

ODD = {
    "tags": [
        "no\u00a0break",
        "zero\u200bwidth",
        "bell\a",
        "\u2028",
        "\u3000",
        "\ufeff",
        "\u00ad",
        "",
    ],
    "family": {"\u00a0": ["\U0001f469\u200d\U0001f467", "e\u0301", "\U0001f600"]},
    "plain": "no\u00a0break\u200b",
    "numbers": [1.0, 1e16, 10**16, -0.0, 1e-05, 0.0001, 1.5e300],
}
"""What Python's repr() has no glyph for, which json.dumps() writes as any other character."""

NODES = json.loads((Path(__file__).parent / "llama_index_nodes.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("kind", ["json", "jsonb"])
def test_the_printed_expression_gives_what_the_framework_embeds(database: str, kind: str) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(f"CREATE TABLE data_nodes (text varchar, metadata_ {kind})")
        for node in NODES:
            connection.execute(
                "INSERT INTO data_nodes VALUES (%s, %s)",
                [node["text"], json.dumps({"_node_content": node["node"]})],
            )
        odd = json.dumps({"_node_content": json.dumps({"metadata": ODD})})
        connection.execute("INSERT INTO data_nodes VALUES ('odd', %s)", [odd])
        connection.execute("INSERT INTO data_nodes VALUES ('bare', NULL), ('empty', '{}')")
        told = embed_sql(LLAMA_INDEX_TEXT).as_string(None)
        # By a row's place, as the nodes were inserted.
        given = connection.execute(f"SELECT {told} FROM data_nodes ORDER BY ctid").fetchall()
    # The framework's OpenAI client sends spaces for line breaks.
    expected = [node["embedded"].replace("\n", " ") for node in NODES]
    expected.append(" ".join(f"{key}: {value}" for key, value in ODD.items()) + "  odd")
    expected += ["bare", "empty"]
    assert [text for (text,) in given] == expected


TIMES = {
    "a": ("2026-01-02T03:04:05.100000", "2026-01-02 03:04:05.100000"),
    "b": ("2026-01-02T03:04:05Z", "2026-01-02 03:04:05+00:00"),
    "c": ("2026-01-02T03:04:05.000007-05:30", "2026-01-02 03:04:05.000007-05:30"),
    "e": ("2026-01-02", "2026-01-02"),
    "f": ("03:04:00", "03:04:00"),
    "g": ("2026-01-02T00:00:00", "2026-01-02 00:00:00"),
    "i": ("Tuesday, 2026-01-02T00:00:00", "Tuesday, 2026-01-02T00:00:00"),
}
"""What llama-index-core 0.14.25 keeps of a value, and embeds: datetimes, a date, a time, a text."""


def test_the_variant_for_datetimes_gives_what_the_framework_embeds(database: str) -> None:
    told = embed_sql(with_datetimes(LLAMA_INDEX_TEXT)).as_string(None)
    node = {"metadata": {key: kept for key, (kept, _) in TIMES.items()}}
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("CREATE TABLE data_nodes (text varchar, metadata_ jsonb)")
        values = ["x", json.dumps({"_node_content": json.dumps(node)})]
        connection.execute("INSERT INTO data_nodes VALUES (%s, %s)", values)
        given = connection.execute(f"SELECT {told} FROM data_nodes").fetchall()
    assert given == [(" ".join(f"{k}: {own}" for k, (_, own) in TIMES.items()) + "  x",)]


def test_times_in_metadata_are_told_as_what_may_have_been_datetimes(database: str) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(
            "CREATE TABLE data_kb (id int PRIMARY KEY, text varchar, metadata_ jsonb,"
            " node_id varchar, embedding vector(3))"
        )
        for key, (kept, _) in enumerate(TIMES.values()):
            node = json.dumps({"_node_content": json.dumps({"metadata": {"at": kept}})})
            values = [key, node, f"[{key},1,2]"]
            connection.execute("INSERT INTO data_kb VALUES (%s, 'x', %s, NULL, %s)", values)
        assert "# 4 of 7 rows have times such as 2026-01-02T03:04:05" in discovered(database)
        connection.execute("DELETE FROM data_kb WHERE id IN (0, 1, 2, 5)")
    assert "have times such as" not in discovered(database)
