"""Parses the kinds of values a settings file holds; declares no key."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, timedelta
from decimal import Decimal
from ipaddress import IPv6Address
from pathlib import Path
from typing import Annotated, Any, Self, TypeAlias, cast
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    PlainSerializer,
    PlainValidator,
    ValidationError,
    model_validator,
)
from pydantic_core import InitErrorDetails

from checks.settings.faults import shown
from checks.settings.names import TableName, parse_identifier
from checks.settings.references import as_it_stands, header_value, names_a_variable

Conflict: TypeAlias = tuple[tuple[str | int, ...], str]
"""Where in a section keys contradict each other, and in which words."""

LONGEST_URL = 2_000
"""Characters; a client refuses one of 65,537 in words of its own."""

_DURATION_FORMS = '"500ms", "2s", "5min", "15 minutes", "1h" or "1 day"'
_DURATION = re.compile(
    r"(?P<count>[0-9]{1,12})\s*(?:(?P<milliseconds>ms)|(?P<seconds>s|sec|seconds?)"
    r"|(?P<minutes>min|minutes?)|(?P<hours>h|hours?)|(?P<days>d|days?))"
)
_UNITS = ("milliseconds", "seconds", "minutes", "hours", "days")
_BYTE_RATE_FORMS = '"64MB/s", "512kB/s" or "1GB/s"'
_BYTE_RATE = re.compile(r"(?P<count>[0-9]{1,12})\s*(?P<unit>B|kB|MB|GB)/s", re.IGNORECASE)
# As in PostgreSQL's own settings, a kB is 1,024 bytes.
_BYTES = {"b": 1, "kb": 1024, "mb": 1024**2, "gb": 1024**3}
_ENVIRONMENT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class Section(BaseModel):
    """A frozen section of the file. Refuses unknown keys; reports all of its faults together."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    @classmethod
    def conflicts(cls, given: Mapping[str, Any]) -> Iterator[Conflict]:  # noqa: ARG003
        """Contradictions between the given keys, whose values are not validated yet."""
        yield from ()

    @model_validator(mode="wrap")
    @classmethod
    def _report_all_faults(cls, given: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        # An "after" validator would stay silent as long as any single value is wrong, and a
        # person would correct the file once per round.
        keys = (
            {key: value for key, value in given.items() if value is not None}
            if isinstance(given, Mapping)
            else None
        )
        faults = [
            InitErrorDetails(
                type="value_error", loc=location, input=None, ctx={"error": ValueError(words)}
            )
            for location, words in (() if keys is None else cls.conflicts(keys))
        ]
        section: Self | None = None
        try:
            section = handler(given)
        except ValidationError as error:
            details = cast("list[InitErrorDetails]", error.errors(include_url=False))
            faults = [*details, *faults]
        if faults:
            raise ValidationError.from_exception_data(cls.__name__, faults, hide_input=True)
        assert section is not None
        return section


def parse_duration(value: object) -> timedelta:
    """A length of time above zero, from text such as "15 minutes". Raises ValueError in words."""
    if isinstance(value, timedelta):
        return value
    written = _DURATION.fullmatch(value.strip()) if isinstance(value, str) else None
    if written is not None:
        unit = next(name for name in _UNITS if written[name])
        try:
            duration = timedelta(**{unit: int(written["count"])})
        except OverflowError:
            duration = timedelta(0)
        if duration:
            return duration
    raise ValueError(f"expected a duration such as {_DURATION_FORMS}, found {shown(value)}")


def parse_byte_rate(value: object) -> int:
    """Bytes per second above zero, from text such as "64MB/s". Raises ValueError in words."""
    written = _BYTE_RATE.fullmatch(value.strip()) if isinstance(value, str) else None
    rate = int(written["count"]) * _BYTES[written["unit"].lower()] if written else 0
    if rate == 0:
        raise ValueError(f"expected a rate such as {_BYTE_RATE_FORMS}, found {shown(value)}")
    return rate


def value_of(section: object, key: str) -> Any:
    """A key of a section that is validated already or not yet; None where it is missing."""
    return section.get(key) if isinstance(section, Mapping) else getattr(section, key, None)


def entries(value: object) -> Sequence[object]:
    """The entries of a list; none where something else stands in its place."""
    return value if isinstance(value, (list, tuple)) else ()


def readable_table_name(value: object) -> TableName | None:
    """The table's name, or None where it is missing or wrong, which is reported elsewhere."""
    try:
        return _table_name(value)
    except ValueError:
        return None


def readable_column(value: object) -> object:
    """The column's name as stored; what is none, as it stands: that is reported elsewhere."""
    try:
        return _column(value)
    except ValueError:
        return value


def _table_name(value: object) -> TableName:
    return (
        value if isinstance(value, TableName) else TableName.parse(_text(value, "a table's name"))
    )


def _column(value: object) -> str:
    return parse_identifier(_text(value, "a column's name"))


def _expression(value: object) -> str:
    text = _text(value, "a column or an SQL expression")
    if not text.strip():
        raise ValueError(
            "expected a column or an SQL expression, found a blank; "
            "leave an optional key out where there is none"
        )
    return text


def _not_blank(value: str) -> str:
    if not value.strip():
        raise ValueError("expected text, found a blank; leave an optional key out")
    return value


def _environment_name(value: str) -> str:
    # The value stays out of the message: it may be the secret itself, pasted by mistake.
    if not _ENVIRONMENT_NAME.fullmatch(value):
        raise ValueError(
            "expected the name of an environment variable (letters, digits and _), found something "
            "else; put the secret into the environment and its variable's name here"
        )
    # It would be shown as the variable's name wherever that is not set.
    if any(_looks_random(part) for part in value.split("_")):
        raise ValueError(
            "expected the name of an environment variable, found what looks like a key itself; put "
            "the key into the environment and its variable's name here"
        )
    return value


def _looks_random(part: str) -> bool:
    """Whether a part of a name is one of a key: no word is so long and mixed."""
    if len(part) < 16 or part.isdigit():
        return False
    mixed = not (part.isupper() or part.islower())
    return len(re.findall(r"\d(?=[A-Za-z])", part)) >= 2 or (len(part) > 30 and mixed)


def plain_base_url(value: str) -> str:
    """The URL of an endpoint, unchanged. Raises ValueError in words that do not show it.

    Of all queries Azure's `api-version` alone is allowed.
    """
    if not all("!" <= character <= "~" for character in value):
        raise ValueError("expected a URL of visible ASCII characters, found others; write it so")
    if len(value) > LONGEST_URL:
        raise ValueError(
            f"expected a URL of at most {LONGEST_URL:,} characters, found a longer one"
        )
    if names_a_variable(value):
        raise ValueError(
            "expected the URL itself, found the name of a variable in it, which is not filled in; "
            "write it out (a dollar as %24), or set OPENAI_BASE_URL in the environment"
        )
    try:
        url = urlsplit(value)
        port_is_readable = url.port is None or url.port > 0
        if "[" in url.netloc:
            IPv6Address(url.hostname or "")
    except ValueError:
        raise ValueError(
            "expected a URL, found one that cannot be read; check its host and port"
        ) from None
    if url.scheme not in ("http", "https") or not url.hostname or not port_is_readable:
        raise ValueError(
            'expected an http or https URL such as "https://api.openai.com/v1", found another form'
        )
    if url.username is not None or url.password is not None:
        raise ValueError(
            "expected a URL without credentials, found some before the @; give keys through [keys]"
        )
    if url.fragment or (url.query and api_version_of(value) is None):
        raise ValueError(
            "expected a URL without # and without a ? but Azure's ?api-version=..., found one;"
            " end it at the path"
        )
    return value


def api_version_of(base_url: str) -> str | None:
    """The `api-version` that is the whole query of an Azure endpoint's URL, else None."""
    stated = re.fullmatch(r"api-version=([\w.-]+)", urlsplit(base_url).query)
    return stated[1] if stated else None


def _file_path(value: object) -> Path:
    if isinstance(value, Path):
        return value
    path = as_it_stands(_not_blank(_text(value, "a file's path")))
    if path.startswith("~"):
        raise ValueError(
            "expected a file's path without ~, which only shells fill in; write it out"
        )
    return Path(path)


def _share(value: object) -> object:
    """An exact Decimal: the file's reader keeps decimals as written, code may pass a float."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return Decimal(str(value))
    return value


def _text(value: object, what: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"expected {what} in double quotes, found {shown(value)}")
    return value


MOST_DIMENSIONS = 16_000
"""The most that pgvector's `vector` type holds, by its documentation."""


def _padding(given: object) -> bool | int:
    if isinstance(given, bool) or (isinstance(given, int) and 1 <= given <= MOST_DIMENSIONS):
        return given
    raise ValueError(
        "expected true, or the dimensions of what is stored, up to 16000, where the column's type"
        f" does not say them, found {shown(given)}"
    )


TableReference = Annotated[TableName, PlainValidator(_table_name), PlainSerializer(str)]
"""`table` or `schema.table`, written as in SQL."""
ColumnName = Annotated[str, PlainValidator(_column)]
"""A column written as in SQL; holds the name as PostgreSQL stores it."""
SqlExpression = Annotated[str, PlainValidator(_expression)]
"""A column or SQL expression, kept as written."""
Text = Annotated[str, AfterValidator(_not_blank)]
PlainText = Annotated[Text, AfterValidator(as_it_stands)]
"""Text in which no variable is filled in, nor meant to be."""
HeaderValue = Annotated[Text, AfterValidator(header_value)]
"""Text in which `${NAME}` is filled in from the environment."""
EnvironmentName = Annotated[str, AfterValidator(_environment_name)]
BaseUrl = Annotated[str, AfterValidator(plain_base_url)]
FilePath = Annotated[Path, PlainValidator(_file_path)]
Duration = Annotated[timedelta, PlainValidator(parse_duration)]
BytesPerSecond = Annotated[int, PlainValidator(parse_byte_rate)]
Day = Annotated[date, Field(strict=True)]
Flag = Annotated[bool, Field(strict=True)]
Count = Annotated[int, Field(strict=True, ge=1)]
Amount = Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)]
"""Dollars."""
Cosine = Annotated[float, Field(strict=True, ge=-1, le=1, allow_inf_nan=False)]
RecallShare = Annotated[float, Field(strict=True, ge=0, le=1, allow_inf_nan=False)]
Share = Annotated[Decimal, BeforeValidator(_share), Field(strict=True, ge=0, le=1)]
"""From 0 to 1, exactly as written in the file."""
Dimensions = Annotated[int, Field(strict=True, ge=1, le=MOST_DIMENSIONS)]
Padding = Annotated[bool | int, PlainValidator(_padding)]
