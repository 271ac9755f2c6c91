"""Columns whose type is a domain: checked, repaired and discovered as the type below it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.builders.tables import rows, run
from tests.drivers.discoveries import discovered, tables
from tests.drivers.repairs import docs, environment, examined, repaired, settings
from tests.drivers.rollbacks import rolled_back, run_of, server

if TYPE_CHECKING:
    from pathlib import Path

    from tests.servers.provider_server import ProviderServer

__all__ = ["server"]

DOMAINS = {
    "small": "CREATE DOMAIN small AS vector(8)",
    "unit": "CREATE DOMAIN any_size AS halfvec(8);"
    " CREATE DOMAIN unit AS any_size CHECK (vector_dims(value) = 8)",
    "numbers": "CREATE DOMAIN numbers AS real[]",
    "finite[]": "CREATE DOMAIN finite AS double precision CHECK (value < 1e6)",
}


@pytest.mark.parametrize("kind", DOMAINS)
def test_a_domain_is_found_repaired_and_put_back(
    database: str, tmp_path: Path, server: ProviderServer, kind: str
) -> None:
    for statement in DOMAINS[kind].split(";"):
        run(database, statement)
    run(
        database,
        "CREATE DOMAIN word AS text NOT NULL",
        f"CREATE TABLE docs (id word PRIMARY KEY, tenant text, body text, hidden boolean,"
        f" embedding {kind})",
        "INSERT INTO docs SELECT n, 'acme', 'text ' || n, false FROM generate_series(1, 5) AS n",
    )
    chosen = settings(server)
    done = repaired(database, chosen, tmp_path, keys=environment("acme"))
    assert done.after is not None
    assert [table.error for table in done.after.tables] == [None]
    assert done.counts() == {"selected": 5, "fixed": 5}
    assert not done.after.findings
    entry = tables(discovered(database))["public.docs"]
    assert (entry["text"], entry["dimensions"]) == ("body", 8)
    undone = rolled_back(database, chosen, tmp_path, run_of(done))
    assert undone.counts() == {"selected": 5, "restored": 5}
    assert rows(database, "SELECT count(embedding) FROM docs") == [(0,)]


def test_the_dimension_of_a_domain_is_proven_by_the_catalog(
    database: str, server: ProviderServer
) -> None:
    run(database, "CREATE DOMAIN small AS vector(8)", "CREATE DOMAIN smaller AS small")
    with docs(database, {"acme": (2, 0)}, "smaller"):
        table = examined(database, settings(server))
        (check,) = (check for check in table.checks if check.name == "dimensionality")
        assert check.proof == "the column is vector(8), which holds no other dimension"
