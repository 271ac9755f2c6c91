"""One vector under different texts: what is counted, and that every row of it gets its own."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from checks.row_checks.applied import applied_checks
from checks.row_checks.essence import essence
from checks.scanning.scan_statement import compile_scan
from remediation.journal.outcomes import Outcome
from remediation.plan_table import plan_lines
from remediation.writing import frozen_sets as freezing
from tests.builders.tables import DOCS, looking, run, table
from tests.builders.tables import examined as examined_by
from tests.builders.tables import failing as failing_by
from tests.drivers.repairs import docs, environment, examined, opened, repaired, settings
from tests.servers.provider_server import ProviderServer, Reply

if TYPE_CHECKING:
    from pathlib import Path

    from tests.drivers.repairs import Docs

KEYS = environment("acme", "globex", "initech")
STUB = "[1,2,3,4,5,6,7,8]"


def failing(url: str, of: object = None) -> int:
    chosen = settings("http://127.0.0.1:9") if of is None else of
    return examined(url, chosen).failing("uniqueness")  # type: ignore[arg-type]


def stub(rows: Docs, condition: str = "true") -> None:
    rows.execute(f"UPDATE docs SET embedding = '{STUB}' WHERE {condition}")


def always(vector: list[float]) -> Reply:
    """The answer of a provider that gives two texts this vector, and all others another one."""

    def change(body: dict[str, Any]) -> None:
        for position, entry in enumerate(body["data"]):
            entry["embedding"] = vector if position < 2 else [vector[0] + 1, *vector[1:]]

    return Reply(change=change)


def one_vector(body: dict[str, Any]) -> None:
    for entry in body["data"]:
        entry["embedding"] = body["data"][0]["embedding"]


def test_fifty_rows_with_one_stub_vector_all_get_their_own(database: str, tmp_path: Path) -> None:
    made = {"acme": (20, 0), "globex": (20, 0), "initech": (10, 0), "whole": (3, 0)}
    with docs(database, made) as rows, ProviderServer() as server:
        stub(rows, "tenant <> 'whole'")
        before = rows.versions()
        assert failing(database) == 50
        done = repaired(database, settings(server), tmp_path, keys=KEYS)
        assert done.counts() == {"selected": 50, "fixed": 50}
        assert done.docs.stopped is None
        assert rows.wrong() == []
        assert failing(database) == 0
        assert rows.versions()[50:] == before[50:]


def test_a_row_whose_twin_was_repaired_first_is_still_selected(
    database: str, tmp_path: Path
) -> None:
    with docs(database, {"acme": (6, 0)}) as rows, ProviderServer() as server:
        stub(rows, "id IN (1, 2)")
        with opened(database, settings(server), keys=KEYS) as repair:
            plan = repair.plan()
            own = rows.literal("document 1 of acme")
            rows.execute("UPDATE docs SET embedding = %s WHERE id = 1", [own])
            assert failing(database) == 0
            assert rows.wrong() == [2]
            repair.run(plan, tmp_path, lambda _: None)
            (result,) = repair.results
        assert result.account.selected == result.account.count(Outcome.FIXED) == 1
        assert rows.wrong() == []


def test_rows_of_one_text_may_share_its_vector(database: str) -> None:
    with docs(database, {"acme": (6, 0)}) as rows:
        rows.execute("UPDATE docs SET body = 'the same', embedding = %s", [STUB])
        assert failing(database) == 0
        rows.execute("UPDATE docs SET body = 'another' WHERE id = 4")
        assert failing(database) == 6


HEAD = "This message and its attachments are meant for the addressee alone. " * 8
TWINS = [
    ("Reset Password", "reset\npassword"),
    ("Ärger mit ÉTÉ", "arger mit ete!"),
    ("ЗДРАВСТВУЙТЕ, МИР", "здравствуйте — мир"),
    ("ΨΩΣ", "ψως"),
    ("שלום עולם", "שָׁלוֹם עוֹלָם"),
    ("السلام عليكم", "السَّلَامُ عَلَيْكُمْ"),
    (HEAD + "one", HEAD + "two"),
]
DIFFERENT = [("password 1", "password 2"), ("東京", "京都"), ("été", "été 2"), ("שלום", "שלם")]


@pytest.mark.parametrize(("one", "other"), TWINS)
def test_texts_that_a_model_may_take_for_the_same_may_share_a_vector(
    database: str, tmp_path: Path, one: str, other: str
) -> None:
    """In SQL, in an answer of the provider, and in what is written of it."""
    with docs(database, {"acme": (5, 0)}) as rows, ProviderServer() as server:
        assert essence(one) == essence(other)
        rows.execute("UPDATE docs SET body = %s WHERE id = 1", [one])
        rows.execute("UPDATE docs SET body = %s WHERE id IN (2, 3)", [other])
        stub(rows, "id < 4")
        assert failing(database) == 0
        rows.execute("UPDATE docs SET embedding = NULL WHERE id < 4")
        server.always(Reply(change=one_vector))
        chosen = settings(server, repair={"probe": 0})
        done = repaired(database, chosen, tmp_path, keys=KEYS)
        assert done.counts() == {"selected": 3, "fixed": 3}
        assert failing(database) == 0


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_other_texts_may_not(database: str, one: str, other: str) -> None:
    with docs(database, {"acme": (5, 0)}) as rows:
        assert essence(one) != essence(other)
        rows.execute("UPDATE docs SET body = %s WHERE id = 1", [one])
        rows.execute("UPDATE docs SET body = %s WHERE id = 2", [other])
        stub(rows, "id < 3")
        assert failing(database) == 2


def test_a_shorter_window_of_a_model_is_declared(database: str, tmp_path: Path) -> None:
    head = "Your order has been shipped and will arrive within the next five days. "
    with docs(database, {"acme": (5, 0)}) as rows, ProviderServer() as server:
        rows.execute("UPDATE docs SET body = %s || id WHERE id < 4", [head])
        stub(rows, "id < 4")
        assert failing(database) == 3
        server.always(Reply(change=one_vector))
        refused = repaired(database, settings(server, repair={"probe": 0}), tmp_path, keys=KEYS)
        assert refused.counts() == {"selected": 3, "failed": 3}
        assert "declare uniqueness = { alike = 50 }" in str(refused.docs.stopped)
        checks = {"uniqueness": {"alike": 50}}
        assert failing(database, settings(server, table={"checks": checks})) == 0


def test_rows_are_held_against_those_of_other_tenants_also_in_a_restricted_run(
    database: str, tmp_path: Path
) -> None:
    with docs(database, {"acme": (5, 0), "globex": (5, 0)}) as rows, ProviderServer() as server:
        stub(rows, "id IN (1, 6)")
        done = repaired(database, settings(server), tmp_path, keys=KEYS, tenants=("acme",))
        assert done.counts() == {"selected": 1, "fixed": 1}
        assert rows.wrong() == [6]


@pytest.mark.parametrize(
    "condition", ["body = ''", "body = E' \\n'", "body = NULL", "hidden = true", "embedding = NULL"]
)
def test_a_row_without_text_or_out_of_scope_is_nobody_s_twin(database: str, condition: str) -> None:
    with docs(database, {"acme": (3, 0)}) as rows:
        stub(rows, "id IN (1, 2)")
        assert failing(database) == 2
        rows.execute(f"UPDATE docs SET {condition} WHERE id = 2")
        assert failing(database) == 0


def test_a_row_that_rightly_keeps_its_vector_is_fixed(database: str, tmp_path: Path) -> None:
    with docs(database, {"acme": (6, 0)}) as rows, ProviderServer() as server:
        rows.execute("UPDATE docs SET embedding = (SELECT embedding FROM docs WHERE id = 1)")
        assert failing(database) == 6
        done = repaired(database, settings(server), tmp_path, keys=KEYS)
        assert done.counts() == {"selected": 6, "fixed": 6}
        assert done.docs.stopped is None
        assert rows.wrong() == []


@pytest.mark.parametrize("same", [True, False], ids=["the old stub", "a new stub"])
def test_a_provider_that_answers_few_vectors_stops_the_check(
    database: str, tmp_path: Path, same: bool
) -> None:
    with docs(database, {"acme": (30, 0)}) as rows, ProviderServer() as server:
        stub(rows)
        vector = [float(number) for number in range(1, 9)] if same else [1.0] * 8
        server.always(always(vector))
        done = repaired(database, settings(server, repair={"probe": 0}), tmp_path, keys=KEYS)
        assert done.counts() == {"selected": 30, "failed": 5, "skipped": 25}
        assert done.reasons(Outcome.FAILED) == {
            "the provider gave different texts one and the same vector"
        }
        assert done.docs.stopped == (
            "the repair of uniqueness does not heal public.docs:"
            " the provider gave different texts one and the same vector"
        )
        assert len(server.requests) == 1


def test_one_vector_for_all_texts_is_never_written(database: str, tmp_path: Path) -> None:
    with docs(database, {"acme": (0, 30)}) as rows, ProviderServer() as server:
        server.always(Reply(change=one_vector))
        done = repaired(database, settings(server), tmp_path, keys=KEYS)
        assert done.counts() == {"selected": 30, "failed": 30}
        expected = "expected a vector for each text, found the same one for 5 different texts"
        assert done.reasons(Outcome.FAILED) == {
            expected,
            f"given up after 3 requests in a row: {expected}",
        }
        assert rows.rows("embedding") == [(None,)] * 30


def test_a_stub_that_comes_back_in_a_later_batch_is_known_again(
    database: str, tmp_path: Path
) -> None:
    made = {f"tenant{number}": (1, 0) for number in range(12)}
    keys = environment(*made)
    with docs(database, made) as rows, ProviderServer() as server:
        stub(rows)
        server.always(always([1.0] * 8))
        one_by_one = settings(server, repair={"probe": 0}, provider={"concurrency": 1})
        done = repaired(database, one_by_one, tmp_path, keys=keys)
        counts = done.counts()
        assert counts["fixed"] == 1
        assert counts["failed"] >= 3
        assert counts["skipped"] >= 1
        assert done.docs.stopped is not None
        assert done.after is not None
        assert done.after.tables[0].failing("uniqueness") == 12


def test_more_shared_vectors_than_a_run_takes_are_left_to_the_next_and_said(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(freezing, "MOST_MEMBERS", 2)
    with docs(database, {"acme": (13, 0)}) as rows, ProviderServer() as server:
        rows.execute(
            "UPDATE docs SET embedding = ARRAY[id / 2, 1, 0, 0, 0, 0, 0, 0]::vector"
            " WHERE id BETWEEN 2 AND 9"
        )
        chosen = settings(server)
        with opened(database, chosen, keys=KEYS) as repair:
            said = list(plan_lines(repair.plan(), place="here", dry_run=True))
        assert (
            "public.docs: uniqueness: the rows of 2 vectors are repaired in this run; run it again"
            in (line.partition(" for")[0] for line in said)
        )
        first = repaired(database, chosen, tmp_path, keys=KEYS)
        assert first.counts() == {"selected": 4, "fixed": 4}
        assert failing(database) == 4
        assert first.plan.rows == 4
        second = repaired(database, chosen, tmp_path, keys=KEYS)
        assert second.counts() == {"selected": 4, "fixed": 4}
        assert rows.wrong() == []


def test_the_scan_of_a_healthy_table_reads_each_vector_once(database: str) -> None:
    run(
        database,
        DOCS,
        "INSERT INTO docs (id, tenant, body, embedding, created_at)"
        " SELECT n, 'a', 'text ' || n,"
        " (SELECT array_agg(random() + 0 * (n + g)) FROM generate_series(1, 1536) AS g)::vector,"
        " now()"
        " FROM generate_series(1, 200) AS n",
        "VACUUM ANALYZE docs",
    )
    others = {name: {"enabled": False} for name in ("dimensionality", "degenerate")}
    declared = table(created_at="created_at", dimensions=1536, checks=others)

    with looking(database, declared) as looker:
        (target,) = looker.targets()
        statement = compile_scan(target, applied_checks(target))

        def reads() -> int:
            looker.connection.execute("SELECT pg_stat_force_next_flush()")
            read = "SELECT toast_blks_hit + toast_blks_read FROM pg_statio_user_tables"
            row = looker.connection.execute(read).fetchone()
            assert row is not None
            return int(row[0])

        def needed(query: str) -> int:
            before = reads()
            looker.connection.execute(query)
            return reads() - before

        once = needed("SELECT count(*) FROM docs WHERE md5(vector_send(embedding)) = ''")
        assert once >= 200
        scanned = needed(statement.as_string(None))
        looker.connection.execute(
            "UPDATE docs SET embedding = (SELECT embedding FROM docs WHERE id = 1) WHERE id = 2"
        )
        assert once * 0.9 <= scanned <= once * 1.1
        # Where a vector is shared, its rows alone are read again with their texts.
        assert once * 0.9 <= needed(statement.as_string(None)) <= once * 1.1
        plan = "\n".join(
            row[0]
            for row in looker.connection.execute(
                "EXPLAIN (VERBOSE, COSTS OFF) " + statement.as_string(None)
            )
        )
        assert not re.search("(?<!hashed )SubPlan.*IN", plan)


def test_a_scan_joins_no_row_with_every_other_after_a_repair_that_no_statistics_know(
    database: str,
) -> None:
    run(
        database,
        DOCS,
        "ALTER TABLE docs SET (autovacuum_enabled = false)",
        "INSERT INTO docs (id, tenant, body)"
        " SELECT n, 'a', 'text ' || n FROM generate_series(1, 400) AS n",
        "ANALYZE docs",
        "UPDATE docs SET embedding = ARRAY[1, 2, id % 300]::real[]::vector",
    )
    with looking(database, table(tenant="tenant")) as looker:
        (target,) = looker.targets()
        statement = compile_scan(target, applied_checks(target)).as_string(None)
        (plan,) = looker.connection.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}")

        def loops(node: dict[str, Any]) -> int:
            # The norm of a row is computed in a subselect of that row alone.
            joined = (n for n in node.get("Plans", ()) if n["Parent Relationship"] != "SubPlan")
            return max(int(node["Actual Loops"]), *map(loops, joined), 0)

        assert loops(plan[0][0]["Plan"]) == 1
        assert failing_by(examined_by(database, table(tenant="tenant")), "uniqueness") == {"a": 200}


def test_a_shared_vector_is_told_by_all_of_its_bytes(database: str) -> None:
    run(
        database,
        DOCS,
        "ALTER TABLE docs ALTER embedding TYPE real[] USING NULL",
        "INSERT INTO docs VALUES (1, 'a', 'one', '{0,1,2}'), (2, 'a', 'two', '{-0,1,2}'),"
        " (3, 'a', 'three', '[0:2]={0,1,2}'), (4, 'a', 'four', '{0,1,2}')",
    )
    found = examined_by(database, table(tenant="tenant"))
    assert failing_by(found, "uniqueness") == {"a": 2}
