"""Classifies why the provider gave no vectors by what to do next, in words that are safe to keep.

Must not let through a key, a request text or a traceback of the HTTP client.
"""

# ruff: noqa: N818 - the names say what happened, which is what a caller branches on

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from checks.errors import IntegrityError
from checks.redaction import redactor
from remediation.provider.request_size import TooMuch, too_much
from remediation.provider.usage import NOTHING


@dataclass(frozen=True, kw_only=True, slots=True)
class Tries:
    """The tries of one request that came to nothing so far."""

    failed: int = 0
    untrustworthy: int = 0
    """How many of them ended in an answer that cannot be trusted."""

    def and_one(self, *, untrustworthy: bool) -> Tries:
        """These tries and one more."""
        return Tries(failed=self.failed + 1, untrustworthy=self.untrustworthy + untrustworthy)


REASON_CHARACTERS = 300
TEXT_PIECE = 20
"""A provider's message that repeats this many characters of an input is not kept."""
SQUEEZED_PIECE = 15
"""The same without white space, of which 20 characters of prose hold four or five."""
SHORT_TEXT = 8
"""Inputs shorter than `TEXT_PIECE` count when repeated whole, down to this many characters."""

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
SETTING_PARAMETERS = frozenset({"model", "dimensions", "encoding_format"})
"""A 400 about one of these (`error.param`) is about the settings, not about a text."""


class ProviderError(IntegrityError):
    """No vectors. `reason` is short and safe to show; `usage` is what was spent on it."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.usage = NOTHING
        self.perhaps_a_text = False
        """Whether one of the texts may be why all tries failed."""
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


class Busy(ProviderUnavailable):
    """The key's rate limit, which is no text's fault."""


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


def refusal(
    status: int, body: bytes, *, texts: Sequence[str], key: str, settings: str
) -> tuple[ProviderError, bool]:
    """The error for an HTTP status that is not success, and whether another try may help.

    `settings` names those to check where the endpoint does not know what it is asked for.
    """
    code, kind, parameter, message = _error_fields(body)
    error, worth_another_try = _sorted(status, {code, kind}, parameter)
    size = _about_size(error, status, body, texts)
    if size is not None:
        error, worth_another_try = InputRejected, False
    words = f"provider answered {status}"
    labels = [label for label in (code, kind) if label and not reveals(label, texts, key)]
    if labels:
        words += f" ({', '.join(dict.fromkeys(labels))})"
    if error is ModelUnavailable:
        words += f", check {settings}"
    # 401: the message quotes the key, masked, with its last characters.
    if message and status != 401 and not reveals(message, texts, key):
        words += f": {message}"
    refused = error(shown(words))
    refused.too_much = size
    return refused, worth_another_try


def _about_size(
    error: type[ProviderError], status: int, body: bytes, texts: Sequence[str]
) -> TooMuch | None:
    """What a refusal says of a request's size, where smaller ones may be taken.

    Of the statuses that also say that a limit by the minute was reached, only what names more
    tokens than a minute allows, which no waiting cures.
    """
    if error in (KeyRefused, ModelUnavailable):
        return None
    if status == 429 and b"too large" not in body.lower():
        return None
    return too_much(body, texts=len(texts)) if len(texts) > 1 or status == 429 else None


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
    if status in (400, 413, 422) and parameter not in SETTING_PARAMETERS:
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


def shown(text: str) -> str:
    """The text as it may be kept: no secret, one line, printable, `REASON_CHARACTERS` at most."""
    cleaned = redactor.clean(text)
    line = " ".join("".join(c if c.isprintable() else " " for c in cleaned).split())
    if len(line) <= REASON_CHARACTERS:
        return line
    return line[: REASON_CHARACTERS - 1] + "…"


def reveals(message: str, texts: Sequence[str], key: str) -> bool:
    """Whether a message repeats a piece of an input, or of the key as providers mask it."""
    if key[:5] in message or key[-4:] in message:
        return True
    if any(key[i : i + 8] in message for i in range(len(key) - 7)):
        return True
    if any(text in message for text in texts if SHORT_TEXT <= len(text) < TEXT_PIECE):
        return True
    # White space is not compared: a provider may have wrapped or trimmed what it quotes.
    squeezed = "".join(message.split())
    pieces = {squeezed[i : i + SQUEEZED_PIECE] for i in range(len(squeezed) - SQUEEZED_PIECE + 1)}
    squeezed_texts = ["".join(text.split()) for text in texts]
    if any(text in squeezed for text in squeezed_texts if SHORT_TEXT <= len(text) < SQUEEZED_PIECE):
        return True
    return any(piece in text for text in squeezed_texts for piece in pieces)


def _error_fields(body: bytes) -> tuple[str | None, str | None, str | None, str | None]:
    """`code`, `type`, `param` and message of the error shapes in use (OpenAI, vLLM, FastAPI)."""
    try:
        parsed: Any = json.loads(body)
    except (ValueError, RecursionError):
        return None, None, None, None
    if isinstance(parsed, Mapping):
        parsed = parsed.get("error") or parsed
    if isinstance(parsed, str):
        parsed = {"message": parsed}
    if not isinstance(parsed, Mapping):
        return None, None, None, None
    message = parsed.get("message") or parsed.get("detail")
    return (
        _label(parsed.get("code")),
        _label(parsed.get("type")),
        _label(parsed.get("param")),
        # Longer messages are cut for their cost here; `shown` cuts what is left to its length.
        message[: 2 * REASON_CHARACTERS] if isinstance(message, str) else None,
    )


def _label(value: object) -> str | None:
    """The value where it looks like an error code; anything else may be a message."""
    return value if isinstance(value, str) and re.fullmatch(r"[\w.\-]{1,64}", value) else None
