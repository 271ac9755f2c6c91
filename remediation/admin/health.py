"""Asks a running service how it is, for images without curl. Asks this machine only."""

from __future__ import annotations

import http.client
import json

TIMEOUT_SECONDS = 8.0
"""A database that does not answer is given up before it."""
LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - where it listens, not what we open


def healthy(host: str, port: int, path: str) -> tuple[bool, str]:
    """Whether the service answers 200 there, and what it said."""
    # http.client takes no proxy from the environment.
    connection = http.client.HTTPConnection(LOOPBACK.get(host, host), port, timeout=TIMEOUT_SECONDS)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        said = json.loads(response.read(10_000))
    except (OSError, http.client.HTTPException, ValueError) as error:
        return False, f"no answer at {host} port {port}: {type(error).__name__}"
    finally:
        connection.close()
    return response.status == 200, ", ".join(f"{name}: {value}" for name, value in said.items())
