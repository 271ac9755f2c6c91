"""The schema that machines share is ours alone, and a run's id in it is never a path."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest

from checks.database.connection_url import parse_url
from remediation.distributed.shared.journal import collect_left
from remediation.distributed.shared.schema import (
    SCHEMA,
    ForeignSchemaError,
    install,
    shared_connection,
    uninstall,
)
from remediation.journal.past_journals import find_journal
from tests.builders.tables import role, rows, run
from tests.faults.pooler import pooler

if TYPE_CHECKING:
    from pathlib import Path

    from tests.drivers.workers import Site


def test_a_schema_that_somebody_else_made_is_neither_used_nor_read(
    database: str, tmp_path: Path
) -> None:
    place = parse_url(database, variable="DATABASE_URL")
    name = database.rpartition("/")[2].partition("?")[0]
    with role(database, "mallory_of_a_schema") as theirs:
        run(database, f'GRANT CREATE ON DATABASE {name} TO "mallory_of_a_schema"')
        run(
            theirs,
            f"CREATE SCHEMA {SCHEMA}; CREATE TABLE {SCHEMA}.run_as (who text)",
            f"CREATE FUNCTION {SCHEMA}.trap() RETURNS text LANGUAGE sql AS"
            f" $$ INSERT INTO {SCHEMA}.run_as VALUES (current_user) RETURNING who $$",
            *(
                f"CREATE VIEW {SCHEMA}.{name} AS SELECT {SCHEMA}.trap() AS run_id, 1 AS token,"
                " '' AS header, 1 AS id, '' AS lines"
                for name in ("journal", "run", "work")
            ),
        )
        assert collect_left(place, tmp_path) == []
        for use in (install, uninstall, shared_connection):
            with pytest.raises(ForeignSchemaError, match="belongs to role 'mallory_of_a_schema'"):
                use(place)
        assert rows(database, f"SELECT who FROM {SCHEMA}.run_as") == []
    assert list(tmp_path.iterdir()) == []


def test_what_is_left_is_taken_in_through_a_pooler_too(shared_site: Site, tmp_path: Path) -> None:
    run_id, line = "20261122T203438Z-f36a3d", '{"event":"end"}'
    with shared_connection(shared_site.place) as connection:
        connection.execute(
            "INSERT INTO run (run_id, sweep, header, price, max_rows, max_cost)"
            ' VALUES (%s, false, \'{"event":"run"}\', 1, 1, 1)',
            (run_id,),
        )
        connection.execute("INSERT INTO journal (run_id, lines) VALUES (%s, %s)", (run_id, line))
    with pooler(shared_site.database, refuses=True) as url:
        place = parse_url(url, variable="DATABASE_URL")
        assert collect_left(place, tmp_path / "reports") == [run_id]
        assert collect_left(place, tmp_path / "reports") == []
    past = find_journal(run_id, tmp_path / "reports")
    assert [event["event"] for _, event in past.events()] == ["run", "end", "end"]


def test_a_run_that_is_no_run_s_id_names_no_folder(shared_site: Site, tmp_path: Path) -> None:
    with shared_connection(shared_site.place) as connection:
        connection.execute(
            "INSERT INTO run (run_id, sweep, header, price, max_rows, max_cost)"
            " VALUES ('../elsewhere', false, '{}', 1, 1, 1)"
        )
        connection.execute("INSERT INTO journal (run_id, lines) VALUES ('../elsewhere', '{}')")
    reports = tmp_path / "reports"
    assert collect_left(shared_site.place, reports) == []
    assert not (tmp_path / "elsewhere").exists()
    with psycopg.connect(shared_site.database) as connection:
        connection.execute(f"DELETE FROM {SCHEMA}.journal")
