"""With workers too, a tenant whose endpoint is slow at the probe holds up no other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from remediation.journal.outcomes import Outcome
from tests.provider_server import ProviderServer
from tests.repairs import docs, meanwhile
from tests.slow_tenant import Slow

if TYPE_CHECKING:
    from tests.workers import Site


def test_rows_of_a_late_tenant_become_jobs_once_its_probe_is_answered(shared_site: Site) -> None:
    rows = {"acme": (2, 30), "globex": (1, 20)}
    slow = Slow(shared_site.database)
    with docs(shared_site.database, rows) as table, ProviderServer() as server:
        server.always(slow.rule)
        shared_site.write_settings(server, repair="probe = 3")
        with shared_site.worker_here(), meanwhile(slow.watch):
            done = shared_site.repaired()
        assert slow.others_were_whole
        assert done.counts() == {"selected": 50, str(Outcome.FIXED): 50}
        assert table.wrong() == []
