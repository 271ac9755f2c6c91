"""A whole repair of real tables against a real provider: what is written, what is left, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from remediation.journal.outcomes import Outcome
from tests.drivers.repairs import docs, environment, key_of, repaired, settings
from tests.servers.provider_server import ProviderServer, Reply, vector_of

if TYPE_CHECKING:
    from pathlib import Path

KEYS = environment("acme", "globex")


@pytest.mark.parametrize(
    "column_type", ["vector(8)", "vector", "halfvec(8)", "real[]", "double precision[]"]
)
def test_failing_rows_get_their_embedding_and_nothing_else_changes(
    database: str, tmp_path: Path, column_type: str
) -> None:
    with (
        docs(database, {"acme": (4, 12), "globex": (3, 7)}, column_type) as table,
        ProviderServer() as server,
    ):
        healthy = table.execute("SELECT id, ctid, xmin FROM docs WHERE embedding IS NOT NULL")
        others = table.rows("id, tenant, body, note, hidden")
        done = repaired(database, settings(server), tmp_path, keys=KEYS)
        assert done.counts() == {"selected": 19, "fixed": 19}
        assert done.docs.stopped is None
        assert table.wrong() == []
        assert table.rows("id, tenant, body, note, hidden") == others
        now = table.execute("SELECT id, ctid, xmin FROM docs")
        assert set(healthy) <= set(now)
        assert done.after is not None
        assert done.after.findings == ()


def test_a_second_repair_asks_nothing_and_writes_nothing(database: str, tmp_path: Path) -> None:
    with docs(database, {"acme": (2, 6)}) as table, ProviderServer() as server:
        repaired(database, settings(server), tmp_path, keys=KEYS)
        asked, versions = len(server.requests), table.versions()
        done = repaired(database, settings(server), tmp_path, keys=KEYS)
        assert done.plan.tables == ()
        assert done.results == ()
        assert len(server.requests) == asked
        assert table.versions() == versions


def test_one_dead_key_of_eight_stops_that_tenant_alone(database: str, tmp_path: Path) -> None:
    names = [f"t{number}" for number in range(8)]
    keys = environment(*names)
    alive = {key_of(name) for name in names if name != "t3"}
    with (
        docs(database, dict.fromkeys(names, (1, 12))) as table,
        ProviderServer(keys=alive) as server,
    ):
        done = repaired(database, settings(server), tmp_path, keys=keys)
        assert done.counts() == {"selected": 96, "fixed": 84, "failed": 12}
        assert done.docs.stopped is None
        (failed,) = [g for g in done.docs.account.groups if g.outcome is Outcome.FAILED]
        assert (failed.tenant, failed.rows) == ("t3", 12)
        assert "401" in failed.reason
        assert table.execute("SELECT DISTINCT tenant FROM docs WHERE embedding IS NULL") == [
            ("t3",)
        ]
        for request in server.requests:
            assert request.key is not None
            assert all(f"of {request.key.split('-')[1]}" in text for text in request.texts)
        assert len([r for r in server.requests if r.key == key_of("t3")]) == 1


@pytest.mark.parametrize("dead", ["acme", "globex"])
def test_a_dead_key_that_no_probe_met_costs_one_request(
    database: str, tmp_path: Path, dead: str
) -> None:
    (alive,) = {"acme", "globex"} - {dead}
    with (
        docs(database, {"acme": (0, 30), "globex": (0, 30)}) as table,
        ProviderServer(keys={key_of(alive)}) as server,
    ):
        done = repaired(database, settings(server), tmp_path, keys=KEYS)
        assert done.counts() == {"selected": 60, "fixed": 30, "failed": 30}
        assert len([r for r in server.requests if r.key == key_of(dead)]) == 1
        assert len(table.wrong()) == 30


def test_a_tenant_without_a_key_fails_with_the_name_of_what_to_set(
    database: str, tmp_path: Path
) -> None:
    with docs(database, {"acme": (1, 6), "globex": (1, 6), None: (1, 2)}) as table:
        with ProviderServer() as server:
            done = repaired(database, settings(server), tmp_path, keys=environment("acme"))
            assert done.counts() == {"selected": 14, "fixed": 6, "failed": 8}
            assert any("KEY_{tenant}" in reason for reason in done.reasons(Outcome.FAILED))
            assert {request.key for request in server.requests} == {key_of("acme")}
            assert done.plan.tables[0].rows_without_key == 8
        assert len(table.wrong()) == 8


def test_a_refused_text_is_quarantined_and_its_neighbours_are_repaired(
    database: str, tmp_path: Path
) -> None:
    with docs(database, {"acme": (1, 20)}) as table, ProviderServer() as server:
        table.execute("UPDATE docs SET body = 'forbidden ' || body WHERE id = 7")
        server.poison("forbidden")
        done = repaired(database, settings(server), tmp_path, keys=KEYS)
        assert done.counts() == {"selected": 20, "fixed": 19, "quarantined": 1}
        assert table.wrong() == [7]
        assert "400" in next(iter(done.reasons(Outcome.QUARANTINED)))


def test_blank_texts_that_fail_a_custom_check_are_quarantined_unsent(
    database: str, tmp_path: Path
) -> None:
    custom = [{"name": "tagged", "failing_when": "note = 'bad'", "remedy": "re-embed"}]
    with docs(database, {"acme": (3, 0)}) as table, ProviderServer() as server:
        table.execute("UPDATE docs SET body = E' \\n', note = 'bad' WHERE id = 1")
        done = repaired(database, settings(server, table={"custom": custom}), tmp_path, keys=KEYS)
        assert done.counts() == {"selected": 1, "quarantined": 1}
        assert server.requests == []


@pytest.mark.parametrize(
    "reply",
    [
        Reply(status=500),
        Reply(cut=-1),
        Reply(body=b"{}"),
        Reply(change=lambda body: body["data"].pop()),
        Reply(change=lambda body: body["data"][0].update(index=-1)),
        Reply(change=lambda body: body["data"][0].update(embedding="AAAA")),
    ],
    ids=["500", "reset", "empty", "one-missing", "no such index", "cut"],
)
def test_a_provider_without_usable_answers_is_given_up_and_nothing_is_written(
    database: str, tmp_path: Path, reply: Reply
) -> None:
    with docs(database, {"acme": (0, 40)}) as table, ProviderServer() as server:
        versions = table.versions()
        server.always(reply)
        done = repaired(database, settings(server), tmp_path, keys=KEYS)
        assert done.counts() == {"selected": 40, "failed": 40}
        assert table.versions() == versions
        assert len(server.requests) <= 15  # twelve tries, and a harmless text after each third


def test_an_answer_in_another_order_goes_to_the_right_rows(database: str, tmp_path: Path) -> None:
    with docs(database, {"acme": (1, 12)}) as table, ProviderServer() as server:
        server.always(Reply(change=lambda body: body["data"].reverse()))
        done = repaired(database, settings(server), tmp_path, keys=KEYS)
        assert done.counts() == {"selected": 12, "fixed": 12}
        assert table.wrong() == []


def test_a_short_outage_is_waited_out(database: str, tmp_path: Path) -> None:
    with docs(database, {"acme": (1, 12)}) as table, ProviderServer() as server:
        server.next(Reply(), Reply(status=503), Reply(status=503))
        done = repaired(database, settings(server), tmp_path, keys=KEYS)
        assert done.counts() == {"selected": 12, "fixed": 12}
        assert table.wrong() == []


def test_another_model_of_the_same_dimension_refuses_before_the_first_write(
    database: str, tmp_path: Path
) -> None:
    with docs(database, {"acme": (5, 9)}) as table, ProviderServer() as server:
        before, versions = table.rows(), table.versions()

        def other_model(body: dict[str, object]) -> None:
            texts = server.requests[-1].texts
            body["data"] = [
                {
                    "object": "embedding",
                    "index": index,
                    "embedding": [float(x) for x in vector_of(text, 8, "another")],
                }
                for index, text in enumerate(texts)
            ]

        server.always(Reply(change=other_model))
        done = repaired(database, settings(server), tmp_path, keys=KEYS)
        assert done.docs.stopped is not None
        assert "the probe refused" in done.docs.stopped
        assert done.counts() == {"selected": 9, "skipped": 9}
        assert (table.rows(), table.versions()) == (before, versions)
        assert len(server.requests) == 8  # the probe, the same twice, variants, and pairs


def test_probe_zero_switches_the_probe_off(database: str, tmp_path: Path) -> None:
    with docs(database, {"acme": (5, 5)}) as table, ProviderServer() as server:
        table.execute("UPDATE docs SET embedding = ARRAY[id,1,0,0,0,0,0,0]::vector WHERE id <= 5")
        chosen = settings(server, repair={"probe": 0})
        done = repaired(database, chosen, tmp_path, keys=KEYS)
        assert done.counts() == {"selected": 5, "fixed": 5}
        assert done.plan.requests == len(server.requests) == 1


def test_a_restricted_run_still_sees_the_tenant_that_shares_a_variable(
    database: str, tmp_path: Path
) -> None:
    with docs(database, {"a-b": (1, 3), "acme": (1, 3)}) as table, ProviderServer() as server:
        table.execute(
            "CREATE TABLE other (id int PRIMARY KEY, tenant text, body text, v vector(8))"
        )
        table.execute("INSERT INTO other VALUES (1, 'a_b', 'text of another', NULL)")
        both = [
            {"name": "docs", "tenant": "tenant", "text": "body"},
            {"name": "other", "tenant": "tenant", "text": "body", "embedding": "v"},
        ]
        keys = {"KEY_A_B": key_of("a-b"), **environment("acme")}
        done = repaired(
            database,
            settings(server, tables=both),
            tmp_path,
            keys=keys,
            tables=["docs"],
            tenants=("a-b",),
        )
        assert done.counts() == {"selected": 3, "failed": 3}
        (reason,) = done.reasons(Outcome.FAILED)
        assert "'a-b'" in reason
        assert "'a_b'" in reason
        assert server.requests == []


def test_keys_come_from_a_table_of_the_database(database: str, tmp_path: Path) -> None:
    by_sql = {"env": "UNUSED_{tenant}", "sql": "SELECT k FROM keys WHERE t = %(tenant)s"}
    with docs(database, {"acme": (1, 3), "globex": (1, 3)}) as table:
        table.execute("CREATE TABLE keys (t text, k text)")
        table.execute("INSERT INTO keys VALUES ('acme', %s)", (key_of("acme"),))
        with ProviderServer(keys={key_of("acme")}) as server:
            done = repaired(database, settings(server, keys=by_sql), tmp_path, keys={})
            assert done.counts() == {"selected": 6, "fixed": 3, "failed": 3}
            assert {request.key for request in server.requests} == {key_of("acme")}


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT k::int::text FROM keys WHERE t = %(tenant)s",
        "DELETE FROM keys WHERE t = %(tenant)s RETURNING k",
        "SELECT k::bytea FROM keys WHERE t = %(tenant)s",
    ],
    ids=["an error that quotes the key", "a statement that writes", "not a text"],
)
def test_a_key_statement_that_fails_says_so_without_the_key(
    database: str, tmp_path: Path, statement: str
) -> None:
    by_sql = {"env": "UNUSED_{tenant}", "sql": statement}
    with docs(database, {"acme": (1, 3)}) as table, ProviderServer() as server:
        table.execute("CREATE TABLE keys (t text, k text)")
        table.execute("INSERT INTO keys VALUES ('acme', %s)", (key_of("acme"),))
        done = repaired(database, settings(server, keys=by_sql), tmp_path, keys={})
        assert done.counts() == {"selected": 3, "failed": 3}
        (reason,) = done.reasons(Outcome.FAILED)
        assert "[keys] sql failed" in reason
        assert key_of("acme") not in reason
        assert table.execute("SELECT count(*) FROM keys") == [(1,)]
        assert server.requests == []


def test_a_table_that_another_repair_holds_is_left_and_the_next_one_repaired(
    database: str, tmp_path: Path
) -> None:
    two = [
        {"name": name, "tenant": "tenant", "text": "body", "embedding": "embedding"}
        for name in ("docs", "more")
    ]
    with docs(database, {"acme": (1, 4)}) as table, ProviderServer() as server:
        table.execute("CREATE TABLE more (LIKE docs INCLUDING ALL)")
        table.execute("INSERT INTO more SELECT * FROM docs")
        chosen = settings(server, tables=two)
        oid = table.execute("SELECT 'docs'::regclass::oid::bigint")[0][0]
        table.execute("BEGIN")
        table.execute("SELECT set_config('application_name', 'the other repair', true)")
        table.execute("SELECT pg_advisory_xact_lock(%s, %s)", (0x656D6264, oid))
        done = repaired(database, chosen, tmp_path, keys=KEYS)
        table.execute("COMMIT")
        assert done.docs.stopped is not None
        assert "'the other repair'" in done.docs.stopped
        assert done.counts() == {"selected": 4, "skipped": 4}
        (more,) = [result for result in done.results if result.table == "public.more"]
        assert more.account.count(Outcome.FIXED) == 4
        assert len(table.wrong()) == 4


def test_a_journal_that_cannot_be_made_stops_the_repair_before_any_request(
    database: str, tmp_path: Path
) -> None:
    (tmp_path / "reports").write_text("a file where the folder should be")
    with docs(database, {"acme": (1, 4)}) as table, ProviderServer() as server:
        versions = table.versions()
        with pytest.raises(OSError, match="reports"):
            repaired(database, settings(server), tmp_path / "reports", keys=KEYS)
        assert server.requests == []
        assert table.versions() == versions


def test_hostile_names_and_texts_are_repaired_as_they_are(database: str, tmp_path: Path) -> None:
    hostile = [
        "'; DROP TABLE docs; --",
        "<script>alert(1)</script>",
        "two\nlines",
        "%s %(x)s",
        "Ж" * 300,
    ]
    chosen = settings(
        "http://127.0.0.1:9", keys={"fallback_env": "PLATFORM"}, table={"where": "note LIKE '%e%'"}
    )
    with docs(database, dict.fromkeys(hostile, (1, 2))) as table, ProviderServer() as server:
        table.execute("UPDATE docs SET body = body || ' \\ '' %s {}'")
        table.execute("UPDATE docs SET embedding = NULL")
        chosen = chosen.model_copy(update={"provider": settings(server).provider})
        done = repaired(database, chosen, tmp_path, keys={"PLATFORM": "sk-platform-0000"})
        assert done.counts() == {"selected": 15, "fixed": 15}
        assert table.wrong() == []
