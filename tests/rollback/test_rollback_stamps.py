"""What tells of a vector goes back with it: model, time and hash."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.builders.tables import rows, run
from tests.drivers.repairs import docs, environment, repaired, settings
from tests.drivers.rollbacks import rolled_back, run_of, server

if TYPE_CHECKING:
    from pathlib import Path

    from tests.servers.provider_server import ProviderServer

__all__ = ["server"]

KEYS = environment("acme", "globex")
WITH_ALL = """
CREATE TABLE docs (
    id integer, part smallint, tenant text, body text, hidden boolean DEFAULT false,
    embedding vector, model varchar(40), embedded_at timestamp(3), content_hash bytea,
    PRIMARY KEY (part, id)
) PARTITION BY LIST (part)
"""
TELLING = {"model_column": "model", "embedded_at": "embedded_at", "content_hash": "content_hash"}


def with_all(url: str) -> None:
    """Rows of a partitioned table with a composite key; 2 to 6 stale, each in its own way."""
    run(
        url,
        WITH_ALL,
        *(f"CREATE TABLE docs_{n} PARTITION OF docs FOR VALUES IN ({n})" for n in (1, 2)),
        "INSERT INTO docs SELECT n, 1 + n % 2, 'acme', 'document ' || n || ' of acme', false,"
        " '[1,2,3]', 'an-older-model', '2020-02-03 04:05:06.789',"
        " decode('00' || substr(md5('as it was ' || n), 3), 'hex') FROM"
        " generate_series(2, 6) AS n",
        "UPDATE docs SET model = NULL, embedded_at = NULL, content_hash = NULL WHERE id = 3",
        "UPDATE docs SET embedding = NULL, model = '' WHERE id = 4",
        "UPDATE docs SET embedded_at = '-infinity', model = E'a \\\\ \"%s\" \\n' WHERE id = 5",
        "UPDATE docs SET embedded_at = '0044-03-15 00:00:01 BC' WHERE id = 6",
    )


@pytest.mark.parametrize("date_style", ["ISO, MDY", "German", "SQL, DMY"])
def test_what_tells_of_a_vector_goes_back_with_it(
    database: str, tmp_path: Path, server: ProviderServer, date_style: str
) -> None:
    with_all(database)
    name = database.rpartition("/")[2].partition("?")[0]
    run(database, f"ALTER DATABASE {name} SET DateStyle TO '{date_style}'")
    everything = "SELECT docs::text, md5(vector_send(embedding)) FROM docs ORDER BY id"
    before = rows(database, everything)
    chosen = settings(server, table={**TELLING})
    done = repaired(database, chosen, tmp_path, keys=KEYS)
    assert done.counts() == {"selected": 5, "fixed": 5}
    assert len(rows(database, "SELECT FROM docs WHERE model = 'text-embedding-3-small'")) == 5
    undone = rolled_back(database, chosen, tmp_path, run_of(done))
    assert undone.counts() == {"selected": 5, "restored": 5}
    assert rows(database, everything) == before


def test_times_go_back_whatever_the_zone_of_the_server(
    database: str, tmp_path: Path, server: ProviderServer
) -> None:
    """Read back in another zone than they were read in, they would seem to be others."""
    with docs(database, {"acme": (2, 2)}) as table:
        table.execute("ALTER TABLE docs ADD COLUMN embedded_at timestamptz DEFAULT '2026-01-01Z'")
        name = database.rpartition("/")[2].partition("?")[0]
        run(database, f"ALTER DATABASE {name} SET TimeZone TO 'Asia/Kolkata'")
        everything = "SELECT docs::text FROM docs ORDER BY id"
        before = rows(database, everything)
        chosen = settings(server, table={"embedded_at": "embedded_at"})
        done = repaired(database, chosen, tmp_path, keys=KEYS)
        assert done.counts() == {"selected": 2, "fixed": 2}
        undone = rolled_back(database, chosen, tmp_path, run_of(done))
        assert undone.counts() == {"selected": 2, "restored": 2}
        assert rows(database, everything) == before


def test_a_key_whose_type_is_found_by_the_urls_schema_is_put_back(
    database: str, tmp_path: Path, server: ProviderServer
) -> None:
    with docs(database, {"acme": (2, 2)}) as table:
        table.execute("CREATE SCHEMA app")
        table.execute("CREATE DOMAIN app.number AS integer")
        table.execute("ALTER TABLE docs ALTER COLUMN id TYPE app.number")
        chosen = settings(server)
        url = f"{database}{'&' if '?' in database else '?'}schema=app"
        done = repaired(url, chosen, tmp_path, keys=KEYS)
        assert done.counts() == {"selected": 2, "fixed": 2}
        undone = rolled_back(url, chosen, tmp_path, run_of(done))
        assert undone.counts() == {"selected": 2, "restored": 2}


def test_a_vector_that_was_only_stamped_anew_gets_its_old_stamps_back(
    each_database: str, tmp_path: Path, server: ProviderServer
) -> None:
    """The vector is the same before and after; what stands beside it is not."""
    database = each_database
    with_all(database)
    chosen = settings(server, table={**TELLING})
    repaired(database, chosen, tmp_path, keys=KEYS)
    run(database, "UPDATE docs SET model = 'stamped', embedded_at = '2021-01-01' WHERE id = 2")
    before = rows(database, "SELECT docs::text FROM docs ORDER BY id")
    done = repaired(database, chosen, tmp_path, keys=KEYS)
    assert done.counts() == {"selected": 1, "fixed": 1}
    assert rows(database, "SELECT docs::text FROM docs ORDER BY id") != before
    assert rolled_back(database, chosen, tmp_path, run_of(done)).counts() == {
        "selected": 1,
        "restored": 1,
    }
    assert rows(database, "SELECT docs::text FROM docs ORDER BY id") == before


def test_a_stamp_that_changed_between_read_and_write_is_not_overwritten(
    database: str, tmp_path: Path, server: ProviderServer
) -> None:
    """Else the journal would hold another one than was replaced."""
    with_all(database)
    chosen = settings(server, table={**TELLING}, repair={"probe": 0})
    touched: list[None] = []

    def stamp(_: object) -> None:
        if not touched:
            touched.append(None)
            run(database, "UPDATE docs SET embedded_at = '2022-02-02' WHERE id = 2")

    server.always(stamp)
    done = repaired(database, chosen, tmp_path, keys=KEYS)
    assert done.counts() == {"selected": 5, "fixed": 5}
    rolled_back(database, chosen, tmp_path, run_of(done))
    assert rows(database, "SELECT embedded_at::text FROM docs WHERE id = 2") == [
        ("2022-02-02 00:00:00",)
    ]
