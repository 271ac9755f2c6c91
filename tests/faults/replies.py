"""The faults of a provider by name: outages, refused keys, and every way to answer wrongly.

Each is a `Reply` of `tests.servers.provider_server`; where the wrong item of an answer stands is
random.
"""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import numpy as np

from tests.servers.provider_server import Reply

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from random import Random

    from numpy.typing import NDArray

    from tests.servers.provider_server import Body

    Fault = Callable[[Random], Reply]

HANG_SECONDS = 600.0
"""Longer than any client waits."""


def _error(status: int, code: str | None = None, **headers: str) -> Fault:
    error = {"message": "a fault of the test", "type": code, "code": code}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda _: Reply(status=status, error=error, headers=named)


def _changed(change: Callable[[Body, Random], object]) -> Fault:
    return lambda random: Reply(change=lambda body: change(body, random))


def _item(body: Body, random: Random) -> dict[str, Any]:
    chosen: dict[str, Any] = random.choice(body["data"])
    return chosen


def _vector_changed(change: Callable[[NDArray[np.float32], Random], NDArray[np.float32]]) -> Fault:
    def changed(body: Body, random: Random) -> None:
        item = _item(body, random)
        stored = np.frombuffer(base64.b64decode(item["embedding"]), dtype="<f4").copy()
        packed = change(stored, random).astype("<f4").tobytes()
        item["embedding"] = base64.b64encode(packed).decode()

    return _changed(changed)


def _with(number: float) -> Fault:
    def one_number(vector: NDArray[np.float32], random: Random) -> NDArray[np.float32]:
        vector[random.randrange(vector.size)] = number
        return vector

    return _vector_changed(one_number)


def _repeat_an_index(body: Body, random: Random) -> None:
    item = _item(body, random)
    others = [one for one in body["data"] if one is not item]
    # Of a single item, the index before the first: as wrong as one that stands twice.
    item["index"] = random.choice(others)["index"] if others else -1


def _another_model(body: Body, random: Random) -> None:
    # Never the same: of one name, vectors that agree would prove that it is an alias.
    body["model"] = f"text-embedding-{random.randrange(10**9)}"


def _one_vector(body: Body, _: Random) -> None:
    first, *others = body["data"]
    for item in others:
        item["embedding"] = first["embedding"]
    if not others:
        # Of one text, any vector might be its own.
        first["embedding"] = []


def _cut_json(random: Random) -> Reply:
    whole = json.dumps({"object": "list", "data": [{"index": 0, "embedding": [0.1] * 8}]}).encode()
    return Reply(body=whole[: random.randrange(1, len(whole))])


UNAVAILABLE: Mapping[str, Fault] = {
    "429": _error(429, "rate_limit_exceeded"),
    "429-retry-after": _error(429, "rate_limit_exceeded", retry_after="1"),
    "429-retry-after-ms": _error(429, "rate_limit_exceeded", retry_after_ms="50"),
    "500": _error(500),
    "502-html": lambda _: Reply(status=502, body=b"<html><h1>Bad Gateway</h1></html>"),
    "503": _error(503),
    "reset": lambda _: Reply(cut=-1),
    "reset-in-the-answer": lambda random: Reply(cut=random.randrange(1, 100)),
}
"""Another try may help, and a repair tries."""

REFUSED: Mapping[str, Fault] = {
    "401": _error(401, "invalid_api_key"),
    "403": _error(403),
    "insufficient-quota": _error(429, "insufficient_quota"),
}
"""The key is no use, and its tenant must be left."""

MALFORMED: Mapping[str, Fault] = {
    "fewer": _changed(lambda body, random: body["data"].remove(_item(body, random))),
    "more": _changed(lambda body, random: body["data"].append(dict(_item(body, random)))),
    "none": _changed(lambda body, _: body["data"].clear()),
    "index-twice": _changed(_repeat_an_index),
    "index-beyond": _changed(
        lambda body, random: _item(body, random).update(index=len(body["data"]) + 1)
    ),
    "index-missing": _changed(lambda body, random: _item(body, random).pop("index")),
    "index-as-text": _changed(lambda body, random: _item(body, random).update(index="0")),
    "too-short": _vector_changed(lambda vector, _: vector[:-1]),
    "too-long": _vector_changed(lambda vector, _: np.append(vector, vector[:1])),
    "nan": _with(float("nan")),
    "infinity": _with(float("inf")),
    "zero": _vector_changed(lambda vector, _: np.zeros_like(vector)),
    "one-vector": _changed(_one_vector),
    "another-model": _changed(_another_model),
    "no-model": _changed(lambda body, _: body.pop("model")),
    "no-data": _changed(lambda body, _: body.pop("data")),
    "null-vector": _changed(lambda body, random: _item(body, random).update(embedding=None)),
    "not-base64": _changed(lambda body, random: _item(body, random).update(embedding="%%%=")),
    "cut-base64": _changed(
        lambda body, random: (item := _item(body, random)).update(embedding=item["embedding"][:-5])
    ),
    "cut-json": _cut_json,
    "html": lambda _: Reply(body=b"<!doctype html><title>Sign in</title>"),
    "empty": lambda _: Reply(body=b""),
    "a-list": lambda _: Reply(body=b"[]"),
    "no-content": lambda _: Reply(status=204, body=b""),
}
"""Answers of which nothing may be used."""

LEGAL: Mapping[str, Fault] = {
    "shuffled": _changed(lambda body, random: random.shuffle(body["data"])),
}
"""Odd, and allowed: the items must be put in order."""

HANG = "hang"
FAULTS: Mapping[str, Fault] = {
    **UNAVAILABLE,
    **REFUSED,
    **MALFORMED,
    **LEGAL,
    HANG: lambda _: Reply(pause=HANG_SECONDS),
}
