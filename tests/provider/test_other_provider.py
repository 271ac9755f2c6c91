"""Another provider's shape, plugged in through the protocol: no other code knows of it."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from pydantic import SecretStr

from checks.database.open_sockets import open_sockets
from remediation.journal.outcomes import Outcome
from remediation.provider.bisection import embed_isolating
from remediation.provider.embedder import Embedder
from remediation.provider.endpoint import Endpoint
from remediation.provider.errors import (
    InputRejected,
    KeyRefused,
    ProviderUnavailable,
    Stopped,
    UntrustworthyResponse,
    refusal,
)
from remediation.provider.protocol import Answer, Told, TryFailed
from remediation.provider.retry import retry_after
from remediation.provider.usage import Usage
from tests.drivers.repairs import docs, environment, key_of, opened, settings
from tests.servers.embedders import SOON
from tests.servers.provider_server import vector_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

KEY = key_of("acme")
TIMEOUT = 30.0


# The provider's module: it alone knows paths, headers and JSON of this vendor.


class Elsewhere:
    """`POST /v2/embed` with `texts` in, `embeddings.float` and `meta.billed_units` out."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint

    def plainer(self) -> bool:
        """There is one form."""
        return False

    def close(self) -> None:
        """Nothing to close: a connection is opened for each request."""

    def ask(self, texts: Sequence[str], key: SecretStr) -> Answer:
        """One request with this key. Raises TryFailed."""
        came = self._asked(texts, key.get_secret_value())
        if isinstance(came, TryFailed):
            raise came
        return came

    def _asked(self, texts: Sequence[str], key: str) -> Answer | TryFailed:
        place = urlsplit(self.endpoint.base_url)
        link = http.client.HTTPConnection(place.hostname or "", place.port, timeout=TIMEOUT)
        asked = json.dumps({"model": self.endpoint.model, "texts": list(texts)})
        try:
            link.connect()
            open_sockets.keep(link.sock)
            link.request("POST", "/v2/embed", asked, {"X-Token": key})
            response = link.getresponse()
            status, body = response.status, response.read()
            headers = {name.lower(): value for name, value in response.getheaders()}
        except (OSError, http.client.HTTPException):
            return TryFailed(ProviderUnavailable("no connection"), again=True)
        finally:
            link.close()
        if status != 200:
            error, again = refusal(status, body, texts=len(texts), settings="[provider]")
            return TryFailed(
                error, again=again, wait=retry_after(headers), told=Told(headers=headers)
            )
        answered = json.loads(body)
        told = Told(
            tokens=answered.get("meta", {}).get("billed_units", {}).get("input_tokens"),
            headers=headers,
        )
        return Answer(vectors=np.array(answered["embeddings"]["float"], np.float32), told=told)


# The vendor


@dataclass(kw_only=True)
class Vendor:
    """Answers at `base_url`; each fault is (status, headers, change of the healthy answer)."""

    base_url: str = ""
    received: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)
    """Key and texts of each request."""
    poison: str = "\0"
    keys: set[str] = field(default_factory=lambda: {KEY})
    faults: list[tuple[int, dict[str, str], dict[str, Any]]] = field(default_factory=list)
    hold: threading.Event | None = None
    """No answer before it is set."""


@pytest.fixture
def vendor() -> Iterator[Vendor]:
    running = Vendor()

    class Conversation(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
            key, texts = self.headers["x-token"], tuple(asked["texts"])
            running.received.append((key, texts))
            if running.hold is not None:
                running.hold.wait(TIMEOUT)
            status, headers, change = running.faults.pop(0) if running.faults else (200, {}, {})
            if key not in running.keys:
                status = 401
            elif any(running.poison in text for text in texts):
                status = 422
            answer: dict[str, Any] = {"message": "not this"}
            if status == 200:
                answer = {
                    "embeddings": {"float": [vector_of(text).tolist() for text in texts]},
                    "meta": {"billed_units": {"input_tokens": 10 * len(texts)}},
                } | change
            body = json.dumps(answer).encode()
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Conversation)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    running.base_url = f"http://127.0.0.1:{server.server_address[1]}/v2"
    serving = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    serving.start()
    yield running
    server.shutdown()
    server.server_close()
    serving.join()


def embedder(vendor: Vendor, *, key: str = KEY, stop: threading.Event | None = None) -> Embedder:
    endpoint = Endpoint(base_url=vendor.base_url, model="embed-v4", dimensions=8)
    return Embedder(Elsewhere(endpoint), SecretStr(key), stop=stop or threading.Event(), retry=SOON)


def test_texts_are_embedded_after_tries_that_failed_and_what_they_took_is_known(
    vendor: Vendor,
) -> None:
    vendor.faults += [(503, {}, {}), (429, {"Retry-After": "0"}, {}), (200, {}, {"meta": {}})]
    first = embedder(vendor)
    embedded = first.embed(["one text", "another text"])
    np.testing.assert_array_equal(
        embedded.vectors, [vector_of("one text"), vector_of("another text")]
    )
    assert embedded.usage == Usage(requests=3, unanswered=2, unsaid=7)
    assert first.embed(["one text"]).usage == Usage(requests=1, tokens=10)
    assert {key for key, _ in vendor.received} == {KEY}


def test_refused_texts_are_bisected_until_each_stands_alone(vendor: Vendor) -> None:
    vendor.poison = "bad"
    texts = [f"{'bad' if number in (3, 11) else 'good'} text {number}" for number in range(16)]
    result = embed_isolating(embedder(vendor), texts)
    assert result.failure is None
    assert result.usage.requests == len(vendor.received)
    for number, outcome in enumerate(result.outcomes):
        if number in (3, 11):
            assert isinstance(outcome, InputRejected)
            assert outcome.reason == "provider answered 422"
        else:
            np.testing.assert_array_equal(outcome, vector_of(texts[number]))


@pytest.mark.parametrize(
    ("vectors", "words"),
    [
        ([[1.0] * 8], "expected 2 vectors of 8 dimensions, found 1 x 8 numbers"),
        ([[1.0] * 7] * 2, "expected 2 vectors of 8 dimensions, found 2 x 7 numbers"),
        ([[1.0] * 8, [float("nan")] * 8], "embedding 1 holds NaN"),
        ([[0.0] * 8, [1.0] * 8], "embedding 0 is all zeros"),
        ([[1.0] * 8] * 2, "found the same one for 2 different texts"),
    ],
)
def test_an_answer_is_held_against_what_was_asked_whoever_gives_it(
    vendor: Vendor, vectors: list[list[float]], words: str
) -> None:
    vendor.faults += [(200, {}, {"embeddings": {"float": vectors}})] * 3
    with pytest.raises(UntrustworthyResponse) as caught:
        embedder(vendor).embed(["one text", "another text"])
    assert words in caught.value.reason
    assert caught.value.usage == Usage(requests=3, unanswered=3, tokens=60)


def test_a_refused_key_is_not_asked_with_again(vendor: Vendor) -> None:
    refused = embedder(vendor, key="sk-another-key-0000")
    for _ in range(2):
        with pytest.raises(KeyRefused):
            refused.embed(["text"])
    assert len(vendor.received) == 1


def test_a_cut_ends_the_wait_for_an_answer(vendor: Vendor) -> None:
    vendor.hold, stop = threading.Event(), threading.Event()
    raised: list[BaseException] = []

    def ask() -> None:
        try:
            embedder(vendor, stop=stop).embed(["text"])
        except Stopped as error:
            raised.append(error)

    asking = threading.Thread(target=ask)
    asking.start()
    while not vendor.received:
        stop.wait(0.01)
    stop.set()
    open_sockets.cut()
    asking.join(TIMEOUT / 2)
    woken = not asking.is_alive()
    vendor.hold.set()
    asking.join()
    assert woken
    assert [type(error) for error in raised] == [Stopped]


def test_a_whole_repair_runs_on_it(database: str, tmp_path: Path, vendor: Vendor) -> None:
    vendor.poison = "document 9 of acme"
    vendor.keys = {KEY, key_of("globex")}
    with docs(database, {"acme": (2, 12), "globex": (2, 9)}) as table:
        with opened(
            database, settings(vendor.base_url), keys=environment("acme", "globex")
        ) as repair:
            repair.provider_at = Elsewhere
            repair.run(repair.plan(), tmp_path, lambda _: None)
            (result,) = repair.results
        assert result.account.count(Outcome.FIXED) == 20
        assert result.account.count(Outcome.QUARANTINED) == 1
        assert result.usage.requests == len(vendor.received)
        assert [probe.agrees for probe in result.probes] == [True, True]
        assert table.wrong() == [9]
    for key, texts in vendor.received:
        assert all(key == key_of(text.rpartition(" ")[2]) for text in texts if " of " in text)


def test_all_of_the_room_but_one_vendors_modules_does_without_its_library() -> None:
    modules = "bisection, embedder, embedders, endpoint, keys, protocol, rate_limits, retry, usage"
    program = (
        f"import sys; from remediation.provider import {modules}\n"
        "print(sorted({'openai', 'httpx2', 'httpx'} & sys.modules.keys()))"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (run.stdout, run.stderr) == ("[]\n", "")
