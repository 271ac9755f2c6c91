"""Answers as OpenAI's embeddings API does, offline, as an ASGI application.

Knows whose each key is and counts what each tenant asks; never shows or writes a key.
"""

from __future__ import annotations

import asyncio
import base64
import json
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse
from starlette.routing import Route

from demo.embedding import DIMENSIONS, embed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from starlette.requests import Request

MOST_INPUTS = 2048
MOST_TOKENS_PER_INPUT = 8192
MOST_TOKENS_PER_REQUEST = 300_000
"""Limits of OpenAI's embeddings API, from its reference."""


class TenantUsage(BaseModel):
    """What one tenant asked for with its own key. Tokens are estimated at four letters each."""

    model_config = ConfigDict(frozen=True)

    requests: int = 0
    texts: int = 0
    tokens: int = 0


class Stats(BaseModel):
    """What the endpoint was asked since it started.

    `refused` counts requests without a known key; a tenant's `requests` counts all of its requests,
    its `texts` only those that were answered.
    """

    model_config = ConfigDict(frozen=True)

    requests: int = 0
    refused: int = 0
    tenants: dict[str, TenantUsage] = {}


class _ErrorAnswer(Exception):  # noqa: N818 - an answer, not a fault of this program
    """An error answer in OpenAI's form."""

    def __init__(
        self,
        status: HTTPStatus,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.body = {
            "error": {
                "message": message,
                "type": "invalid_request_error",
                "param": param,
                "code": code,
            }
        }


class _Question(BaseModel):
    """The body of POST /v1/embeddings, as far as it is used offline."""

    model_config = ConfigDict(frozen=True, strict=True)

    model: str
    input: str | list[str]
    encoding_format: str = "float"
    dimensions: int | None = None

    def texts(self) -> list[str]:
        return [self.input] if isinstance(self.input, str) else self.input


class _Ledger:
    """Counts by tenant. Only the event loop uses it, so it needs no lock."""

    def __init__(self, record: Path | None) -> None:
        self.record = record
        self.stats = Stats()

    def refused(self) -> None:
        refused = self.stats.refused + 1
        self.stats = self.stats.model_copy(
            update={"requests": self.stats.requests + 1, "refused": refused}
        )

    def came(self, tenant: str, texts: Sequence[str]) -> None:
        self._add(tenant, TenantUsage(requests=1))
        self.stats = self.stats.model_copy(update={"requests": self.stats.requests + 1})
        if self.record is not None:
            with self.record.open("a", encoding="utf-8") as lines:
                lines.write(json.dumps({"tenant": tenant, "texts": list(texts)}) + "\n")

    def answered(self, tenant: str, texts: int, tokens: int) -> None:
        self._add(tenant, TenantUsage(texts=texts, tokens=tokens))

    def _add(self, tenant: str, more: TenantUsage) -> None:
        until_now = self.stats.tenants.get(tenant, TenantUsage())
        total = TenantUsage(
            requests=until_now.requests + more.requests,
            texts=until_now.texts + more.texts,
            tokens=until_now.tokens + more.tokens,
        )
        tenants = {**self.stats.tenants, tenant: total}
        self.stats = self.stats.model_copy(update={"tenants": tenants})


def application(
    keys: Mapping[str, str],
    *,
    latency: float = 0.0,
    vectors_of: str | None = None,
    record: Path | None = None,
) -> Starlette:
    """The ASGI application; the parameters are those of `endpoint`."""
    tenant_of = {key: tenant for tenant, key in keys.items()}
    ledger = _Ledger(record)

    async def embeddings(request: Request) -> JSONResponse:
        try:
            tenant = tenant_of.get(_bearer(request))
            if tenant is None:
                ledger.refused()
                raise _unknown_key(_bearer(request))
            question = _question(await request.body(), ledger, tenant)
            if latency:
                await asyncio.sleep(latency)
            # Off the event loop: other requests come in while these vectors are computed.
            answer = await run_in_threadpool(_answer, question, vectors_of)
        except _ErrorAnswer as refusal:
            return JSONResponse(refusal.body, status_code=refusal.status)
        ledger.answered(tenant, len(question.texts()), answer["usage"]["total_tokens"])
        return JSONResponse(answer)

    async def stats(_request: Request) -> JSONResponse:
        return JSONResponse(ledger.stats.model_dump())

    return Starlette(
        routes=[
            Route("/v1/embeddings", embeddings, methods=["POST"]),
            Route("/stats", stats, methods=["GET"]),
        ]
    )


def _bearer(request: Request) -> str:
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else ""


def _unknown_key(key: str) -> _ErrorAnswer:
    # OpenAI's own message repeats a part of the key; this one never does.
    if not key:
        message = "You didn't provide an API key. Provide it in an Authorization header."
        return _ErrorAnswer(HTTPStatus.UNAUTHORIZED, message)
    return _ErrorAnswer(
        HTTPStatus.UNAUTHORIZED, "Incorrect API key provided.", code="invalid_api_key"
    )


def _question(body: bytes, ledger: _Ledger, tenant: str) -> _Question:
    try:
        question = _Question.model_validate_json(body)
    except ValidationError:
        ledger.came(tenant, ())
        message = "'$.input' is invalid: expected a model, and a text or a list of texts."
        raise _ErrorAnswer(HTTPStatus.BAD_REQUEST, message) from None
    texts = question.texts()
    ledger.came(tenant, texts)
    _require_model(question)
    if not texts or not all(texts):
        message = "'$.input' is invalid: it cannot be empty, nor hold an empty string."
        raise _ErrorAnswer(HTTPStatus.BAD_REQUEST, message, param="input")
    if len(texts) > MOST_INPUTS:
        message = (
            f"Invalid 'input': array too long. Expected an array with maximum length {MOST_INPUTS},"
            f" but got an array with length {len(texts)} instead."
        )
        raise _ErrorAnswer(
            HTTPStatus.BAD_REQUEST, message, code="array_above_max_length", param="input"
        )
    _require_few_tokens([_tokens(text) for text in texts])
    return question


def _require_model(question: _Question) -> None:
    full = DIMENSIONS.get(question.model)
    if full is None:
        raise _ErrorAnswer(
            HTTPStatus.NOT_FOUND,
            f"The model `{question.model}` does not exist or you do not have access to it.",
            code="model_not_found",
        )
    if question.encoding_format not in {"float", "base64"}:
        message = f"Invalid value: '{question.encoding_format}'. Expected 'float' or 'base64'."
        raise _ErrorAnswer(HTTPStatus.BAD_REQUEST, message, param="encoding_format")
    if question.dimensions is None:
        return
    if not question.model.startswith("text-embedding-3"):
        message = "This model does not support specifying dimensions."
        raise _ErrorAnswer(HTTPStatus.BAD_REQUEST, message, param="dimensions")
    if not 1 <= question.dimensions <= full:
        message = f"Invalid value for 'dimensions' = {question.dimensions}. Must be 1 to {full}."
        raise _ErrorAnswer(HTTPStatus.BAD_REQUEST, message, param="dimensions")


def _require_few_tokens(tokens: list[int]) -> None:
    if max(tokens) > MOST_TOKENS_PER_INPUT:
        message = (
            f"This model's maximum context length is {MOST_TOKENS_PER_INPUT} tokens, however you"
            f" requested {max(tokens)} tokens. Please reduce your prompt."
        )
        raise _ErrorAnswer(HTTPStatus.BAD_REQUEST, message)
    if sum(tokens) > MOST_TOKENS_PER_REQUEST:
        message = (
            f"Requested {sum(tokens)} tokens, max {MOST_TOKENS_PER_REQUEST} tokens per request"
        )
        raise _ErrorAnswer(
            HTTPStatus.BAD_REQUEST, message, code="max_tokens_per_request", param="input"
        )


def _tokens(text: str) -> int:
    """About four letters a token, OpenAI's rule of thumb for English."""
    return -(-len(text) // 4)


def _answer(question: _Question, vectors_of: str | None) -> dict[str, Any]:
    texts = question.texts()
    model = vectors_of or question.model
    size = question.dimensions or DIMENSIONS[question.model]
    vectors = [embed(text, model=model, dimensions=size) for text in texts]
    tokens = sum(map(_tokens, texts))
    return {
        "object": "list",
        "data": [
            {
                "object": "embedding",
                "index": index,
                "embedding": base64.b64encode(vector.astype("<f4").tobytes()).decode()
                if question.encoding_format == "base64"
                else vector.tolist(),
            }
            for index, vector in enumerate(vectors)
        ],
        "model": question.model,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }
