"""Makes the one client of an endpoint, which holds no key, and a request's headers, which do.

Sends nothing; what bounds a request and its answer is in `exchange`.
"""

from __future__ import annotations

import logging
import ssl
from functools import cache, partial
from http.cookiejar import CookieJar, DefaultCookiePolicy
from importlib import import_module
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit, urlunsplit

import openai

from checks.settings.values import api_version_of
from remediation.provider.errors import Unreachable
from remediation.provider.openai_compatible.exchange import ACCEPTED, bound_answer, watch_request

if TYPE_CHECKING:
    import httpx2 as httpx
    from pydantic import SecretStr

    from checks.database.open_sockets import OpenSockets
    from remediation.provider.endpoint import Endpoint
else:
    # What openai itself speaks HTTP with: httpx2 from its version 3 on, httpx before.
    httpx = import_module(openai.DefaultHttpxClient.__bases__[0].__module__.partition(".")[0])

CONNECT_SECONDS = 4.0
"""For reaching the endpoint and for TLS: less than a signal leaves a run to end in order."""

NO_KEY = "no-key"
"""In place of one in the shared client, which the library lets nobody make without."""

WHOSE = ("authorization", "api-key", "openai-organization", "openai-project")
"""The headers that say who asks, and pays."""

# Below WARNING the client and its transport log headers and bodies: keys and texts.
for _name in ("openai", "httpx", "httpcore", "httpx2", "httpcore2"):
    logging.getLogger(_name).setLevel(logging.WARNING)


def client_of(endpoint: Endpoint, *, timeout: float, links: OpenSockets) -> openai.OpenAI:
    """A client without retries of its own, whose connections all keys of an endpoint share.

    It holds no key; requests are made with `headers_with` one, each in an `Exchange`. `timeout` is
    in seconds, for a silence; connecting has `CONNECT_SECONDS` of them at most. `links` keeps its
    sockets.
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
        headers={"Accept-Encoding": ACCEPTED},
        event_hooks={"request": [partial(watch_request, links)], "response": [bound_answer]},
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


def unreachable(error: BaseException, base_url: str) -> Unreachable | None:
    """The error of a connection that was never made, in words; None for any other."""
    if not isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout)):
        return None
    parts = urlsplit(base_url)
    place = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    said = str(error)
    if "refused" in said:
        words = f"connection refused by {place}"
    elif "not known" in said or "getaddrinfo" in said or "resolution" in said:
        words = f"no host has the name in {place}"
    elif "not resolved" in said:
        words = f"the name in {place} was not resolved in time"
    elif "CERTIFICATE_VERIFY_FAILED" in said:
        words = (
            f"the certificate of {place} is not one that this machine trusts"
            f" ({_verdict_on(error)}; SSL_CERT_FILE names further authorities)"
        )
    elif "SSL" in said or "CERTIFICATE" in said:
        words = f"no TLS with {place}"
    else:
        words = f"no connection to {place} ({type(error).__name__})"
    return Unreachable(words)


def _verdict_on(error: BaseException | None) -> str:
    """What OpenSSL has against a certificate, in its own fixed words."""
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return str(error.verify_message).partition(",")[0]
        error = error.__cause__ or error.__context__
    return "it cannot be verified"


@cache
def _tls() -> ssl.SSLContext:
    """One TLS context for all clients: making one takes 65 ms, and tenants may have their own."""
    return httpx.create_ssl_context()
