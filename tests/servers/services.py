"""The admin endpoint over real HTTP: a service in a thread of this process, and its client."""

from __future__ import annotations

import http.client
import json
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from remediation.admin.application import Admin
from remediation.admin.readiness import ReadinessProbe
from remediation.admin.runs import Runs
from remediation.admin.secret import AdminSecret
from remediation.admin.server import Server, listen
from reports.unattended import write_incident
from tests.drivers.repairs import environment
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from checks.settings.integrity_toml import Settings

SECRET = "a secret of Ünïcode"
BACKFILL = "/api/v1/admin/backfill-embeddings"


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def body(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.text)
        return found

    def counts(self) -> dict[str, int]:
        """Selected rows and those of each outcome, without zeros."""
        names = ("selected", "fixed", "superseded", "quarantined", "failed", "skipped")
        return {name: self.body[name] for name in names if self.body[name]}


@dataclass(kw_only=True, slots=True)
class Service:
    """A service that listens on loopback."""

    port: int
    host: str = "127.0.0.1"
    server: Server | None = None
    runs: Runs | None = field(default=None, repr=False)

    def ask(
        self, method: str, path: str, *, secret: str | bytes | None = SECRET, body: bytes = b""
    ) -> Answer:
        """Send one request and read its whole answer."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=60)
        headers: dict[str, str | bytes] = {}
        if secret is not None:
            headers["x-admin-secret"] = secret.encode() if isinstance(secret, str) else secret
        try:
            connection.request(method, path, headers=headers, body=body or None)
            response = connection.getresponse()
            return Answer(
                status=response.status,
                headers={name.lower(): value for name, value in response.getheaders()},
                text=response.read().decode(),
            )
        finally:
            connection.close()

    def backfill(self, query: str = "", **options: Any) -> Answer:
        return self.ask("POST", f"{BACKFILL}?{query}" if query else BACKFILL, **options)

    def run(self, run_id: str, part: str = "") -> Answer:
        return self.ask("GET", f"/api/v1/admin/runs/{run_id}{part}")

    def ended(self, run_id: str) -> Answer:
        """What is said of a run once it has ended."""
        wait_until(lambda: self.run(run_id).body["state"] != "running")
        return self.run(run_id)


@contextmanager
def service(
    url: str,
    settings: Settings,
    folder: Path,
    *tenants: str,
    wait_seconds: float = 30.0,
    host: str = "127.0.0.1",
) -> Iterator[Service]:
    """A service over a database, with the keys of these tenants."""
    variables = {"DATABASE_URL": url, "ADMIN_SECRET": SECRET, **environment(*tenants)}
    runs = Runs(environment=variables, report_directory=folder, write_incident=write_incident)
    admin = Admin(
        settings=settings,
        secret=AdminSecret.from_environment(variables),
        runs=runs,
        readiness=ReadinessProbe(settings=settings, environment=variables),
        wait_seconds=wait_seconds,
    )
    server = Server(admin.application(), runs)
    with listen(host, 0) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield Service(port=listener.getsockname()[1], server=server, runs=runs)
        finally:
            server.should_exit = True
            thread.join()
