"""Gives a pytest run with `--demo` a database with the incident, and a provider.

Passes them to the rest of the tool by the environment alone; does nothing without the option.
"""

from __future__ import annotations

import os
import re
import sys
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from checks.errors import MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    import numpy as np
    from numpy.typing import NDArray

    from demo.answers import Stats
    from demo.endpoint import Running
    from demo.search import SearchHit

LATENCY = 0.15
"""Seconds per request, so that a person sees the progress bar move."""

DATABASE = "demo"

MINUTE = "%Y-%m-%d %H:%M"


@dataclass(frozen=True, kw_only=True, slots=True)
class Demo:
    """What runs during a demo, and what was seen before the repair."""

    url: str
    endpoint: Running
    dry_run: bool
    asked_before: Stats
    vector: NDArray[np.float32] | None = None
    """The vector of the question; None where nothing will be repaired."""
    before: tuple[SearchHit, ...] = ()


DEMO = pytest.StashKey[Demo]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare `--demo`."""
    group = parser.getgroup("embedding integrity")
    group.addoption(
        "--demo",
        action="store_true",
        default=False,
        help="run against an embedded PostgreSQL that holds the incident of 382 rows, "
        "with an offline provider",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Start everything before any other plugin looks at the environment."""
    if not config.getoption("--demo") or hasattr(config, "workerinput"):
        return
    if config.option.collectonly or config.option.help:
        return
    stack = ExitStack()
    # Runs after every plugin's own clean-up, also when a later plugin fails to start.
    config.add_cleanup(stack.close)
    try:
        config.stash[DEMO] = _start(config, stack)
    except ImportError as error:
        raise pytest.UsageError(f"--demo: {MissingExtraError('demo', error.name)}") from None


@pytest.hookimpl(wrapper=True)
def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> Generator[None, None, None]:
    """Print the search again and what the provider was asked, before the repair's own summary."""
    yield
    demo = config.stash.get(DEMO, None)
    if demo is None:
        return
    if demo.vector is not None:
        terminalreporter.section("semantic search, before and after")
        terminalreporter.write_line(_search_again(demo))
    terminalreporter.section("the offline provider")
    terminalreporter.write_line(_requests(demo))


def _start(config: pytest.Config, stack: ExitStack) -> Demo:
    import psycopg

    from demo import incident, postgres
    from demo.endpoint import endpoint
    from demo.search import best_answers, question_vector

    def say(line: str, end: str = "\n") -> None:
        if config.option.verbose >= 0:
            print(line, end=end, flush=True)

    def progress(table: str, done: int, total: int) -> None:
        if sys.stdout.isatty():
            say(f"\rdemo: {table}: {done:,} of {total:,} rows", end="\n" if done == total else "")
        elif done == total:
            say(f"demo: {table}: {total:,} rows")

    say("demo: starting an embedded PostgreSQL 18 with pgvector")
    url = postgres.create_database(stack.enter_context(postgres.server()), DATABASE)
    say("demo: building the incident (an outage of the embedding worker, unnoticed)")
    with psycopg.connect(url) as connection:
        window = incident.build(connection, progress=progress)
    say(f"demo: the outage lasted from {window.start:{MINUTE}} to {window.end:{MINUTE}} UTC")
    keys = incident.new_keys()
    running = stack.enter_context(endpoint(keys, latency=LATENCY))
    say(f"demo: an offline provider answers at {running.base_url}")
    environment = {
        "DATABASE_URL": url,
        "REMEDIATION_DATABASE_URL": url,
        "OPENAI_BASE_URL": running.base_url,
        "INTEGRITY_CONFIG": str(Path(__file__).with_name("integrity.toml")),
        **{_key_variable(tenant): key for tenant, key in keys.items()},
        # A proxy of the machine must not come between the client and loopback.
        **{name: _without_proxy(name) for name in ("NO_PROXY", "no_proxy")},
    }
    stack.callback(_restore, {name: os.environ.get(name) for name in environment})
    os.environ.update(environment)
    demo = Demo(
        url=url,
        endpoint=running,
        dry_run=bool(config.getoption("--dry-run", default=False)),
        asked_before=running.stats(),
    )
    if demo.dry_run or not config.getoption("--remediate", default=False):
        return demo
    vector = question_vector(running.base_url, keys[incident.ANSWER_TENANT])
    with psycopg.connect(url) as connection:
        before = best_answers(connection, vector, incident.ANSWER_TENANT)
    # The search's own request is not the repair's.
    return replace(demo, vector=vector, before=before, asked_before=running.stats())


def _key_variable(tenant: str) -> str:
    """The variable's name as `[keys] env` of the settings builds it."""
    return f"OPENAI_API_KEY__{re.sub('[^A-Z0-9]', '_', tenant.upper())}"


def _without_proxy(name: str) -> str:
    return ",".join(filter(None, (os.environ.get(name), "127.0.0.1", "localhost")))


def _restore(former: Mapping[str, str | None]) -> None:
    for name, value in former.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def _search_again(demo: Demo) -> str:
    import psycopg

    from checks.redaction import redactor
    from demo.incident import ANSWER_TENANT
    from demo.search import best_answers, render

    assert demo.vector is not None
    try:
        with psycopg.connect(demo.url) as connection:
            after = best_answers(connection, demo.vector, ANSWER_TENANT)
    except psycopg.Error as error:
        return redactor.clean(f"the search could not be repeated: {error}")
    return render(demo.before, after)


def _requests(demo: Demo) -> str:
    try:
        asked = demo.endpoint.stats()
    except OSError as error:
        return f"provider requests: unknown, the offline provider is gone ({error})"
    before = demo.asked_before
    line = f"provider requests: {asked.requests - before.requests}"
    by_tenant = {
        tenant: usage.requests - before.tenants[tenant].requests
        if tenant in before.tenants
        else usage.requests
        for tenant, usage in sorted(asked.tenants.items())
    }
    shares = [f"{tenant} {count}" for tenant, count in by_tenant.items() if count]
    if refused := asked.refused - before.refused:
        shares.append(f"refused {refused}")
    return f"{line} ({', '.join(shares)})" if shares else line
