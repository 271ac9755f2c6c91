"""The admin endpoint over HTTP, a real database and a real provider: each answer it can give."""

from __future__ import annotations

import http.client
import json
import re
import socket
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from checks.settings.integrity_toml import parse_override
from remediation.admin import connection
from remediation.admin import server as serving
from remediation.admin.openapi import LARGEST_BATCH, document
from remediation.admin.secret import ADDRESSES_KEPT, WRONG_IN_WINDOW, NoSecretError, WrongSecrets
from remediation.admin.secret import AdminSecret as Secret
from tests.builders.tables import run
from tests.drivers.repairs import docs, key_of, settings
from tests.servers.provider_server import ProviderServer
from tests.servers.services import BACKFILL, SECRET, Service, service

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

UNKNOWN = "20260101T000000Z-abcdef"


def held_until(release: threading.Event) -> Callable[[object], None]:
    """A provider's rule: answer in health, but not before the event is set."""

    def rule(_: object) -> None:
        release.wait(60)

    return rule


def test_a_dry_run_is_the_default_and_changes_nothing_and_a_repair_is_what_pytest_does(
    database: str, tmp_path: Path
) -> None:
    with (
        docs(database, {"acme": (4, 12), "globex": (3, 7)}) as table,
        ProviderServer() as server,
        service(database, settings(server), tmp_path, "acme") as admin,
    ):
        before = table.versions()
        dry = admin.backfill()
        assert (dry.status, dry.body["state"], dry.body["dryRun"]) == (200, "finished", True)
        assert dry.counts() == {"selected": 19}
        assert dry.body["plan"]["rows"] == 12
        assert dry.body["exitStatus"] == 1
        assert dry.body["report"] is None
        assert (table.versions(), server.requests) == (before, [])

        done = admin.backfill("dryRun=false&batchSize=3&maxRows=50&maxCost=1")
        assert done.status == 200
        assert done.counts() == {"selected": 19, "fixed": 12, "failed": 7}
        assert max(len(request.texts) for request in server.requests) == 3
        assert {request.key for request in server.requests} == {key_of("acme")}
        assert done.body["parameters"]["batchSize"] == 3

        report = admin.ask("GET", done.body["report"])
        assert report.status == 200
        assert report.headers["content-type"].startswith("text/html")
        assert done.body["runId"] in report.text
        assert admin.run(done.body["runId"]).body == done.body
        assert admin.run(dry.body["runId"], "/report").status == 404
    with service(database, settings(server), tmp_path) as restarted:
        assert restarted.run(done.body["runId"]).body == done.body
        assert restarted.run(dry.body["runId"]).body == dry.body
        assert restarted.run(done.body["runId"], "/report").text == report.text
    everything = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert key_of("acme").encode() not in everything
    assert SECRET.encode() not in everything


def test_a_long_run_is_answered_with_where_it_is_and_a_second_one_with_its_id(
    database: str, tmp_path: Path
) -> None:
    release = threading.Event()
    with (
        docs(database, {"acme": (2, 20)}),
        ProviderServer() as server,
        service(database, settings(server), tmp_path, "acme", wait_seconds=0.2) as admin,
    ):
        server.always(held_until(release))
        begun = admin.backfill("dryRun=false")
        assert (begun.status, begun.body["state"]) == (202, "running")
        run_id = begun.body["runId"]
        assert begun.headers["location"] == f"/api/v1/admin/runs/{run_id}"
        server.wait_for_requests(1)
        second = admin.backfill()
        assert (second.status, second.body["runId"]) == (409, run_id)

        connection = http.client.HTTPConnection("127.0.0.1", admin.port, timeout=60)
        connection.request(
            "GET",
            f"/api/v1/admin/runs/{run_id}/events",
            headers={"x-admin-secret": SECRET.encode()},
        )
        stream = connection.getresponse()
        assert stream.getheader("content-type", "").startswith("text/event-stream")
        assert stream.readline() == b"event: progress\n"
        release.set()
        events = stream.read().decode()
        connection.close()
        last = events.strip().rpartition("event: end\ndata: ")[2]
        assert json.loads(last)["fixed"] == 20
        assert admin.ended(run_id).counts() == {"selected": 20, "fixed": 20}
        assert admin.run(run_id, "/events").text.startswith("event: end\n")


def test_two_callers_at_once_begin_one_run_and_one_that_hangs_up_does_not_stop_it(
    database: str, tmp_path: Path
) -> None:
    release = threading.Event()
    with (
        docs(database, {"acme": (2, 20)}) as table,
        ProviderServer() as server,
        service(database, settings(server), tmp_path, "acme") as admin,
    ):
        server.always(held_until(release))
        with socket.create_connection(("127.0.0.1", admin.port)) as caller:
            line = f"POST {BACKFILL}?dryRun=false HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n"
            caller.sendall(line.encode() + b"x-admin-secret: " + SECRET.encode() + b"\r\n\r\n")
            server.wait_for_requests(1)
        statuses: list[int] = []
        callers = [
            threading.Thread(target=lambda: statuses.append(admin.backfill().status))
            for _ in range(4)
        ]
        for each in callers:
            each.start()
        for each in callers:
            each.join()
        assert statuses == [409] * 4
        release.set()
        (folder,) = tmp_path.iterdir()
        assert admin.ended(folder.name).counts() == {"selected": 20, "fixed": 20}
        assert table.wrong() == []


def test_connections_that_never_end_their_headers_are_closed_and_keep_nobody_out(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "HEADERS_SECONDS", 0.3)
    monkeypatch.setattr(serving, "MOST_CONNECTIONS", 20)
    head = f"POST {BACKFILL} HTTP/1.1\r\nhost: x\r\n".encode()
    with (
        ExitStack() as stack,
        service(database, settings("http://127.0.0.1:9"), tmp_path) as admin,
    ):
        silent = [
            stack.enter_context(socket.create_connection(("127.0.0.1", admin.port), timeout=30))
            for _ in range(20)
        ]
        for number, each in enumerate(silent):
            # Some say nothing; some stop within a second request.
            if number % 3:
                each.sendall(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n" * (number % 3 - 1) + head)
        for each in silent:
            while each.recv(1 << 16):
                pass
        assert admin.ask("GET", "/healthz", secret=None).status == 200


def test_what_cannot_be_meant_is_named_and_begins_no_run(database: str, tmp_path: Path) -> None:
    with (
        docs(database, {"acme": (1, 1)}),
        service(database, settings("http://127.0.0.1:1/v1"), tmp_path) as admin,
    ):
        wrong = admin.backfill(
            "dryRun=maybe&batchSize=0&maxRows=-1&maxCost=nan&maxCost=2&nosuch=1&table=dox&tenantId=%00"
        )
        assert wrong.status == 422
        assert set(wrong.body["parameters"]) == {
            "dryRun", "batchSize", "maxRows", "maxCost", "nosuch", "table", "tenantId",
        }  # fmt: skip
        assert "public.docs" in wrong.body["parameters"]["table"]
        assert admin.backfill(body=b"{}").body["parameters"].keys() == {"body"}
        assert admin.backfill(body=b"x" * 100_000).status == 413
        assert list(tmp_path.iterdir()) == []
        absent = admin.backfill("tenantId=acmee")
        assert absent.status == 404
        assert "did you mean 'acme'?" in absent.body["parameters"]["tenantId"]
        for name in ("docs", "public.docs"):
            assert admin.backfill(f"table={name}&tenantId=acme").counts() == {"selected": 1}
        for method, path, status in (
            ("GET", BACKFILL, 405),
            ("GET", "/nosuch", 404),
            ("GET", "/healthz?" + "x" * 40_000, 431),
            ("GET", f"/api/v1/admin/runs/{UNKNOWN}", 404),
            ("GET", f"/api/v1/admin/runs/{UNKNOWN}/events", 404),
            ("GET", "/api/v1/admin/runs/..%2F..%2Fetc/report", 404),
        ):
            assert admin.ask(method, path).status == status, path


def test_a_flood_of_wrong_secrets_is_slowed_and_never_locks_out_the_right_one(
    database: str, tmp_path: Path
) -> None:
    run(database, "CREATE TABLE docs (id integer)")
    with service(database, settings("http://127.0.0.1:1/v1"), tmp_path) as admin:
        wrong = ["", "wrong", SECRET[:-1], b"\xff\xfe", SECRET.encode("latin-1")]
        answers = [admin.backfill(secret=each) for each in wrong * 5]
        assert [answer.status for answer in answers[:WRONG_IN_WINDOW]] == [401] * WRONG_IN_WINDOW
        assert {answer.status for answer in answers[WRONG_IN_WINDOW:]} == {429}
        assert 1 <= int(answers[-1].headers["retry-after"]) <= 60
        for part in ("", "/events", "/report"):
            path = f"/api/v1/admin/runs/{UNKNOWN}{part}"
            assert admin.ask("GET", path, secret="wrong").status == 429
            assert admin.ask("GET", path).status == 404
        assert admin.backfill(secret=None).status == 401
        assert all(SECRET not in answer.text for answer in answers)


def test_wrong_secrets_are_forgotten_after_their_window_and_counted_in_bounded_memory() -> None:
    now = 0.0
    wrong = WrongSecrets(clock=lambda: now)
    assert [wrong.retry_after("10.0.0.1") for _ in range(WRONG_IN_WINDOW)] == [
        None
    ] * WRONG_IN_WINDOW
    assert wrong.retry_after("10.0.0.1") == 60
    assert wrong.retry_after("10.0.0.2") is None
    now = 61.0
    assert wrong.retry_after("10.0.0.1") is None
    for number in range(2 * ADDRESSES_KEPT):
        wrong.retry_after(f"fd00:{number:x}::1")
    assert len(wrong) == ADDRESSES_KEPT
    assert all(wrong.retry_after(f"fd01::{number:x}") is None for number in range(WRONG_IN_WINDOW))
    assert wrong.retry_after("fd01::ffff") is not None


@pytest.mark.parametrize(
    ("variables", "secret"),
    [
        ({"ADMIN_SECRET": "one", "AUTH_SECRET": "two"}, b"one"),
        ({"AUTH_SECRET": "two\n"}, b"two"),
        ({"ADMIN_SECRET": " ", "AUTH_SECRET": "two"}, b"two"),
    ],
)
def test_the_secret_is_the_first_that_is_set(variables: dict[str, str], secret: bytes) -> None:
    found = Secret.from_environment(variables)
    assert found.admits([(b"x-admin-secret", secret)])
    assert not found.admits([(b"x-admin-secret", secret), (b"x-admin-secret", secret)])
    assert not found.admits([])
    assert secret.decode() not in repr(found)


def test_without_a_secret_there_is_no_service() -> None:
    with pytest.raises(NoSecretError, match=r"ADMIN_SECRET.*AUTH_SECRET"):
        Secret.from_environment({"ADMIN_SECRET": "", "AUTH_SECRET": "\n"})


def test_alive_and_ready_need_no_secret_and_name_no_place(
    bare_database: str, tmp_path: Path
) -> None:
    chosen = settings("http://127.0.0.1:1/v1")
    with service(bare_database, chosen, tmp_path) as admin:
        assert admin.ask("GET", "/healthz", secret=None).body == {"alive": True}
        ready = admin.ask("GET", "/readyz", secret=None)
        assert (ready.status, ready.body["extension"]) == (503, "not found")
    with service("postgresql://u:pass-word-1@127.0.0.1:1/x", chosen, tmp_path) as admin:
        ready = admin.ask("GET", "/readyz", secret=None)
        assert ready.status == 503
        assert ready.body == {
            "ready": False, "database": "not reachable", "extension": "not found",
        }  # fmt: skip
        refused = admin.backfill("dryRun=false")
        assert (refused.body["state"], refused.body["exitStatus"]) == ("refused", 10)
        assert "cannot connect" in refused.body["reason"]
        assert "pass-word-1" not in refused.text


@pytest.mark.parametrize(
    ("host", "asked"), [("0.0.0.0", ["127.0.0.1"]), ("::", ["::1", "127.0.0.1"]), ("::1", ["::1"])]
)
def test_it_listens_wherever_it_is_told(
    database: str, tmp_path: Path, host: str, asked: list[str]
) -> None:
    chosen = settings("http://127.0.0.1:1/v1")
    with service(database, chosen, tmp_path, host=host) as admin:
        for address in asked:
            there = Service(port=admin.port, host=address)
            assert there.ask("GET", "/readyz", secret=None).body["ready"] is True


def test_the_document_lists_tables_for_those_who_have_the_secret_alone(
    database: str, tmp_path: Path
) -> None:
    chosen = settings("http://127.0.0.1:1/v1", table={"name": "tenant_*.docs"})
    with service(database, chosen, tmp_path) as admin:
        shown = admin.ask("GET", "/openapi.json")
        assert "tenant_" in shown.text
        assert "tenant_" not in admin.ask("GET", "/openapi.json", secret="wrong").text
    pattern = next(
        parameter["schema"]["items"]["pattern"]
        for parameter in shown.body["paths"][BACKFILL]["post"]["parameters"]
        if parameter["name"] == "table"
    )
    assert re.search(pattern, "tenant_a.docs")
    assert not re.search(pattern, "tenant_.docs")
    assert not re.search(pattern, "public.docs")
    assert document(chosen) == shown.body
    assert parse_override("provider", "batch_size", str(LARGEST_BATCH)) == LARGEST_BATCH
    with pytest.raises(ValueError, match="at most"):
        parse_override("provider", "batch_size", str(LARGEST_BATCH + 1))
