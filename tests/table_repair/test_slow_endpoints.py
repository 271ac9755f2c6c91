"""One tenant's slow endpoint holds up no other tenant: at the probe, at first, and later."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from remediation.journal.outcomes import Outcome
from remediation.table_repair.waiting_batches import MOST_WAITING
from tests.drivers.repairs import Docs, docs, environment, key_of, meanwhile, repaired, settings
from tests.servers.provider_server import ProviderServer, Reply
from tests.servers.slow_tenant import Slow

if TYPE_CHECKING:
    from pathlib import Path

    from tests.servers.provider_server import ReceivedRequest

KEYS = environment("acme", "globex", "initech")
ACME = key_of("acme")


@pytest.mark.parametrize(
    ("healthy", "prompt"),
    [
        pytest.param(2, 0, id="at the probe", marks=pytest.mark.thorough),
        pytest.param(0, 0, id="at the first batch"),
        pytest.param(2, 2, id="when its key is proven"),
    ],
)
def test_a_slow_endpoint_holds_up_its_own_tenant_alone(
    database: str, tmp_path: Path, healthy: int, prompt: int
) -> None:
    # acme's rows are read first.
    rows = {"acme": (healthy, 60), "globex": (1, 40), "initech": (0, 10)}
    slow = Slow(database, prompt=prompt)
    with docs(database, rows) as table, ProviderServer() as server:
        server.always(slow.rule)
        with meanwhile(slow.watch):
            done = repaired(database, settings(server), tmp_path, keys=KEYS)
        assert slow.others_were_whole
        assert done.counts() == {"selected": 110, "fixed": 110}
        assert table.wrong() == []


def test_a_late_probe_that_disagrees_stops_its_tenant_alone(database: str, tmp_path: Path) -> None:
    slow = Slow(database)
    with docs(database, {"acme": (2, 10), "globex": (2, 10)}) as table, ProviderServer() as server:
        table.execute("UPDATE docs SET embedding = '[1,0,0,0,0,0,0,0]' WHERE id = 1")
        server.always(slow.rule)
        with meanwhile(slow.watch):
            done = repaired(database, settings(server), tmp_path, keys=KEYS)
        assert slow.others_were_whole
        assert done.docs.stopped is None
        assert done.counts() == {"selected": 20, "fixed": 10, "failed": 10}
        [refused] = done.reasons(Outcome.FAILED)
        assert "the probe refused" in refused


def test_more_batches_of_it_than_may_wait_keep_no_other_rows_from_being_read(
    database: str, tmp_path: Path
) -> None:
    # acme's first rows fill all places for batches that wait before another tenant's are read.
    many = 5 * (MOST_WAITING + 20)
    rows = {"acme": (1, many), "globex": (1, 40)}
    slow = Slow(database, prompt=1)
    with docs(database, rows) as table, ProviderServer() as server:
        server.always(slow.rule)
        with meanwhile(slow.watch):
            done = repaired(database, settings(server), tmp_path, keys=KEYS)
        assert slow.others_were_whole
        assert done.counts() == {"selected": many + 40, "fixed": many + 40}
        assert table.wrong() == []


@pytest.mark.parametrize(
    ("healthy", "prompt"),
    [
        pytest.param(2, 0, id="at the probe"),
        pytest.param(2, 2, id="later", marks=pytest.mark.thorough),
    ],
)
def test_it_is_met_once_and_its_rows_come_after_the_other_tables(
    database: str, tmp_path: Path, healthy: int, prompt: int
) -> None:
    rows = {"acme": (healthy, 30), "globex": (1, 20)}
    names = ("public.docs", "public.more")
    tables = [Docs(url=database, table=name).create(rows) for name in names]
    slow = Slow(database, prompt=prompt, tables=names)
    with ProviderServer() as server:
        server.always(slow.rule)
        chosen = settings(
            server, tables=[{"name": name, "tenant": "tenant", "text": "body"} for name in names]
        )
        with meanwhile(slow.watch):
            done = repaired(database, chosen, tmp_path, keys=KEYS)
    assert slow.others_were_whole
    for table, result in zip(tables, done.results, strict=True):
        assert (result.table, result.stopped) == (table.table, None)
        assert result.account.selected == result.account.count(Outcome.FIXED) == 50
        assert table.wrong() == []
        table.close()


def test_what_stops_a_tenant_in_one_table_is_not_asked_again_in_the_next(
    database: str, tmp_path: Path
) -> None:
    rows = {"acme": (1, 20), "globex": (1, 10)}
    names = ("public.docs", "public.more")
    tables = [Docs(url=database, table=name).create(rows) for name in names]
    tables[1].execute("UPDATE public.more SET body = 'more of ' || body")

    def down(request: ReceivedRequest) -> Reply | None:
        return Reply(status=500) if request.key == ACME else None

    with ProviderServer() as server:
        server.always(down)
        chosen = settings(
            server,
            repair={"probe": 0},
            tables=[{"name": name, "tenant": "tenant", "text": "body"} for name in names],
        )
        done = repaired(database, chosen, tmp_path, keys=KEYS)
        asked = [text for each in server.requests if each.key == ACME for text in each.texts]
    assert asked
    assert not any(text.startswith("more") for text in asked)
    first, second = done.results
    assert first.account.count(Outcome.FAILED) == second.account.count(Outcome.FAILED) == 20
    assert first.account.count(Outcome.FIXED) == second.account.count(Outcome.FIXED) == 10
    for table in tables:
        table.close()
