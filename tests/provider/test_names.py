"""A name that the system looks for without end holds up nobody, whoever it was given by."""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from checks.database.connection import connect
from checks.database.connection_url import parse_url
from checks.errors import CannotExamineError
from remediation.distributed.shared.queue import QueueConnection, open_queue
from remediation.provider.errors import Unreachable
from remediation.provider.openai_compatible import client
from tests.servers.embedders import embedder, failure
from tests.servers.provider_server import ProviderServer

if TYPE_CHECKING:
    from collections.abc import Iterator

HANGING, SEVERAL = "hangs.test", "several.test"


@pytest.fixture
def searches(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The names that are being looked for; one of them is until the end of the test."""
    over, under_way = threading.Event(), list[str]()
    look = socket.getaddrinfo

    def search(host: Any, port: Any, *arguments: Any, **named: Any) -> Any:
        if host == HANGING:
            under_way.append(host)
            over.wait()
            under_way.remove(host)
        if host == SEVERAL:
            # Nobody listens at the first.
            hosts = ("127.0.0.2", "127.0.0.1")
            return [entry for one in hosts for entry in look(one, port, *arguments, **named)]
        return look(host, port, *arguments, **named)

    monkeypatch.setattr(socket, "getaddrinfo", search)
    monkeypatch.setattr(client, "CONNECT_SECONDS", 0.3)
    yield under_way
    over.set()


def test_a_database_whose_name_is_looked_for_without_end_is_given_up(searches: list[str]) -> None:
    place = parse_url(f"postgresql://nobody:hidden@{HANGING}:5432/none", variable="DATABASE_URL")
    with pytest.raises(CannotExamineError, match="not resolved within 2 s") as raised:
        connect(place, timeout_seconds=1)
    assert searches == [HANGING]
    assert "hidden" not in str(raised.value)


def test_the_queue_s_database_is_found_in_time_too(searches: list[str], database: str) -> None:
    async def answer(url: str) -> dict[str, Any]:
        async with open_queue(parse_url(url, variable="DATABASE_URL")).open_async() as app:
            return await app.connector.execute_query_one_async("SELECT 1 AS one")

    assert asyncio.run(answer(database.replace("127.0.0.1", SEVERAL))) == {"one": 1}
    with pytest.raises(psycopg.OperationalError, match="not resolved within 2 s"):
        asyncio.run(QueueConnection.connect(f"host={HANGING} connect_timeout=1"))
    assert searches == [HANGING]


def test_an_endpoint_whose_name_is_looked_for_without_end_is_given_up(searches: list[str]) -> None:
    with ProviderServer() as server:
        failed = failure(embedder(server, base_url=f"http://{HANGING}:9/v1"))
    assert isinstance(failed, Unreachable)
    assert "not resolved in time" in failed.reason
    assert searches


@pytest.mark.usefixtures("searches")
def test_each_address_of_a_name_is_tried(database: str) -> None:
    place = parse_url(database.replace("127.0.0.1", SEVERAL), variable="DATABASE_URL")
    with connect(place) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    with ProviderServer() as server:
        base_url = server.base_url.replace("127.0.0.1", SEVERAL)
        with embedder(server, base_url=base_url) as asked:
            assert len(asked.embed(["a text"]).vectors) == 1
