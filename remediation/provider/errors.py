"""Classifies why the provider gave no vectors by what to do next, in words of our own.

Must not let through a word of the provider's, which may be a text or a key, nor a traceback.
"""

# ruff: noqa: N818 - the names say what happened, which is what a caller branches on

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from checks.errors import IntegrityError
from remediation.provider.request_size import TooMuch, too_much
from remediation.provider.usage import NOTHING


@dataclass(frozen=True, kw_only=True, slots=True)
class Tries:
    """The tries of one request that came to nothing so far."""

    failed: int = 0
    untrustworthy: int = 0
    """How many of them ended in an answer that cannot be trusted."""
    slow: int = 0
    """How many of them had no whole answer in their time."""

    def and_one(self, error: ProviderError) -> Tries:
        """These tries and one more."""
        return Tries(
            failed=self.failed + 1,
            untrustworthy=self.untrustworthy + isinstance(error, UntrustworthyResponse),
            slow=self.slow + isinstance(error, Slow),
        )


DEAD_KEY_CODES = frozenset(
    {
        "insufficient_quota",
        "billing_not_active",
        "billing_hard_limit_reached",
        "account_deactivated",
        "invalid_api_key",
    }
)
"""Codes that waiting does not cure, whatever their HTTP status (429 and 400 among them); OpenAI's
"Error codes" guide and the errors users report."""
MISSING_MODEL_CODES = frozenset({"model_not_found", "DeploymentNotFound"})
"""OpenAI answers 403 or 404 with the first, Azure OpenAI 404 with the second."""
KNOWN_CODES = (
    DEAD_KEY_CODES
    | MISSING_MODEL_CODES
    | {
        "authentication_error",
        "bad_request",
        "BadRequestError",
        "content_filter",
        "context_length_exceeded",
        "engine_overloaded",
        "forbidden",
        "internal_error",
        "internal_server_error",
        "InternalServerError",
        "invalid_input",
        "invalid_request",
        "invalid_request_error",
        "invalid_type",
        "invalid_value",
        "max_tokens_per_request",
        "missing_required_parameter",
        "not_found",
        "NotFoundError",
        "OperationNotSupported",
        "overloaded",
        "overloaded_error",
        "permission_denied",
        "permission_error",
        "rate_limit_error",
        "rate_limit_exceeded",
        "requests",
        "server_error",
        "service_unavailable",
        "ServiceUnavailable",
        "string_above_max_length",
        "string_too_long",
        "timeout",
        "tokens",
        "TooManyRequests",
        "too_many_requests",
        "unsupported_parameter",
        "unsupported_value",
    }
)
"""What a reason repeats of a refusal: codes and types of OpenAI's, Azure's and vLLM's errors, and
of gateways before them."""
KNOWN_PARAMETERS = frozenset(
    {
        "embedding_types",
        "encoding_format",
        "input_type",
        "late_chunking",
        "output_dimension",
        "output_dtype",
        "prompt_name",
        "task",
        "task_type",
        "text_type",
        "truncate",
    }
)
"""What a reason repeats of a refusal's words: parameters that providers ask for, such as NVIDIA's,
Cohere's, Voyage's, Jina's and DashScope's."""
SETTING_PARAMETERS = frozenset({"model", "dimensions", "encoding_format"})
"""A 400 about one of these (`error.param`) is about the settings, not about a text."""


class ProviderError(IntegrityError):
    """No vectors. `reason` is short and safe to show; `usage` is what was spent on it."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.usage = NOTHING
        self.perhaps_a_text = False
        """Whether one of the texts may be why."""
        self.too_much: TooMuch | None = None
        """What it says of the size of a request that is too large."""


class KeyRefused(ProviderError):
    """The key is refused or out of quota: stops its tenant, never retried."""


class InputRejected(ProviderError):
    """The provider refuses the input: to be bisected; a text that stands alone is quarantined."""


class TextFails(InputRejected):
    """The provider fails at this text, at this time, while others are answered."""


class ModelUnavailable(ProviderError):
    """The endpoint, the model or a request parameter is wrong: settings; never retried."""


class ProviderUnavailable(ProviderError):
    """No answer after all tries: outage, rate limit, time-out, lost connection."""


class Slow(ProviderUnavailable):
    """No whole answer in the time that one may take: each further try would take as long."""


class Busy(ProviderUnavailable):
    """The key's rate limit, which is no text's fault."""


class Unreachable(ProviderUnavailable):
    """No connection to the endpoint: nobody is there, or nobody of that name."""


class UntrustworthyResponse(ProviderError):
    """An answer came that is not what was asked for; nothing of it is used."""


class SameVector(UntrustworthyResponse):
    """Different texts have the same vector: none of them would be right if it stood alone."""


class NotYet(ProviderError):
    """Ask again in `seconds`, with the `tries` that have failed; nothing is wrong yet."""

    def __init__(self, reason: str, tries: Tries, seconds: float = 0.0) -> None:
        super().__init__(reason)
        self.tries = tries
        self.seconds = seconds


class Stopped(ProviderError):
    """The run is stopping."""


def refusal(status: int, body: bytes, *, texts: int, settings: str) -> tuple[ProviderError, bool]:
    """The error for an HTTP status that is not success, and whether another try may help.

    Nothing of the body is repeated but codes that are known: whatever else it says may be a text or
    a key in a disguise. The request held so many `texts`; `settings` names those to check where the
    endpoint does not know what it is asked for.
    """
    code, kind, parameter = _error_fields(body)
    error, worth_another_try = _sorted(status, {code, kind}, parameter)
    size = _about_size(error, status, body, texts)
    if size is not None:
        error, worth_another_try = InputRejected, False
    words = f"provider answered {status}"
    known = [label for label in (code, kind) if label in KNOWN_CODES]
    if known:
        words += f" ({', '.join(dict.fromkeys(known))})"
    if named := sorted(KNOWN_PARAMETERS & _words(body)):
        words += f", which names {' and '.join(named)}"
    if error is ModelUnavailable:
        words += f", check {settings}"
    refused = error(words)
    refused.too_much = size
    # A firewall before the endpoint says it of a text that looks like an attack to it.
    refused.perhaps_a_text = status == 403 and not DEAD_KEY_CODES & {code, kind}
    return refused, worth_another_try


def _about_size(error: type[ProviderError], status: int, body: bytes, texts: int) -> TooMuch | None:
    """What a refusal says of a request's size, where smaller ones may be taken.

    Of the statuses that also say that a limit by the minute was reached, only what names more
    tokens than a minute allows, which no waiting cures.
    """
    if error in (KeyRefused, ModelUnavailable):
        return None
    if status == 429 and b"too large" not in body.lower():
        return None
    if texts == 1 and status != 429:
        return None
    return too_much(body, texts=texts) or (TooMuch(unit="texts") if status == 413 else None)


def _sorted(
    status: int, labels: set[str | None], parameter: str | None
) -> tuple[type[ProviderError], bool]:
    if DEAD_KEY_CODES & labels:
        return KeyRefused, False
    if MISSING_MODEL_CODES & labels:
        return ModelUnavailable, False
    if status in (401, 402, 403):
        return KeyRefused, False
    if status == 429:
        return Busy, True
    if status in (408, 409) or status >= 500:
        return ProviderUnavailable, True
    if status in (400, 413, 422, 451) and parameter not in SETTING_PARAMETERS:
        return InputRejected, False
    # All others (404, a redirect, …) would be the same for every text of every tenant.
    return ModelUnavailable, False


def unsendable(text: str) -> InputRejected | None:
    """Why a text is never sent: it is empty, or UTF-8 cannot encode it."""
    if not text:
        return InputRejected("the text is empty, and an empty text has no embedding")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return InputRejected(
            "the text is no UTF-8: it holds bytes of another encoding, or half a surrogate pair"
        )
    return None


def _error_fields(body: bytes) -> tuple[str | None, str | None, str | None]:
    """`code`, `type` and `param` of the error shapes in use (OpenAI, vLLM, FastAPI)."""
    try:
        parsed: Any = json.loads(body)
    except (ValueError, RecursionError):
        return None, None, None
    if isinstance(parsed, Mapping) and isinstance(parsed.get("error"), Mapping):
        parsed = parsed["error"]
    if not isinstance(parsed, Mapping):
        return None, None, None
    code, kind, parameter = (parsed.get(name) for name in ("code", "type", "param"))
    return _text(code), _text(kind), _text(parameter)


def _words(body: bytes) -> set[str]:
    return set(re.findall(r"[a-z_]{4,32}", body[:2_000].decode(errors="replace")))


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
