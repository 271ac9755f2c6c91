"""What is measured after a repair: of a large table, vectors of the selected rows alone."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

import pytest

from remediation.run import verification
from tests.drivers.repairs import TABLE, docs, environment, examined, opened, settings
from tests.servers.provider_server import ProviderServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from checks.examination.table_examination import TableExamination
    from checks.settings.integrity_toml import Settings
    from tests.drivers.repairs import Docs

KEYS = environment("acme", "globex")
ZERO = "[0,0,0,0,0,0,0,0]"


@pytest.fixture(autouse=True)
def any_table_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verification, "LARGE_ROWS", 1)
    monkeypatch.setattr(verification, "FEWER", 1)


@pytest.fixture
def server() -> Iterator[ProviderServer]:
    with ProviderServer() as server:
        yield server


def measured_after(
    rows: Docs, chosen: Settings, folder: Path, *, meanwhile: str | None = None, whole: bool = False
) -> TableExamination:
    """Repair, have somebody do something, and measure again, as a second pass does."""
    with opened(rows.url, chosen, keys=KEYS) as repair:
        repair.run(repair.plan(), folder, lambda _: None)
        if meanwhile is not None:
            rows.execute(meanwhile)
        table = repair.remeasure().table(TABLE)
        assert bool(repair.notes) is not whole
        return table


def writes(rows: Docs, vector: str) -> None:
    """Have a trigger store this vector in place of whatever is written."""
    rows.execute(
        "CREATE FUNCTION replace() RETURNS trigger LANGUAGE plpgsql AS"
        f" $$ BEGIN NEW.embedding := '{vector}'; RETURN NEW; END $$"
    )
    rows.execute(
        "CREATE TRIGGER replace BEFORE UPDATE ON docs FOR EACH ROW EXECUTE FUNCTION replace()"
    )


def test_it_measures_what_a_scan_of_all_rows_does(
    database: str, tmp_path: Path, server: ProviderServer
) -> None:
    # Nobody has a key for initech, whose rows stay as they are.
    made = {"acme": (40, 9), "globex": (30, 0), "initech": (20, 3), None: (5, 0)}
    chosen = settings(server, table={"created_at": "'2026-01-01'::date + id"})
    with docs(database, made) as rows:
        rows.execute(
            f"UPDATE docs SET embedding = '{ZERO}' WHERE id % 9 = 1 AND embedding IS NOT NULL"
        )
        again = measured_after(rows, chosen, tmp_path)
        assert again.failing("degenerate") > 0
        assert again.failing("completeness") == 3
        assert again.measurements == examined(database, chosen).measurements


def test_a_check_that_held_fails_where_a_written_row_fails_it(
    database: str, tmp_path: Path, server: ProviderServer
) -> None:
    with docs(database, {"acme": (9, 3), "globex": (9, 2)}) as rows:
        writes(rows, ZERO)
        again = measured_after(rows, settings(server), tmp_path)
        assert again.failing("completeness") < 5
        verdict = again.verdict("degenerate", "acme")
        assert verdict is not None
        assert not verdict.holds


def test_a_vector_that_was_written_under_different_texts_fails(
    database: str, tmp_path: Path, server: ProviderServer
) -> None:
    with docs(database, {"acme": (9, 3), "globex": (9, 2)}) as rows:
        writes(rows, "[1,2,3,4,5,6,7,8]")
        # One that nobody selected has it too, and is counted with those that share it.
        rows.execute("UPDATE docs SET note = 'seen by the trigger' WHERE id = 1")
        again = measured_after(rows, settings(server), tmp_path)
        assert again.failing("uniqueness") == examined(database, settings(server)).failing(
            "uniqueness"
        )
        assert again.failing("uniqueness") == 6


def test_what_somebody_else_breaks_meanwhile_is_seen_but_for_vectors_of_rows_nobody_selected(
    database: str, tmp_path: Path, server: ProviderServer
) -> None:
    with docs(database, {"acme": (9, 3)}) as rows:
        broken = f"""
            UPDATE docs SET embedding = CASE WHEN id < 3 THEN NULL ELSE '{ZERO}'::vector END
            WHERE id IN (1, 2, 3, 10)"""
        again = measured_after(rows, settings(server), tmp_path, meanwhile=broken)
        assert again.failing("completeness") == 2
        # Row 10 was selected, row 3 was not: it is for the next run.
        assert again.failing("degenerate") == 1
        assert examined(database, settings(server)).failing("degenerate") == 2


@pytest.mark.parametrize("before", ["a set of rows failed", "failures are accepted"])
def test_every_row_is_looked_at_where_it_is_not_known_that_the_others_hold(
    database: str, tmp_path: Path, server: ProviderServer, before: str
) -> None:
    accept = [{"tenant": "globex", "rows": 3, "until": date(2999, 1, 1), "reason": "known"}]
    with docs(database, {"acme": (9, 3), "globex": (9, 2)}) as rows:
        checks: dict[str, object] = {"degenerate": {"accept": accept}}
        if before == "a set of rows failed":
            checks = {"degenerate": {"enabled": False}}
            rows.execute("UPDATE docs SET embedding = '[1,2,3,4,5,6,7,8]' WHERE id < 3")
        else:
            checks["uniqueness"] = {"enabled": False}
            rows.execute(f"UPDATE docs SET embedding = '{ZERO}' WHERE id IN (1, 13)")
        chosen = settings(server, table={"checks": checks})
        again = measured_after(rows, chosen, tmp_path, whole=True)
        assert again.measurements == examined(database, chosen).measurements
