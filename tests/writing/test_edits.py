"""Rows that are edited, deleted or moved while they are repaired: never overwritten."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg

from remediation.journal.outcomes import Outcome
from tests.drivers.repairs import docs, environment, meanwhile, repaired, settings
from tests.servers.provider_server import ProviderServer, Reply

if TYPE_CHECKING:
    import threading
    from pathlib import Path

KEYS = environment("acme", "globex")


def test_rows_edited_while_the_repair_runs_never_keep_the_vector_of_their_old_text(
    database: str, tmp_path: Path
) -> None:
    with docs(database, {"acme": (2, 200), "globex": (2, 100)}) as table:
        with ProviderServer() as server:
            server.always(Reply(pause=0.1))
            asked_at_the_end: list[int] = []

            def edit(_: threading.Event) -> None:
                with psycopg.connect(database, autocommit=True) as connection:
                    # By then some of the rows are written, some are asked for, most are only read.
                    server.wait_for_requests(15)
                    for number in range(3, 203):
                        connection.execute(
                            "UPDATE docs SET body = body || ' edited' WHERE id = %s", (number,)
                        )
                asked_at_the_end.append(len(server.requests))

            with meanwhile(edit):
                done = repaired(database, settings(server), tmp_path, keys=KEYS)
            assert asked_at_the_end[0] < len(server.requests)
        assert done.counts() == {"selected": 300, "fixed": 300}
        assert table.wrong() == []
        assert sum(text.endswith("edited") for text in server.texts) == 200


def test_an_edit_after_the_write_is_repaired_in_the_same_run(database: str, tmp_path: Path) -> None:
    with docs(database, {"acme": (1, 30)}) as table, ProviderServer() as server:
        settled: list[Outcome] = []

        def edit_the_first(outcome: Outcome) -> None:
            settled.append(outcome)
            if len(settled) == 10:
                table.execute("UPDATE docs SET body = 'another text' WHERE id = 2")

        done = repaired(database, settings(server), tmp_path, keys=KEYS, on_outcome=edit_the_first)
        assert done.counts() == {"selected": 30, "fixed": 30}
        assert table.wrong() == []
        assert server.texts.count("another text") == 1


def test_a_row_that_is_edited_after_every_write_is_reported_as_left(
    database: str, tmp_path: Path
) -> None:
    with docs(database, {"acme": (1, 1)}) as table, ProviderServer() as server:
        edits = 0

        def edit_again(_: Outcome) -> None:
            nonlocal edits
            edits += 1
            table.execute("UPDATE docs SET body = %s WHERE id = 2", (f"edit {edits}",))

        done = repaired(database, settings(server), tmp_path, keys=KEYS, on_outcome=edit_again)
        assert done.counts() == {"selected": 1, "superseded": 1}
        assert done.reasons(Outcome.SUPERSEDED) == {"its text was edited meanwhile, and left so"}
        assert len(server.requests) == 1 + 4  # the probe, and the row in each of four rounds
        assert table.wrong() == [2]


def test_rows_changed_between_read_and_write_are_left_as_they_are(
    database: str, tmp_path: Path
) -> None:
    theirs = "[1,0,0,0,0,0,0,0]"
    changes = {
        2: "DELETE FROM docs WHERE id = 2",
        3: "UPDATE docs SET hidden = true WHERE id = 3",
        4: f"UPDATE docs SET embedding = '{theirs}' WHERE id = 4",
        5: f"UPDATE docs SET body = 'new', embedding = '{theirs}' WHERE id = 5",
        6: "UPDATE docs SET tenant = 'globex' WHERE id = 6",
        7: "UPDATE docs SET body = 'edited' WHERE id = 7",
        8: "UPDATE docs SET note = 'untouched by us' WHERE id = 8",
    }
    with docs(database, {"acme": (1, 7), "globex": (1, 0)}) as table, ProviderServer() as server:

        def change(_: object) -> None:
            if len(server.requests) == 3:  # two probes, then the batch
                for statement in changes.values():
                    table.execute(statement)

        chosen = settings(server, provider={"batch_size": 10}, repair={"probe": 1})
        # One tenant alone is selected and probed twice where both have healthy rows.
        server.always(change)
        table.execute("INSERT INTO docs (id, tenant, body) VALUES (100, 'globex', 'one of globex')")
        done = repaired(database, chosen, tmp_path, keys=KEYS)
        rows = {
            row[0]: row for row in table.rows("id, hidden, tenant, body, note, embedding::text")
        }
        assert 2 not in rows
        assert rows[3][5] is None
        assert rows[4][5] == theirs
        assert rows[5][5] == theirs
        assert rows[8][4] == "untouched by us"
        assert table.wrong() == [4, 5]
        # The moved and the edited row were embedded anew, the first with its new tenant's key.
        assert done.counts() == {"selected": 8, "fixed": 4, "superseded": 4}
        assert [r.key for r in server.requests if "document 6 of acme" in r.texts] == [
            KEYS["KEY_ACME"],
            KEYS["KEY_GLOBEX"],
        ]


def test_a_row_that_moves_out_of_the_selected_tenants_is_not_followed(
    database: str, tmp_path: Path
) -> None:
    with docs(database, {"acme": (0, 2), "globex": (0, 2)}) as table, ProviderServer() as server:

        def move(_: object) -> None:
            table.execute("UPDATE docs SET tenant = 'globex' WHERE id = 1")

        server.always(move)
        done = repaired(database, settings(server), tmp_path, keys=KEYS, tenants=("acme",))
        assert done.counts() == {"selected": 2, "fixed": 1, "superseded": 1}
        assert {request.key for request in server.requests} == {KEYS["KEY_ACME"]}
