"""Several embedding columns in one table: an entry for each, told apart wherever it is named."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.builders.tables import examined, failing, looking, rows, run, says, table
from tests.drivers.repairs import environment, repaired, settings
from tests.drivers.rollbacks import events_of, rolled_back, run_of, server

if TYPE_CHECKING:
    from pathlib import Path

    from tests.servers.provider_server import ProviderServer

__all__ = ["server"]

TITLES, BODIES = "public.docs.title_vector", 'public.docs."bodyVector"'


def docs(url: str) -> None:
    """Six rows of a tenant; two lack the vector of their title, three that of their body."""
    run(
        url,
        "CREATE TABLE docs (id integer PRIMARY KEY, tenant text, title text, body text,"
        ' title_vector vector(8), "bodyVector" halfvec(8))',
        "INSERT INTO docs (id, tenant, title, body)"
        " SELECT n, 'acme', 'title ' || n, 'body ' || n FROM generate_series(1, 6) AS n",
    )


def test_each_column_is_repaired_and_put_back_by_itself(
    database: str, tmp_path: Path, server: ProviderServer
) -> None:
    docs(database)
    both = [
        {"name": "docs", "tenant": "tenant", "text": "title", "embedding": "title_vector"},
        {"name": "public.docs", "tenant": "tenant", "text": "body", "embedding": '"bodyVector"'},
    ]
    chosen = settings(server, tables=both)
    done = repaired(database, chosen, tmp_path, keys=environment("acme"))
    assert {result.table: result.account.selected for result in done.results} == {
        TITLES: 6,
        BODIES: 6,
    }
    assert done.after is not None
    assert not done.after.findings
    assert done.folder is not None
    named = {event["table"] for event in events_of(done.folder) if event["event"] == "outcome"}
    assert named == {TITLES, BODIES}
    undone = rolled_back(database, chosen, tmp_path, run_of(done), tables=[TITLES])
    assert undone.counts() == {"selected": 6, "restored": 6}
    left = 'SELECT count(title_vector), count("bodyVector") FROM docs'
    assert rows(database, left) == [(0, 6)]


def test_a_check_of_one_column_is_no_check_of_the_other(database: str) -> None:
    docs(database)
    titles = table("docs", text="title", embedding="title_vector", dimensions=8)
    bodies = table("docs", embedding='"bodyVector"', dimensions=8, where="id > 2")
    whole = examined(database, titles, bodies)
    assert {finding.table: finding.failing for finding in whole.findings} == {TITLES: 6, BODIES: 4}
    for named, checked in (("docs", 2), ("docs.title_vector", 1), (BODIES, 1)):
        assert len(examined(database, titles, bodies, only=[named]).tables) == checked
    # One column declared twice, in other words, is still a fault.
    again = table("public.docs", text="title", embedding="title_vector", dimensions=8)
    (said,) = says(examined(database, titles, again), "schema")
    assert "public.docs is declared by two entries, docs and public.docs" in said


def test_entries_of_a_pattern_are_told_apart_in_every_schema(database: str) -> None:
    run(database, "CREATE SCHEMA t_a", "CREATE SCHEMA t_b")
    for schema in ("t_a", "t_b"):
        run(
            database,
            f"CREATE TABLE {schema}.docs (id integer PRIMARY KEY, title text, body text,"
            " v1 vector(3), v2 vector(3))",
            f"INSERT INTO {schema}.docs VALUES (1, 'a', 'b', NULL, '[1,2,3]')",
        )
    declared = [
        table("t_*.docs", tenant_from="schema", embedding=column, tenants=["a", "c"])
        for column in ("v1", "v2")
    ]
    found = examined(database, *declared)
    assert failing(found, "completeness") == {"a": 1, "b": 1}
    assert {finding.table for finding in found.findings if finding.check == "schema"} == {
        "t_c.docs.v1",
        "t_c.docs.v2",
    }
    with looking(database, *declared) as looker:
        names = {target.name: target.entry for target in looker.targets()}
        assert names["t_b.docs.v2"] == "t_*.docs.v2"
