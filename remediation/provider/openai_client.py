"""Makes the one client of an endpoint, which holds no key, and a request's headers, which do.

Bounds how much of a refusal is read, and keeps the sockets that a stop must cut. Sends nothing.
"""

from __future__ import annotations

import logging
import time
from functools import cache
from http.cookiejar import CookieJar, DefaultCookiePolicy
from importlib import import_module
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import parse_qsl, urlsplit, urlunsplit

import openai

from checks.database.open_sockets import open_sockets
from checks.settings.values import api_version_of

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator, Mapping

    import httpx2 as httpx
    from pydantic import SecretStr

    from remediation.provider.endpoint import Endpoint
else:
    # What openai itself speaks HTTP with: httpx2 from its version 3 on, httpx before.
    httpx = import_module(openai.DefaultHttpxClient.__bases__[0].__module__.partition(".")[0])

CONNECT_SECONDS = 4.0
"""For reaching the endpoint and for TLS: less than a signal leaves a run to end in order."""

REFUSAL_BYTES = 65_536
"""Read of the body of a refusal; providers' are under a thousand."""

NO_KEY = "no-key"
"""In place of one in the shared client, which the library lets nobody make without."""

WHOSE = ("authorization", "api-key", "openai-organization", "openai-project")
"""The headers that say who asks, and pays."""

# Below WARNING the client and its transport log headers and bodies: keys and texts.
for _name in ("openai", "httpx", "httpcore", "httpx2", "httpcore2"):
    logging.getLogger(_name).setLevel(logging.WARNING)


def client_of(endpoint: Endpoint, *, timeout: float) -> openai.OpenAI:
    """A client without retries of its own, whose connections all keys of an endpoint share.

    It holds no key; requests are made with `headers_with` one. `timeout` is in seconds, for a
    silence; connecting has `CONNECT_SECONDS` of them at most.
    An `api-version` in the base URL's query makes it an Azure endpoint: the key goes into the
    header `api-key`, and the deployment into the path, named like the model unless the URL names
    one. Azure's newer `.../openai/v1` speaks as OpenAI does, with or without a version.
    """
    transport = openai.DefaultHttpxClient(
        # A redirect would carry the texts to a host that the settings do not name.
        follow_redirects=False,
        # A cookie that one tenant's answer sets would go out with another tenant's request.
        cookies=CookieJar(policy=DefaultCookiePolicy(allowed_domains=())),
        verify=_tls(),
        event_hooks={
            "request": [_keep_wire],
            "response": [lambda response: _bound_refusal(response, timeout)],
        },
    )
    patience = httpx.Timeout(timeout, connect=min(timeout, CONNECT_SECONDS))
    parts = urlsplit(endpoint.base_url)
    version = api_version_of(endpoint.base_url)
    path = parts.path.rstrip("/")
    if version is None or path.endswith("/openai/v1"):
        return openai.OpenAI(
            api_key=NO_KEY,
            base_url=urlunsplit(parts._replace(query="")),
            timeout=patience,
            max_retries=0,
            default_query=dict(parse_qsl(parts.query)),
            http_client=transport,
        )
    if "/openai" not in path:
        path += "/openai"
    return openai.AzureOpenAI(
        api_key=NO_KEY,
        base_url=urlunsplit(parts._replace(path=path, query="")),
        api_version=version,
        timeout=patience,
        max_retries=0,
        http_client=transport,
    )


def headers_with(key: SecretStr, client: openai.OpenAI) -> dict[str, Any]:
    """The headers of one request with this key, whatever the environment holds.

    The request alone holds the key, nothing that another one reads. All headers that say who asks
    are named outright, since those among OPENAI_CUSTOM_HEADERS, which the library adds to each
    request, belong to someone else; before its version 3 it takes one in another case, such as
    `authorization`, for another header.
    """
    secret = key.get_secret_value()
    theirs = {name: openai.omit for name in client.default_headers if name.lower() in WHOSE}
    ours: dict[str, Any] = {"Authorization": f"Bearer {secret}", "api-key": openai.omit}
    if isinstance(client, openai.AzureOpenAI):
        ours = {"Authorization": openai.omit, "api-key": secret}
    nobody = {"OpenAI-Organization": openai.omit, "OpenAI-Project": openai.omit}
    return theirs | ours | nobody


def _keep_wire(request: httpx.Request) -> None:
    """Keep the socket that a request opens, so that a stop can cut it."""

    def opened(event: str, details: Mapping[str, Any]) -> None:
        # Fires for a connection, and for one to a proxy.
        if event.endswith((".connect_tcp.complete", ".start_tls.complete")):
            open_sockets.keep(details["return_value"].get_extra_info("socket"))

    request.extensions["trace"] = opened


def _bound_refusal(response: httpx.Response, seconds: float) -> None:
    """Bound the body of a refusal in time and size, since the client reads it whole."""
    if response.status_code != 200:
        stream = cast("httpx.SyncByteStream", response.stream)
        response.stream = _Bounded(stream, deadline=time.monotonic() + seconds)


class _Bounded(httpx.SyncByteStream):
    """A body that is cut off at `REFUSAL_BYTES`. Raises TimeoutError past the deadline."""

    def __init__(self, stream: httpx.SyncByteStream, *, deadline: float) -> None:
        self._stream = stream
        self._deadline = deadline

    def __iter__(self) -> Iterator[bytes]:
        left = REFUSAL_BYTES
        for chunk in self._stream:
            yield chunk[:left]
            left -= len(chunk)
            if left <= 0:
                return
            if time.monotonic() > self._deadline:
                raise TimeoutError

    def close(self) -> None:
        self._stream.close()


@cache
def _tls() -> ssl.SSLContext:
    """One TLS context for all clients: making one takes 65 ms, and tenants may have their own."""
    return httpx.create_ssl_context()
