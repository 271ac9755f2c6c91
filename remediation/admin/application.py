"""Answers requests: asks for the secret, reads parameters, begins runs, tells of them.

Holds no logic of a repair; `runs` has the runs.
"""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from checks.redaction import redactor
from remediation.admin.openapi import document
from remediation.admin.parameters import WrongParametersError, read_query
from remediation.admin.runs import BusyError, Runs
from remediation.admin.secret import AdminSecret, WrongSecrets, guesses

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from starlette.requests import Request
    from starlette.types import ASGIApp, Receive, Scope, Send

    from checks.settings.integrity_toml import Settings
    from remediation.admin.readiness import ReadinessProbe

RUNS = "/api/v1/admin/runs"
LARGEST_BODY = 64 * 1024
LARGEST_HEADERS = 32 * 1024
"""Bytes of a request's path, query and headers."""
BODY_SECONDS = 10.0
POLL_SECONDS = 0.1
HEARTBEAT_SECONDS = 15.0
"""A comment in a silent stream of events: proxies cut what is silent for a minute."""
HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


@dataclass(kw_only=True)
class Admin:
    """What the endpoint needs. `wait_seconds`: for so long a request waits for its run's end."""

    settings: Settings
    secret: AdminSecret
    runs: Runs
    readiness: ReadinessProbe
    wait_seconds: float = 2.0
    _wrong: WrongSecrets = field(default_factory=WrongSecrets)

    def application(self) -> Starlette:
        def protected(
            path: str, method: str, endpoint: Callable[[Request], Awaitable[Response]]
        ) -> Route:
            async def guarded(request: Request) -> Response:
                refusal = self._refusal(request)
                return await endpoint(request) if refusal is None else refusal

            return Route(path, guarded, methods=[method])

        return Starlette(
            routes=[
                protected("/api/v1/admin/backfill-embeddings", "POST", self._backfill),
                protected(RUNS + "/{run_id}", "GET", self._run),
                protected(RUNS + "/{run_id}/events", "GET", self._events),
                protected(RUNS + "/{run_id}/report", "GET", self._report),
                Route("/healthz", self._alive),
                Route("/readyz", self._ready),
                Route("/openapi.json", self._document),
            ],
            exception_handlers={HTTPException: _refused, Exception: _broken},
            middleware=[Middleware(_SmallHeaders)],
        )

    def _refusal(self, request: Request) -> Response | None:
        """None for the right secret, however many wrong ones came before it."""
        if self.secret.admits(request.scope["headers"]):
            return None
        seconds = None
        if guesses(request.scope["headers"]):
            seconds = self._wrong.retry_after(request.client.host if request.client else "")
        if seconds is None:
            return _error(401, "expected the secret in the header x-admin-secret")
        return _error(429, "too many wrong secrets", headers={"Retry-After": str(seconds)})

    async def _backfill(self, request: Request) -> Response:
        try:
            async with asyncio.timeout(BODY_SECONDS):
                size = await _size_of_body(request)
        except TimeoutError:
            return _error(408, "expected the end of the request, found none")
        if size > LARGEST_BODY:
            return _error(413, f"expected no body, found more than {LARGEST_BODY} bytes")
        try:
            if size:
                raise WrongParametersError({"body": "expected none: parameters go in the query"})
            wanted = read_query(request.query_params.multi_items(), self.settings)
        except WrongParametersError as error:
            return _wrong_parameters(422, error.faults)
        try:
            record = await asyncio.to_thread(self.runs.begin, wanted)
        except BusyError as error:
            if error.run_id is None:
                return _error(503, str(error))
            return _json(409, {"error": str(error), "runId": error.run_id})
        except OSError as error:
            return _error(503, f"the run's record cannot be written: {error.strerror}")
        until = time.monotonic() + self.wait_seconds
        while record.state == "running" and time.monotonic() < until:
            await asyncio.sleep(POLL_SECONDS)
        unknown = self.runs.unknown_name(record.run_id)
        if unknown is not None:
            parameter = "tenantId" if unknown.kind == "tenant" else "table"
            return _wrong_parameters(404, {parameter: f"{unknown.name!r} {unknown.reason}"})
        if record.state == "running":
            location = {"Location": f"{RUNS}/{record.run_id}"}
            return _json(202, _shown(record.answer()), headers=location)
        return _json(200, _shown(record.answer()))

    async def _run(self, request: Request) -> Response:
        answer = await asyncio.to_thread(self.runs.answer, request.path_params["run_id"])
        return _error(404, "no such run") if answer is None else _json(200, _shown(answer))

    async def _report(self, request: Request) -> Response:
        page = await asyncio.to_thread(self.runs.page, request.path_params["run_id"])
        if page is None:
            return _error(404, "no such run, or it has no report")
        return FileResponse(page, media_type="text/html", headers=HEADERS)

    async def _events(self, request: Request) -> Response:
        run_id = request.path_params["run_id"]
        if await asyncio.to_thread(self.runs.answer, run_id) is None:
            return _error(404, "no such run")
        return StreamingResponse(
            self._progress(run_id), media_type="text/event-stream", headers=HEADERS
        )

    async def _progress(self, run_id: str) -> AsyncIterator[str]:
        shown, said_at = "", time.monotonic()
        while True:
            answer = await asyncio.to_thread(self.runs.answer, run_id)
            if answer is None:
                return
            words = json.dumps(_shown(answer))
            if answer["state"] != "running":
                yield f"event: end\ndata: {words}\n\n"
                return
            if words != shown:
                yield f"event: progress\ndata: {words}\n\n"
                shown, said_at = words, time.monotonic()
            elif time.monotonic() - said_at > HEARTBEAT_SECONDS:
                yield ": still running\n\n"
                said_at = time.monotonic()
            await asyncio.sleep(POLL_SECONDS)

    async def _alive(self, _: Request) -> Response:
        return _json(200, {"alive": True})

    async def _ready(self, _: Request) -> Response:
        found = await asyncio.to_thread(self.readiness.look)
        return _json(200 if found.ready else 503, found.answer())

    async def _document(self, request: Request) -> Response:
        admitted = self.secret.admits(request.scope["headers"])
        return _json(200, document(self.settings if admitted else None))


class _SmallHeaders:
    """Refuses a request whose line and headers are large, before anybody looks at them."""

    def __init__(self, application: ASGIApp) -> None:
        self._application = application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        size = len(scope.get("raw_path") or b"") + len(scope.get("query_string", b""))
        size += sum(len(name) + len(value) for name, value in scope.get("headers", ()))
        small = size <= LARGEST_HEADERS
        answer = self._application if small else _error(431, "expected smaller headers")
        await answer(scope, receive, send)


async def _size_of_body(request: Request) -> int:
    """Its bytes; of a large one only that it is larger than `LARGEST_BODY`."""
    size = 0
    async for piece in request.stream():
        size += len(piece)
        if size > LARGEST_BODY:
            break
    return size


def _shown(answer: dict[str, Any]) -> dict[str, Any]:
    """The answer for a run, with where its report is."""
    has_report = answer["hasReport"]
    return {
        **{name: value for name, value in answer.items() if name != "hasReport"},
        "report": f"{RUNS}/{answer['runId']}/report" if has_report else None,
    }


def _json(status: int, content: Any, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse(content, status_code=status, headers={**HEADERS, **(headers or {})})


def _error(status: int, words: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return _json(status, {"error": redactor.clean(words)}, headers)


def _wrong_parameters(status: int, faults: dict[str, str]) -> JSONResponse:
    cleaned = {redactor.clean(name): redactor.clean(words) for name, words in faults.items()}
    return _json(status, {"error": f"wrong: {', '.join(cleaned)}", "parameters": cleaned})


async def _refused(_: Request, error: Exception) -> Response:
    """What Starlette itself refuses: an unknown path, a method that a path has not."""
    assert isinstance(error, HTTPException)
    return _error(error.status_code, error.detail, dict(error.headers or {}))


async def _broken(_: Request, error: Exception) -> Response:
    return _error(500, f"an internal error: {type(error).__name__}")
