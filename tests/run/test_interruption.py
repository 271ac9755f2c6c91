"""SIGINT and SIGTERM in the middle of a repair: once in order and with a report, twice at once."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from checks.database.open_sockets import OpenSockets
from checks.interruption import Interruption
from embedding_integrity.beside import DeclaredOptions
from tests.drivers.runs import MISSING, TENANTS, fill, missing, stale
from tests.faults.link import Link, black_hole
from tests.faults.wire import Step
from tests.servers.endpoints import endpoint
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from demo.endpoint import Running
    from tests.drivers.runs import Site

pytest_plugins = ("pytester",)

ALL = MISSING * len(TENANTS)
SECONDS = 60
"""A bound for a run that ends; the provider would keep it waiting for longer."""


@contextmanager
def hanging(site: Site) -> Iterator[Running]:
    """A provider that takes longer to answer than anybody waits."""
    fill(site.database, dict.fromkeys(TENANTS, 12))
    keys = {tenant: site.keys[tenant] for tenant in TENANTS}
    # What it is at when the test ends nobody waits for.
    with endpoint(keys, latency=300.0) as running:
        site.monkeypatch.setenv("OPENAI_BASE_URL", running.base_url)
        site.use_keys(keys)
        yield running


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Each signal with each probe at full numbers, else one of the pairs for each."""
    if "number" in metafunc.fixturenames:
        pairs = [(signal.SIGINT, 0), (signal.SIGTERM, 3)]
        if metafunc.config.getoption("--hypothesis-profile") == "full":
            pairs += [(signal.SIGINT, 3), (signal.SIGTERM, 0)]
        names = [f"{number.name}-{probe}" for number, probe in pairs]
        metafunc.parametrize(("number", "probe"), pairs, ids=names)


def test_one_signal_ends_a_repair_that_waits_for_the_provider_and_leaves_a_report(
    site: Site, number: signal.Signals, probe: int
) -> None:
    with (site.folder / "integrity.toml").open("a", encoding="utf-8") as settings:
        settings.write(f"[repair]\nprobe = {probe}\n")
    with hanging(site) as running, site.start("--remediate") as run:
        wait_until(lambda: running.stats().requests > 0)
        run.send_signal(number)
        assert run.wait(SECONDS) == 2, run.printed()
    assert "a second signal ends the run at once" in run.printed()
    report = json.loads(site.report().with_suffix(".json").read_text(encoding="utf-8"))
    assert report["result"] == "interrupted"
    outcomes = report["repair"]["outcomes"] if report["repair"] else []
    assert {
        name for line in outcomes for name, rows in line.items() if type(rows) is int and rows
    } <= {"skipped"}
    assert sum(left["rows"] for left in report["left"]) == ALL
    assert missing(site.database) == dict.fromkeys(TENANTS, MISSING)


@pytest.mark.parametrize(
    "step", [pytest.param(Step.PAGE_SENT, marks=pytest.mark.thorough), Step.UPDATE_SENT]
)
def test_one_signal_ends_a_repair_whose_database_has_fallen_silent(site: Site, step: Step) -> None:
    fill(site.database, dict.fromkeys(TENANTS, 12))
    site.use_keys({tenant: site.keys[tenant] for tenant in TENANTS})
    with endpoint(site.keys) as running, Link(site.database) as link:
        site.monkeypatch.setenv("OPENAI_BASE_URL", running.base_url)
        site.monkeypatch.setenv("REMEDIATION_DATABASE_URL", link.url)
        # The first page is that of the plan.
        link.when(step, black_hole(2 * SECONDS), nth=2)
        with site.start("--remediate") as run:
            wait_until(lambda: bool(link.fired))
            run.send_signal(signal.SIGTERM)
            assert run.wait(SECONDS) == 2, run.printed()
    assert "Traceback" not in run.printed()
    report = json.loads(site.report().with_suffix(".json").read_text(encoding="utf-8"))
    assert report["result"] == "interrupted"


def test_two_signals_end_a_repair_at_once_and_the_next_run_makes_all_whole(site: Site) -> None:
    with hanging(site) as running:
        with site.start("--remediate") as run:
            wait_until(lambda: running.stats().requests > 0)
            run.send_signal(signal.SIGINT)
            wait_until(lambda: "a second signal" in run.printed())
            run.send_signal(signal.SIGTERM)
            assert run.wait(SECONDS) == -signal.SIGTERM
        assert not list(site.folder.glob("incidents/*/incident.html"))
    keys = {tenant: site.keys[tenant] for tenant in TENANTS}
    with endpoint(keys) as running:
        site.monkeypatch.setenv("OPENAI_BASE_URL", running.base_url)
        assert site.run("--remediate").status == 0
    assert missing(site.database) == {}
    assert stale(site.database) == []


def test_the_first_signal_is_an_interrupt_and_what_was_handled_before_is_put_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    said: list[str] = []
    with Interruption(said.append), pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGTERM)
    assert len(said) == 1
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_signal_is_an_interrupt_also_where_nobody_reads_what_is_said() -> None:
    def say(_: str) -> None:
        raise BrokenPipeError

    with Interruption(say), pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGTERM)


def test_a_first_signal_while_the_report_is_written_lets_it_be_written() -> None:
    said: list[str] = []
    with Interruption(said.append) as interruption:
        interruption.finish()
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), 0)  # a step of the interpreter, on which a handler would have run
    assert said == []


def test_a_signal_that_a_shell_has_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Interruption(pytest.fail):
            os.kill(os.getpid(), signal.SIGINT)
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_cutting_a_link_wakes_who_waits_on_it_and_passes_over_closed_ones() -> None:
    open_sockets = OpenSockets()
    ours, theirs = socket.socketpair()
    closed, other = socket.socketpair()
    open_sockets.keep(ours)
    open_sockets.keep(closed)
    closed.close()
    received: list[bytes] = []
    waiting = threading.Thread(target=lambda: received.append(ours.recv(1)))
    waiting.start()
    open_sockets.cut()
    waiting.join(timeout=SECONDS)
    assert received == [b""]
    for end in (ours, theirs, other):
        end.close()


@pytest.mark.parametrize(
    "numbers",
    [
        pytest.param((signal.SIGINT,), marks=pytest.mark.thorough),
        (signal.SIGTERM, signal.SIGINT),
    ],
)
def test_a_run_of_the_checks_ends_though_its_database_fell_silent_in_the_scan(
    site: Site, numbers: tuple[signal.Signals, ...]
) -> None:
    fill(site.database, dict.fromkeys(TENANTS, 12))
    with Link(site.database) as link:
        site.monkeypatch.setenv("DATABASE_URL", link.url)
        link.when(Step.SCAN_SENT, black_hole(2 * SECONDS))
        with site.start() as run:
            wait_until(lambda: bool(link.fired))
            run.send_signal(numbers[0])
            if len(numbers) > 1:
                wait_until(lambda: "a second signal" in run.printed())
                run.send_signal(numbers[1])
            assert run.wait(SECONDS) == (2 if len(numbers) == 1 else -numbers[1]), run.printed()


@pytest.mark.parametrize("hook", ["pytest_collection", "pytest_runtestloop"])
def test_a_run_ends_as_interrupted_also_where_somebody_makes_an_error_of_the_interrupt(
    site: Site, hook: str
) -> None:
    fill(site.database, dict.fromkeys(TENANTS, 12))
    (site.folder / "another.py").write_text(
        "import os, signal\n"
        f"def {hook}(session):\n"
        "    try:\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "        signal.pause()\n"
        "    except KeyboardInterrupt as interrupt:\n"
        "        raise ValueError('of an interrupt') from interrupt\n"
    )
    site.monkeypatch.setenv("PYTHONPATH", str(site.folder))
    run = site.run("-p", "another")
    assert run.status == 2, run.output
    assert "INTERNALERROR" not in run.output


def test_an_interrupt_of_which_python_makes_an_error_while_it_imports_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "interrupted.py").write_text(
        "class Field:\n"
        "    def __set_name__(self, owner, name):\n"
        "        raise KeyboardInterrupt\n"
        "class Owner:\n"
        "    field = Field()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        DeclaredOptions(["interrupted"])
