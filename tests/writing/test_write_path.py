"""How the writes of a repair travel: once, in few statements, in a queue that has an end."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import numpy as np
import pytest
from psycopg.pq import Trace

from checks.database.connection_url import parse_url
from remediation.journal.outcomes import Outcome
from remediation.selection.batching import FIRST_ROWS
from remediation.writing.changes import NewVectors
from remediation.writing.table_statements import NewVector
from remediation.writing.writer import SLOW_SECONDS, Pace, Writer
from tests.drivers.repairs import docs, environment, meanwhile, repaired, settings
from tests.drivers.writers import reading
from tests.servers.provider_server import ProviderServer

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from typing import Any

    from checks.database.connection import Connection

DIMENSIONS = 1536


class Traced(NewVectors):
    """Has libpq write down every message of its connection."""

    trace: Any

    def adapt(self, connection: Connection) -> None:
        super().adapt(connection)
        connection.pgconn.trace(self.trace.fileno())
        connection.pgconn.set_trace_flags(Trace.SUPPRESS_TIMESTAMPS)


def _messages(path: Path) -> list[tuple[str, int]]:
    """Those that the client sent: their kind and their bytes."""
    lines = (line.split("\t") for line in path.read_text(errors="replace").splitlines())
    return [(line[2].split(" ")[0], int(line[1])) for line in lines if line[0] == "F"]


def test_a_chunk_is_written_in_one_statement_that_holds_each_vector_once(
    database: str, tmp_path: Path
) -> None:
    with docs(database, {"acme": (0, FIRST_ROWS)}, "vector") as table:
        chosen = settings("http://127.0.0.1:9")
        with reading(database, chosen, "docs") as (reader, connection):
            rows = list(reader.failing_rows(connection, tenants=None))
        kept: list[Sequence[NewVector]] = []
        with (tmp_path / "messages").open("w") as trace:
            change = Traced(target=reader.target, reader=reader)
            change.trace = trace
            writer = Writer(
                change=change,
                place=parse_url(database, variable="DATABASE_URL"),
                stop=threading.Event(),
                check_lock=lambda: None,
                before_write=kept.append,
            )
            vectors = np.random.default_rng(1).random((len(rows), DIMENSIONS), dtype=np.float32)
            written = writer.write(
                [NewVector(row=row, vector=v) for row, v in zip(rows, vectors, strict=True)]
            )
            writer.close()
        assert {outcome.outcome for outcome in written.outcomes} == {Outcome.FIXED}
        (chunk,) = kept
        stored = table.execute("SELECT md5(vector_send(embedding)) FROM docs ORDER BY id")
        assert [new.stored_as for new in chunk] == [md5 for (md5,) in stored]
        sent = _messages(tmp_path / "messages")
        # BEGIN with its limits, the write, COMMIT; the same around what is read back.
        assert sum(kind in ("Query", "Sync") for kind, _ in sent) == 6
        assert sum(kind == "Bind" for kind, _ in sent) == 2
        size = len(rows) * DIMENSIONS * 4
        assert size < sum(length for _, length in sent) < 1.25 * size


def test_requests_go_on_while_writes_wait_until_their_queue_is_full(
    database: str, tmp_path: Path
) -> None:
    asking, writers, texts = 2, 1, 5
    with docs(database, {"acme": (1, 80)}) as table, ProviderServer() as server:
        table.execute(
            "CREATE FUNCTION slowly() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN PERFORM pg_sleep(0.3); RETURN NULL; END $$"
        )
        table.execute(
            "CREATE TRIGGER slowly AFTER UPDATE ON docs FOR EACH STATEMENT"
            " EXECUTE FUNCTION slowly()"
        )
        in_hand: list[int] = []

        def look(stop: threading.Event) -> None:
            while not stop.wait(0.01):
                # Asked before it is counted what is written: never fewer than there are.
                asked = len(server.texts) - 1  # the probe's
                ((missing,),) = table.execute("SELECT count(*) FROM docs WHERE embedding IS NULL")
                in_hand.append(asked - (80 - missing))

        chosen = settings(
            server,
            provider={"concurrency": asking, "batch_size": texts},
            repair={"write_concurrency": writers},
        )
        with meanwhile(look):
            done = repaired(database, chosen, tmp_path, keys=environment("acme"))
        assert done.counts() == {"selected": 80, "fixed": 80}
        bound = (asking + 2 * writers) * texts
        # All that may be in hand is: the provider was never kept waiting for two writes alone.
        assert max(in_hand) == bound


def test_a_transaction_grows_by_what_the_last_one_took_and_never_into_its_time_out() -> None:
    pace = Pace()
    pace.took(0.01)
    assert pace.rows == 5 * FIRST_ROWS
    pace.took(0.1)
    assert pace.rows == 6 * FIRST_ROWS
    pace.took(SLOW_SECONDS)
    assert pace.rows == 6 * FIRST_ROWS
    pace.took(3 * SLOW_SECONDS)
    assert pace.rows == pytest.approx(4 * FIRST_ROWS)
    pace.slower()
    assert pace.rows == pytest.approx(2 * FIRST_ROWS)
