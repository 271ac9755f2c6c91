"""A repair that makes rows fail a check which they did not fail before."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from remediation.journal.quarantine import recall
from tests.drivers.repairs import docs, environment, repaired, settings
from tests.servers.provider_server import ProviderServer

if TYPE_CHECKING:
    from pathlib import Path

KEYS = environment("acme")
DATED = {"updated_at": "changed", "embedded_at": "made"}
MARKED = {"custom": [{"name": "unmarked", "failing_when": "note <> 'kept'", "remedy": "report"}]}


@pytest.mark.parametrize(
    ("sets", "table", "breaks"),
    [
        ("NEW.changed := clock_timestamp() + interval '1 second'", DATED, "freshness"),
        ("NEW.note := 'touched'", MARKED, "unmarked"),
    ],
)
def test_a_write_that_breaks_another_check_ends_the_repair_and_names_the_trigger(
    database: str, tmp_path: Path, sets: str, table: dict[str, object], breaks: str
) -> None:
    with docs(database, {"acme": (3, 40)}) as rows, ProviderServer() as server:
        rows.execute("ALTER TABLE docs ADD changed timestamptz, ADD made timestamptz")
        rows.execute("UPDATE docs SET made = now() WHERE embedding IS NOT NULL")
        # A row that fails it already is no excuse for others.
        rows.execute("UPDATE docs SET note = 'touched' WHERE id < 3")
        rows.execute(
            "CREATE FUNCTION touched() RETURNS trigger LANGUAGE plpgsql AS"
            f" $$ BEGIN {sets}; RETURN NEW; END $$;"
            "CREATE TRIGGER touch BEFORE UPDATE ON docs FOR EACH ROW EXECUTE FUNCTION touched()"
        )
        done = repaired(database, settings(server, table=table), tmp_path, keys=KEYS)
        assert f"breaks {breaks}" in (done.docs.stopped or "")
        assert "trigger touch (function touched)" in (done.docs.stopped or "")
        assert len(server.requests) == 2  # the probe, and one batch of eight
        assert done.counts() == {"selected": 40, "failed": 5, "skipped": 35}


@pytest.mark.parametrize("when", ["BEFORE", "AFTER"])
def test_a_trigger_that_sets_updated_at_by_the_clock_leaves_the_rows_fresh(
    database: str, tmp_path: Path, when: str
) -> None:
    """As those do that frameworks put on each table, whatever is updated."""
    sets = {
        "BEFORE": "NEW.changed := clock_timestamp()",
        "AFTER": "UPDATE docs SET changed = clock_timestamp() WHERE id = NEW.id",
    }
    with docs(database, {"acme": (3, 40)}) as rows, ProviderServer() as server:
        rows.execute(
            "ALTER TABLE docs ADD changed timestamp(3), ADD made timestamptz(0);"
            "UPDATE docs SET made = now() WHERE embedding IS NOT NULL;"
            "CREATE FUNCTION touched() RETURNS trigger LANGUAGE plpgsql AS"
            f" $$ BEGIN {sets[when]}; RETURN NEW; END $$;"
            f"CREATE TRIGGER touch {when} UPDATE ON docs FOR EACH ROW"
            " WHEN (pg_trigger_depth() = 0) EXECUTE FUNCTION touched()"
        )
        chosen = settings(server, table=DATED)
        done = repaired(database, chosen, tmp_path, keys=KEYS)
        assert done.counts() == {"selected": 40, "fixed": 40}
        assert repaired(database, chosen, tmp_path, keys=KEYS).plan.tables == ()


def test_one_row_that_somebody_else_breaks_does_not_end_the_repair(
    database: str, tmp_path: Path
) -> None:
    with docs(database, {"acme": (3, 12)}) as rows, ProviderServer() as server:
        rows.execute(
            "CREATE FUNCTION touched() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN NEW.note := 'touched'; RETURN NEW; END $$;"
            "CREATE TRIGGER touch BEFORE UPDATE ON docs FOR EACH ROW WHEN (NEW.id = 6)"
            " EXECUTE FUNCTION touched()"
        )
        done = repaired(database, settings(server, table=MARKED), tmp_path, keys=KEYS)
        assert done.docs.stopped is None
        assert done.counts() == {"selected": 12, "fixed": 11, "failed": 1}


def test_what_was_written_in_vain_is_not_paid_for_again_until_its_cause_changes(
    database: str, tmp_path: Path
) -> None:
    with docs(database, {"acme": (3, 12)}) as rows, ProviderServer() as server:
        rows.execute("ALTER TABLE docs ADD changed timestamptz, ADD made timestamptz")
        rows.execute("UPDATE docs SET made = now() WHERE embedding IS NOT NULL")
        rows.execute(
            "CREATE FUNCTION touched() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN NEW.changed := clock_timestamp() + interval '1 second'; RETURN NEW; END $$;"
            "CREATE TRIGGER touch BEFORE UPDATE ON docs FOR EACH ROW EXECUTE FUNCTION touched()"
        )
        chosen = settings(server, table=DATED)
        first = repaired(database, chosen, tmp_path, keys=KEYS)
        asked = len(server.requests)
        assert first.folder is not None
        for _ in range(2):
            again = repaired(database, chosen, tmp_path, keys=KEYS, quarantine=recall(tmp_path))
            assert len(server.requests) == asked
            (planned,) = again.plan.tables
            assert (planned.rows, planned.probe_requests, planned.in_vain) == (0, 0, 12)
            assert again.counts() == {"selected": 12, "skipped": 12}
            assert f"as in run {first.folder.name}, which wrote in vain" in str(again.docs.stopped)
            assert "trigger touch (function touched)" in str(again.docs.stopped)
        rows.execute("DROP TRIGGER touch ON docs")
        healed = repaired(database, chosen, tmp_path, keys=KEYS, quarantine=recall(tmp_path))
        assert healed.counts() == {"selected": 12, "fixed": 12}
        assert recall(tmp_path).in_vain("public.docs") is None
