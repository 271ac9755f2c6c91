"""The admin endpoint as a process: its command, its health, and a stop signal."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from embedding_integrity.doors.admin import main, parser
from remediation.admin.parameters import KNOWN
from tests.builders.tables import rows
from tests.drivers.repairs import docs, environment, key_of, settings
from tests.servers.provider_server import ProviderServer, Reply
from tests.servers.services import SECRET, Service, service

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


@contextmanager
def started(
    folder: Path, database: str, provider: ProviderServer
) -> Iterator[tuple[subprocess.Popen[str], Service]]:
    """The command in a folder with its settings, once it listens."""
    (folder / "integrity.toml").write_text(
        f'[provider]\nbase_url = "{provider.base_url}"\ndimensions = 8\nbatch_size = 2\n'
        'concurrency = 1\n[repair]\nprobe = 0\n[keys]\nenv = "KEY_{tenant}"\n'
        '[[tables]]\nname = "public.docs"\ntenant = "tenant"\ntext = "body"\n'
    )
    with subprocess.Popen(
        [sys.executable, "-m", "embedding_integrity", "admin", "--port=0", "--wait=0.1"],
        cwd=folder,
        env={
            **os.environ,
            "PYTHONPATH": str(REPOSITORY),
            "DATABASE_URL": database,
            "ADMIN_SECRET": "",
            "AUTH_SECRET": SECRET,
            "NO_PROXY": "127.0.0.1",
            **environment("acme"),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            port = int(process.stdout.readline().rpartition(":")[2])
            yield process, Service(port=port)
        finally:
            process.kill()


def test_a_stop_signal_ends_a_repair_in_order_and_a_restart_still_knows_it(
    database: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with docs(database, {"acme": (0, 40)}), ProviderServer() as provider:
        provider.always(Reply(pause=0.3))
        with started(tmp_path, database, provider) as (process, admin):
            assert main(["--health", f"--port={admin.port}"]) == 0
            assert main(["--ready", f"--port={admin.port}"]) == 0
            begun = admin.backfill("dryRun=false")
            assert begun.status == 202
            provider.wait_for_requests(3)
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
            assert process.stderr is not None
            said = process.stderr.read()
        assert main(["--health", f"--port={admin.port}"]) == 1
        assert key_of("acme") not in said
        assert SECRET not in said
        run_id = begun.body["runId"]
        assert f"run {run_id}: interrupted" in said
        assert (tmp_path / "incidents" / run_id / "incident.html").is_file()
        with service(database, settings(provider), tmp_path / "incidents") as again:
            found = again.run(run_id)
            assert (found.body["state"], found.body["exitStatus"]) == ("interrupted", 2)
            written = rows(database, "SELECT count(*) FROM docs WHERE embedding IS NOT NULL")
            assert written == [(found.body["fixed"],)]
            assert 4 <= found.body["fixed"] < 40
            assert sum(found.counts().values()) == 2 * found.body["selected"]
    assert "alive: True" in capsys.readouterr().out


def test_the_command_refuses_to_start_without_a_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ADMIN_SECRET", "")
    monkeypatch.delenv("AUTH_SECRET", raising=False)
    assert main([]) == 4
    said = capsys.readouterr().err
    assert "ADMIN_SECRET" in said
    assert "AUTH_SECRET" in said
    monkeypatch.setenv("ADMIN_SECRET", "a-secret-of-this-test")
    assert main(["--config=nosuch.toml"]) == 4
    assert "nosuch.toml" in capsys.readouterr().err


def test_the_documentation_lists_every_option_and_parameter_that_there_is() -> None:
    page = (REPOSITORY / "docs" / "admin.md").read_text(encoding="utf-8")
    options = {
        name
        for action in parser()._actions
        for name in action.option_strings
        if name.startswith("--") and name != "--help"
    }
    assert set(re.findall(r"^\| `(--[a-z-]+)", page, re.MULTILINE)) == options
    assert all(f"`{name}`" in page for name in KNOWN)
