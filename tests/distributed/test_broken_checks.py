"""With workers too, a repair ends at the first write that breaks a check it does not repair."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.drivers.repairs import docs
from tests.servers.provider_server import ProviderServer

if TYPE_CHECKING:
    from tests.drivers.workers import Site


def test_a_write_that_breaks_another_check_ends_the_repair_on_all_workers(
    shared_site: Site,
) -> None:
    with docs(shared_site.database, {"acme": (3, 90)}) as rows, ProviderServer() as server:
        rows.execute(
            "ALTER TABLE docs ADD changed timestamptz DEFAULT '2026-01-01',"
            " ADD made timestamptz DEFAULT '2026-02-01';"
            "CREATE FUNCTION touched() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN NEW.changed := now() + interval '1 hour'; RETURN NEW; END $$;"
            "CREATE TRIGGER touch BEFORE UPDATE ON docs FOR EACH ROW EXECUTE FUNCTION touched()"
        )
        shared_site.write_settings(server)
        path = shared_site.folder / "integrity.toml"
        path.write_text(path.read_text() + 'updated_at = "changed"\nembedded_at = "made"\n')
        with shared_site.worker_here(), shared_site.worker_here():
            done = shared_site.repaired()
        assert "breaks freshness" in (done.docs.stopped or "")
        assert "trigger touch (function touched)" in (done.docs.stopped or "")
        # Each worker has one write, of at most two batches, before it knows.
        counts = done.counts()
        assert counts["failed"] <= 20
        assert counts["failed"] + counts["skipped"] == counts["selected"] == 90
