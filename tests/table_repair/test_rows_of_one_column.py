"""Several entries of one column, each about some rows: told apart wherever they are named."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from checks.errors import SettingsError
from checks.row_checks.rules import ROW_CHECK_NAMES
from checks.settings.integrity_toml import settings_in
from tests.builders.tables import examined, failing, looking, rows, run, says, table
from tests.drivers.repairs import environment, repaired, settings
from tests.drivers.rollbacks import events_of, rolled_back, run_of, server

if TYPE_CHECKING:
    from pathlib import Path

    from tests.servers.provider_server import ProviderServer

__all__ = ["server"]

POSTS = "public.things (where kind = 'post')"
COMMENTS = "public.things (where kind = 'comment' -- of anybody)"
OTHERS = "public.things (all other rows)"


def things(url: str) -> None:
    """Nine rows, three each of posts, comments and of no kind; none has a vector."""
    run(
        url,
        "CREATE TABLE things (id integer PRIMARY KEY, tenant text, kind text, title text,"
        " body text, embedding vector(8))",
        "INSERT INTO things (id, tenant, kind, title, body) SELECT n, 'acme',"
        " (ARRAY['post', 'comment'])[n % 3 + 1], 'title ' || n, 'body ' || n"
        " FROM generate_series(0, 8) AS n",
    )


ENTRIES = [
    {"name": "public.things", "tenant": "tenant", **entry}
    for entry in (
        {"where": "kind = 'post'", "text": "title || ': ' || body"},
        {"where": "kind = 'comment' -- of anybody", "text": "body"},
        {"text": "title"},
    )
]


def test_each_kind_of_row_is_embedded_by_the_text_of_its_entry_and_put_back_by_itself(
    database: str, tmp_path: Path, server: ProviderServer
) -> None:
    things(database)
    chosen = settings(server, tables=ENTRIES)
    done = repaired(database, chosen, tmp_path, keys=environment("acme"))
    assert {result.table: result.account.selected for result in done.results} == {
        POSTS: 3,
        COMMENTS: 3,
        OTHERS: 3,
    }
    assert done.after is not None
    assert not done.after.findings
    assert sorted(server.texts) == sorted(
        [
            *(f"title {n}: body {n}" for n in (0, 3, 6)),
            *(f"body {n}" for n in (1, 4, 7)),
            *(f"title {n}" for n in (2, 5, 8)),
        ]
    )
    assert done.folder is not None
    named = {event["table"] for event in events_of(done.folder) if event["event"] == "outcome"}
    assert named == {POSTS, COMMENTS, OTHERS}
    undone = rolled_back(database, chosen, tmp_path, run_of(done), tables=[COMMENTS])
    assert undone.counts() == {"selected": 3, "restored": 3}
    left = "SELECT DISTINCT kind FROM things WHERE embedding IS NULL"
    assert rows(database, left) == [("comment",)]


def test_a_row_of_two_conditions_is_the_first_ones(database: str) -> None:
    things(database)
    entries = [
        table("public.things", where="id < 5", dimensions=8),
        table("public.things", where="id < 7 AND kind IS NOT NULL", dimensions=8),
        table("public.things", dimensions=8),
    ]
    with looking(database, *entries) as looker:
        targets = looker.targets()
    assert [target.entry for target in targets] == [target.name for target in targets]
    found = examined(database, *entries)
    assert [seen.rows for seen in found.tables] == [5, 1, 3]
    assert [finding.failing for finding in found.findings] == [5, 1, 3]
    for named, checked in (("things", 3), (targets[1].name, 1)):
        assert len(examined(database, *entries, only=[named]).tables) == checked


def test_a_vector_that_was_copied_from_one_kind_of_row_to_another_is_seen(database: str) -> None:
    things(database)
    run(
        database,
        "UPDATE things SET embedding = (SELECT array_agg(1 + (id * 31 + k * k) % 17)"
        " FROM generate_series(1, 8) AS k)::vector",
        "UPDATE things SET embedding = (SELECT embedding FROM things WHERE id = 0) WHERE id = 1",
    )
    entries = [
        table("public.things", where="kind = 'post'", dimensions=8, tenant="tenant"),
        table("public.things", where="kind = 'comment'", dimensions=8, tenant="tenant"),
    ]
    assert {f.table: f.failing for f in examined(database, *entries).findings} == {
        "public.things (where kind = 'post')": 1,
        "public.things (where kind = 'comment')": 1,
    }


@pytest.mark.parametrize(
    ("first", "second"),
    [("kind = 'a'", "kind = 'a' "), (None, "kind = 'a'"), (None, None)],
    ids=["twice the same rows", "all rows first", "twice all rows"],
)
def test_an_entry_to_which_no_row_is_left_is_a_fault(first: str | None, second: str | None) -> None:
    entries = [
        {"name": "docs", "text": "body", **({} if where is None else {"where": where})}
        for where in (first, second)
    ]
    with pytest.raises(SettingsError, match="or in `where` which rows"):
        settings_in({"tables": entries}, row_checks=ROW_CHECK_NAMES, named="integrity.toml")


def test_two_names_of_one_table_are_still_a_fault(database: str) -> None:
    things(database)
    entries = [
        table("things", where="kind = 'post'", dimensions=8),
        table("public.things", where="kind = 'comment'", dimensions=8),
    ]
    (said,) = says(examined(database, *entries), "schema")
    assert "public.things is declared by two entries, things and public.things" in said
    assert failing(examined(database, *entries), "completeness") == {None: 3}
