"""`embedding-integrity prevent`: looks at the catalog, and prints the migration or the way back.

Writes to no database; with `--output` two files.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg

from checks.database.connection import connect, read_only, reason_of
from checks.database.connection_url import parse_url
from checks.database.server import read_server
from checks.door import DoorParser, environment_here, settings_of
from checks.errors import CannotExamineError, ConnectionUrlError, SettingsError
from checks.examination.selection import Selection, UnknownNameError, require_known_tables
from checks.exit_status import ExitStatus
from checks.redaction import for_terminal
from checks.settings.environment import EnvironmentFileError
from checks.settings.names import display_identifier, parse_identifier
from checks.targets.resolution import resolve
from checks.tracebacks import bare
from remediation.prevention.migration import Migration, NameTakenError, compose
from remediation.prevention.survey import schema_exists

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from checks.settings.integrity_toml import Settings
    from checks.targets.target import Target

UP, DOWN = "embedding_integrity_up.sql", "embedding_integrity_down.sql"


@bare
def main(argv: Sequence[str] | None = None) -> int:
    """Print the script on standard output, or why there is none on standard error."""
    options = _parser().parse_args(argv)
    try:
        environment = environment_here()
        settings = settings_of(options, environment)
        schema = _schema(options.schema)
        migration, unseen = _look(settings, environment, options.table, schema)
        if options.output is not None:
            _write(Path(options.output), migration)
    except SettingsError as error:
        return _failed("\n".join(error.errors), ExitStatus.USAGE_ERROR)
    except (
        ConnectionUrlError,
        EnvironmentFileError,
        UnknownNameError,
        NameTakenError,
        _UsageError,
    ) as error:
        return _failed(str(error), ExitStatus.USAGE_ERROR)
    except CannotExamineError as error:
        return _failed(str(error), ExitStatus.NOTHING_EXAMINED)
    if options.output is None:
        # UTF-8 whatever the terminal's language is. Made of names and settings alone, it holds no
        # secret; to redact a name that a password happens to be would break it.
        text = migration.down if options.down else migration.up
        sys.stdout.buffer.write(text.encode())
        sys.stdout.buffer.flush()
    for target in unseen:
        _failed("\n".join(problem.text for problem in target.problems), ExitStatus.FAILS)
    return ExitStatus.FAILS if unseen else ExitStatus.HOLDS


class _UsageError(Exception):
    """An option is wrong, in words."""


def _parser() -> DoorParser:
    parser = DoorParser(
        "prevent",
        "Print a SQL migration, to be reviewed, after which a missing or stale embedding is"
        " impossible or seen at once. Reads the catalog only.",
    )
    parser.add_config()
    parser.add_argument(
        "--table",
        action="append",
        metavar="NAME",
        help="this table only, without the view of all tables; repeatable",
    )
    parser.add_argument("--down", action="store_true", help="print the way back")
    parser.add_argument(
        "--schema",
        metavar="NAME",
        default="public",
        help="the schema of the view embedding_integrity (default: public)",
    )
    parser.add_argument(
        "--output", metavar="DIR", help=f"write {UP} and {DOWN} into this folder instead"
    )
    return parser


def _schema(named: str) -> str:
    try:
        return parse_identifier(named)
    except ValueError as error:
        raise _UsageError(f"--schema: {error}") from None


def _look(
    settings: Settings, environment: Mapping[str, str], tables: list[str] | None, schema: str
) -> tuple[Migration, list[Target]]:
    """The migration, and the tables that could not be looked at."""
    variable = settings.database.url_env
    url = environment.get(variable)
    if not url:
        raise ConnectionUrlError(
            f"the environment variable {variable} is not set; expected the URL of the database to"
            f" look at: {variable}=postgresql://USER:PASSWORD@HOST:PORT/DATABASE"
        )
    place = parse_url(url, variable=variable)
    selection = Selection(tables=tables)
    timeout = settings.database.statement_timeout
    with connect(place) as connection:
        try:
            with read_only(connection, place, statement_timeout=timeout):
                server = read_server(connection)
                targets = resolve(connection, settings, server)
                require_known_tables(selection, targets)
                selected = [target for target in targets if selection.wants(target)]
                unseen = [t for t in selected if not t.scannable and not t.absent]
                if len(unseen) == len(selected):
                    reasons = [problem.text for t in unseen for problem in t.problems]
                    raise CannotExamineError("\n".join(("no table is as declared:", *reasons)))
                if tables is None and not schema_exists(connection, schema):
                    raise _UsageError(
                        f"--schema: schema {display_identifier(schema)} does not exist in database"
                        f" {server.database!r}; create it, or name another one"
                    )
                migration = compose(
                    connection, selected, server, schema=schema, with_view=tables is None
                )
        except psycopg.Error as error:
            raise CannotExamineError(
                f"cannot read the catalog of {place.place}: {reason_of(error)}"
            ) from None
    return migration, unseen


def _write(folder: Path, migration: Migration) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in ((UP, migration.up), (DOWN, migration.down)):
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise _UsageError(f"--output: cannot write to {folder}: {error.strerror}") from None


def _failed(message: str, status: ExitStatus) -> int:
    print(for_terminal(message), file=sys.stderr)
    return status
