"""Reads integrity.toml into frozen models: every key, its default, and contradictions.

Knows no database and no pytest; cannot say whether a declared table exists.
"""

from __future__ import annotations

import re
import tomllib
from collections import defaultdict
from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from pydantic import Field, PrivateAttr, ValidationError, field_validator

from checks.errors import SettingsError
from checks.settings.entry_names import entry_names
from checks.settings.faults import Fault, fault_lines, faults_in
from checks.settings.references import body_value
from checks.settings.table_checks import names_in_conflict
from checks.settings.tables import Table, given_place
from checks.settings.values import (
    Amount,
    BaseUrl,
    BytesPerSecond,
    Conflict,
    Cosine,
    Count,
    Dimensions,
    Duration,
    EnvironmentName,
    FilePath,
    Flag,
    HeaderValue,
    PlainText,
    RecallShare,
    Section,
    SqlExpression,
    Text,
    entries,
    readable_table_name,
    value_of,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from checks.settings.names import TableName

_LONGEST_STATEMENT = timedelta(milliseconds=2**31 - 1)
"""PostgreSQL keeps `statement_timeout` in milliseconds, in a 32-bit integer."""


class Database(Section):
    """Which environment variables hold the connections; the URLs themselves are secrets."""

    url_env: EnvironmentName = "DATABASE_URL"
    write_url_env: EnvironmentName = "REMEDIATION_DATABASE_URL"
    statement_timeout: Duration = timedelta(minutes=5)
    # Each takes a connection, and reads as fast as the server lets it.
    scan_concurrency: Annotated[Count, Field(le=32)] = 2

    @field_validator("statement_timeout")
    @classmethod
    def _timeout_fits(cls, timeout: timedelta) -> timedelta:
        if timeout > _LONGEST_STATEMENT:
            raise ValueError(
                f"expected at most {_LONGEST_STATEMENT.days} days, PostgreSQL's own limit, "
                f"found {timeout.days}; shorten it"
            )
        return timeout


class Provider(Section):
    """The OpenAI-compatible endpoint and what one request to it may hold."""

    base_url: BaseUrl = "https://api.openai.com/v1"
    model: PlainText = "text-embedding-3-small"
    dimensions: Dimensions = 1536
    send_dimensions: Flag = False
    # 2,048 inputs are the most that OpenAI's embeddings endpoint takes in a request.
    batch_size: Annotated[Count, Field(le=2048)] = 50
    max_tokens_per_input: Count = 8191
    max_tokens_per_request: Count = 300_000
    concurrency: Annotated[Count, Field(le=256)] = 8
    price_per_million_tokens: Amount = 0.02
    too_long: Literal["quarantine", "truncate"] = "quarantine"
    answered_models: tuple[str, ...] = ()
    """Names under which the endpoint may answer for `model`, such as the one behind an alias;
    "": without a name."""
    extra_body: Mapping[Text, Any] = Field(default_factory=dict)
    extra_headers: Mapping[Text, HeaderValue] = Field(default_factory=dict)
    """`${NAME}` in a value is filled in from the environment; `$$` is a dollar."""

    @field_validator("extra_body")
    @classmethod
    def _body_is_not_ours(cls, body: Mapping[str, Any]) -> Mapping[str, Any]:
        body_value(body)
        return _free_of(body, {"input", "model", "encoding_format", "dimensions", "stream"})

    @field_validator("extra_headers")
    @classmethod
    def _headers_say_not_who_asks(cls, headers: Mapping[str, str]) -> Mapping[str, str]:
        ours = {"authorization", "api-key", "openai-organization", "openai-project", "host"}
        return _free_of(headers, ours | {"content-type", "content-length", "cookie"})


Named = TypeVar("Named")


def _free_of(given: Mapping[str, Named], ours: Collection[str]) -> Mapping[str, Named]:
    """The mapping, if it names nothing that each request sets itself. Raises ValueError."""
    taken = sorted(name for name in given if name.lower() in ours)
    if taken:
        raise ValueError(f"expected nothing that each request sets itself, found {taken[0]}")
    return given


class Keys(Section):
    """How a tenant's API key is found, first match wins; holds no key."""

    env: str = "OPENAI_API_KEY__{tenant}"
    sql: SqlExpression | None = None
    command: tuple[str, ...] | None = None
    fallback_env: EnvironmentName | None = None

    @field_validator("env")
    @classmethod
    def _env_names_the_tenant(cls, env: str) -> str:
        if "{tenant}" not in env:
            raise ValueError(
                "expected {tenant} in the variable's name; "
                "one key for all tenants is declared with fallback_env"
            )
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", env.replace("{tenant}", "_")):
            raise ValueError(
                "expected letters, digits and _ around {tenant}, found something else; "
                'write it as "OPENAI_API_KEY__{tenant}"'
            )
        return env

    @field_validator("sql")
    @classmethod
    def _sql_asks_for_one_tenant(cls, sql: str | None) -> str | None:
        if sql is None:
            return None
        if "%(tenant)s" not in sql:
            raise ValueError(
                "expected %(tenant)s where the tenant's name goes; without it every "
                "tenant would get the same key"
            )
        if "%" in sql.replace("%%", "").replace("%(tenant)s", ""):
            raise ValueError(
                "expected no other placeholder than %(tenant)s; "
                "write a percent sign of the SQL itself as %%"
            )
        return sql

    @field_validator("command")
    @classmethod
    def _command_names_the_tenant(cls, command: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if command is None:
            return None
        if not command or not command[0].strip() or "{tenant}" in command[0]:
            raise ValueError(
                'expected a program and its arguments such as ["get-key", "{tenant}"]; '
                "the program's own name is fixed"
            )
        if not any("{tenant}" in argument for argument in command[1:]):
            raise ValueError(
                "expected {tenant} in an argument after the program; "
                "without it every tenant would get the same key"
            )
        return command


class RepairLimits(Section):
    """The caps and the pace of a repair; None: not limited."""

    max_rows: Count = 100_000
    max_cost: Amount = 25.0
    probe: Annotated[int, Field(strict=True, ge=0)] = 3
    # Distances of one separator in a long text begin at 2e-6; rounding a vector to halfvec: 1e-7.
    probe_min_cosine: Cosine = 0.999999
    write_concurrency: Annotated[Count, Field(le=64)] = 2
    requests_per_minute: Count | None = None
    tokens_per_minute: Count | None = None
    pause_file: FilePath | None = None
    max_replication_lag: Duration | None = None
    max_wal_rate: BytesPerSecond | None = None


class Canary(Section):
    """The sampled checks that call the provider or the index."""

    sample: Count = 5
    min_cosine: Cosine = 0.999
    min_recall: RecallShare = 0.9


class Settings(Section):
    """The whole file."""

    database: Database = Database()
    provider: Provider = Provider()
    keys: Keys = Keys()
    repair: RepairLimits = RepairLimits()
    canary: Canary = Canary()
    tables: tuple[Table, ...] = ()
    # Not a field: fields are the keys of the file, and this is none.
    _path: Path = PrivateAttr(default=Path("integrity.toml"))

    @property
    def path(self) -> Path:
        """The file these settings were read from."""
        return self._path

    @property
    def named_tables(self) -> tuple[tuple[str, Table], ...]:
        """The entries, each with what it is called, which no two share."""
        return tuple(zip(entry_names(self.tables), self.tables, strict=True))

    def model_for(self, table: Table) -> str:
        """The embedding model of a table: its own, else the provider's."""
        return table.model or self.provider.model

    def dimensions_for(self, table: Table) -> int:
        """The dimensions of a table's model: its own, else the provider's."""
        return table.dimensions or self.provider.dimensions

    @classmethod
    def conflicts(cls, given: Mapping[str, Any]) -> Iterator[Conflict]:
        """No table at all, or one declared twice."""
        tables = given.get("tables", ())
        if isinstance(tables, (list, tuple)) and not tables:
            yield (
                ("tables",),
                "expected at least one [[tables]] entry, found none; "
                "integrity.example.toml shows one",
            )
        seen: dict[tuple[TableName, object], dict[str | None, int]] = defaultdict(dict)
        for position, entry in enumerate(entries(tables)):
            name = readable_table_name(value_of(entry, "name"))
            if name is None:
                continue
            others = seen[name, given_place(entry)]
            given_where = value_of(entry, "where")
            where = given_where.strip() if isinstance(given_where, str) else None
            first = others.get(None, others.get(where))
            others.setdefault(where, position)
            if first is not None:
                yield (
                    ("tables", position, "name"),
                    f"[[tables]] #{position + 1} names the same table and the same embeddings as"
                    f" #{first + 1}; keep one of them, or say in `embedding` which column each"
                    " one checks, or in `where` which rows (without it, all that are left, last)",
                )


def parse_override(section: Literal["provider", "repair"], key: str, text: str) -> Any:
    """A number for one key of a section from a command line, held to the bounds of the file.

    Raises ValueError in words.
    """
    models: dict[str, type[Section]] = {"provider": Provider, "repair": RepairLimits}
    model = models[section]
    value: object = text
    if text.isascii() and text.isdecimal():
        value = int(text)
    else:
        with suppress(ValueError):
            value = float(text)
    faults: list[Fault] = []
    try:
        return getattr(model.model_validate({key: value}), key)
    except ValidationError as error:
        faults = faults_in(error, root=model)
    raise ValueError("; ".join(fault.words for fault in faults))


def overridden(
    settings: Settings, section: Literal["provider", "repair"], key: str, value: object
) -> Settings:
    """The settings with one value of `parse_override` in the place of what the file says."""
    changed = getattr(settings, section).model_copy(update={key: value})
    return settings.model_copy(update={section: changed})


def load_settings(path: Path, *, row_checks: Collection[str]) -> Settings:
    """The settings in a TOML file, complete with defaults.

    `row_checks` names the row checks that are built in. Raises SettingsError with every fault of
    the file at once; no message shows a value that may be a secret.
    """
    settings = settings_in(_read(path), row_checks=row_checks, named=path.name)
    settings._path = path
    return settings


def settings_in(content: dict[str, Any], *, row_checks: Collection[str], named: str) -> Settings:
    """The settings in what a file would hold, as TOML reads it. Raises as `load_settings` does.

    `named` is what its faults are said of.
    """
    faults: list[Fault] = [
        Fault(location=location, words=words)
        for location, words in names_in_conflict(entries(content.get("tables")), row_checks)
    ]
    settings = None
    try:
        settings = Settings.model_validate(content)
    except ValidationError as error:
        faults = [*faults_in(error, root=Settings), *faults]
    if faults or settings is None:
        # Raised out here so that no traceback carries pydantic's error, which holds all values.
        raise SettingsError(fault_lines(faults, content=content, file_name=named))
    return settings


def _read(path: Path) -> dict[str, Any]:
    try:
        # utf-8-sig: some editors open the file with a byte order mark.
        return tomllib.loads(path.read_bytes().decode("utf-8-sig"), parse_float=Decimal)
    except FileNotFoundError:
        fault = (
            f"no such file in {path.absolute().parent}; "
            "run `embedding-integrity discover > integrity.toml` and read what it guessed"
        )
    except OSError as error:
        fault = f"cannot be read ({error.strerror or type(error).__name__}); expected a TOML file"
    except UnicodeDecodeError as error:
        fault = (
            f"expected UTF-8, found byte 0x{error.object[error.start]:02x} at offset "
            f"{error.start}; save the file as UTF-8"
        )
    except tomllib.TOMLDecodeError as error:
        fault = f"not valid TOML: {error}; correct the file there"
    except ValueError:
        # What Python's own conversion refuses, such as a number of thousands of digits.
        fault = "not valid TOML: a number is too long to be read; shorten it"
    raise SettingsError((f"{path.name}: {fault}",))
