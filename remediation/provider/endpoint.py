"""Says where vectors come from: the settings' endpoint, or the one that a tenant's key row names.

Values only. No message shows a key or a URL.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pydantic import SecretStr

from checks.errors import IntegrityError
from checks.redaction import redactor
from checks.settings.references import FILLED_IN
from checks.settings.values import plain_base_url

if TYPE_CHECKING:
    import re
    from collections.abc import Mapping, Sequence

    from checks.settings.integrity_toml import Provider

COLUMNS = ("api_key", "base_url", "model")


class KeyRowError(IntegrityError):
    """A row of `[keys] sql` cannot be used; the message says why, and shows no value."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Endpoint:
    """Where vectors come from, and their shape.

    `model` is what the endpoint calls it, `declared` what the settings call it (None: the same).
    With `stamped` the declared name is written beside each vector, so an answer must name it.
    `dimensions` is what a vector must have; it is passed in the request only with
    `send_dimensions`. Zeros make it up to `stored_dimensions`, where these are more. Raises
    ValueError for a base URL that is not plain http or https.
    """

    base_url: str
    model: str
    dimensions: int
    stored_dimensions: int = 0
    send_dimensions: bool = False
    declared: str | None = None
    stamped: bool = False
    stored_as: str = "vector"
    """The type of the column that holds the vectors."""
    answered_models: tuple[str, ...] = ()
    """Other names of the model that an answer may carry."""
    extra_body: str = field(default="{}", repr=False)
    """What else goes into each request's body, as JSON."""
    extra_headers: tuple[tuple[str, SecretStr], ...] = ()
    """What else goes into its headers, to this base URL alone."""
    own: bool = False
    """Whether a tenant's key row names its base URL."""
    settings: str = "[provider] base_url, model and dimensions"
    """The settings to correct where the endpoint does not accept them."""

    def __post_init__(self) -> None:
        plain_base_url(self.base_url)

    @property
    def declared_model(self) -> str:
        """The model as the settings call it."""
        return self.declared or self.model

    @property
    def host(self) -> str:
        """The base URL's host, without its port."""
        return urlsplit(self.base_url).hostname or ""


def extra_headers_of(
    provider: Provider, environment: Mapping[str, str]
) -> tuple[tuple[str, SecretStr], ...]:
    """The further headers, with `${NAME}` in the place of secrets filled in, and `$$` as `$`.

    Raises ValueError for a variable that is not set.
    """

    def value_of(name: re.Match[str]) -> str:
        if name[0] == "$$":
            return "$"
        value = environment.get(name[1])
        if not value:
            raise ValueError(f"extra_headers: environment variable {name[1]} is not set")
        redactor.add(value)
        return value

    return tuple(
        (name, SecretStr(FILLED_IN.sub(value_of, value)))
        for name, value in provider.extra_headers.items()
    )


def base_url_of(provider: Provider, environment: Mapping[str, str]) -> str:
    """The base URL of tenants without one of their own; OPENAI_BASE_URL overrides the file."""
    return environment.get("OPENAI_BASE_URL") or provider.base_url


@dataclass(frozen=True, kw_only=True, slots=True)
class OwnEndpoint:
    """A tenant's own base URL, and what the model is called there; None: as in the settings."""

    base_url: str | None = None
    model: str | None = None

    @property
    def host(self) -> str | None:
        """Host and port, for people; None where the base URL is the settings'."""
        if self.base_url is None:
            return None
        parts = urlsplit(self.base_url)
        return f"{parts.hostname}:{parts.port}" if parts.port else parts.hostname

    def in_place_of(self, endpoint: Endpoint) -> Endpoint:
        """The tenant's endpoint, for the same vectors and with the same declared model."""
        return replace(
            endpoint,
            base_url=self.base_url or endpoint.base_url,
            model=self.model or endpoint.model,
            # They may hold a secret, which is the settings' endpoint's.
            extra_headers=() if self.base_url else endpoint.extra_headers,
            own=self.base_url is not None,
            settings="base_url and model of [keys] sql",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class KeyRow:
    """A row of `[keys] sql`."""

    api_key: str = field(repr=False)
    own: OwnEndpoint | None = None


def key_row(names: Sequence[str], values: Sequence[object]) -> KeyRow | None:
    """What a row says, or None where it holds no key. Raises KeyRowError."""
    found = _columns(names, values)
    own = _own_endpoint(found)
    return KeyRow(api_key=found["api_key"], own=own) if "api_key" in found else None


def _columns(names: Sequence[str], values: Sequence[object]) -> dict[str, str]:
    """The row's texts by what they are; NULL and empty ones are left out.

    A column called `api_key`, `base_url` or `model` is that; the others are, in this order, what
    no column is called. Raises KeyRowError for more than three, and for what is not text.
    """
    if len(names) > len(COLUMNS):
        raise KeyRowError(f"expected at most {', '.join(COLUMNS)}, found {len(names)} columns")
    free = [name for name in COLUMNS if name not in names]
    meant = [name if name in COLUMNS else free.pop(0) for name in names]
    if len(set(meant)) < len(meant):
        raise KeyRowError("expected each column once, found two of one name")
    found = {}
    for name, value in zip(meant, values, strict=True):
        if value is not None and not isinstance(value, str):
            raise KeyRowError(f"expected text as {name}, found {type(value).__name__}")
        # White space instead of a key is left for the key ring to refuse, which ends the search.
        text = value if name == "api_key" else (value or "").strip()
        if text:
            found[name] = text
    return found


def _own_endpoint(found: Mapping[str, str]) -> OwnEndpoint | None:
    """The endpoint that a row declares, or None. Raises KeyRowError for an unusable base URL."""
    base_url, model = found.get("base_url"), found.get("model")
    if base_url is None and model is None:
        return None
    if "api_key" not in found:
        # A key from another source must not be sent to this endpoint.
        raise KeyRowError("expected an api_key beside base_url and model, found none")
    if base_url is not None:
        try:
            plain_base_url(base_url)
        except ValueError as fault:
            raise KeyRowError(f"base_url: {fault}") from None
    return OwnEndpoint(base_url=base_url, model=model)
