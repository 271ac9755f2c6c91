"""With workers too, a tenant whose endpoint is slow holds up no other."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from remediation.journal.outcomes import Outcome
from remediation.table_repair import flight
from tests.drivers.repairs import Docs, docs, meanwhile
from tests.servers.provider_server import ProviderServer, Reply
from tests.servers.slow_tenant import Slow

if TYPE_CHECKING:
    import pytest

    from tests.drivers.workers import Site
    from tests.servers.provider_server import ReceivedRequest


def test_rows_of_a_late_tenant_become_jobs_once_its_probe_is_answered(shared_site: Site) -> None:
    """Also where the endpoint answers under an alias, which the coordinator's probe has proven."""
    rows = {"acme": (2, 30), "globex": (1, 20)}
    slow = Slow(shared_site.database)

    def under_an_alias(request: ReceivedRequest) -> Reply:
        reply = slow.rule(request) or Reply()
        return replace(reply, change=lambda answer: answer.update(model="BAAI/bge-m3"))

    with docs(shared_site.database, rows) as table, ProviderServer() as server:
        server.always(under_an_alias)
        shared_site.write_settings(server, repair="probe = 3")
        with shared_site.worker_here(), meanwhile(slow.watch):
            done = shared_site.repaired()
        assert slow.others_were_whole
        assert done.counts() == {"selected": 50, str(Outcome.FIXED): 50}
        assert table.wrong() == []


def test_a_worker_s_rows_of_a_late_tenant_come_after_all_others_of_all_tables(
    shared_site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flight, "LATE_SECONDS", 0.3)
    rows = {"acme": (1, 50), "globex": (1, 30)}
    names = ("public.docs", "public.more")
    tables = [Docs(url=shared_site.database, table=name).create(rows) for name in names]
    slow = Slow(shared_site.database, prompt=2, tables=names)
    with ProviderServer() as server:
        server.always(slow.rule)
        shared_site.write_settings(server, tables=names)
        with shared_site.worker_here(), meanwhile(slow.watch):
            done = shared_site.repaired()
    assert slow.others_were_whole
    for table, result in zip(tables, done.results, strict=True):
        assert (result.table, result.stopped) == (table.table, None)
        assert result.account.selected == result.account.count(Outcome.FIXED) == 80
        assert table.wrong() == []
        table.close()
