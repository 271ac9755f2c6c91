"""Describes the machine of a measurement, as far as the figures depend on it."""

from __future__ import annotations

import os
import platform
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from checks.database.connection import connect, read_only
from checks.database.connection_url import parse_url
from checks.database.server import read_server
from checks.settings.integrity_toml import Database
from demo.postgres import create_database, drop_database, server


def machine() -> str:
    """Processor, cores, memory, system, Python, PostgreSQL with pgvector, and the day."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{_processor()}, {os.cpu_count()} cores, {memory:.0f} GiB of memory; {_system()};"
        f" Python {platform.python_version()}; {_database()}; {datetime.now(UTC):%d %B %Y}"
    )


def load() -> str:
    """The processes that ran or waited in the last minute, this one among them."""
    return f"{os.getloadavg()[0]:.1f}"


def _processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _system() -> str:
    kernel = f"{platform.system()} {platform.release()} {platform.machine()}"
    with suppress(OSError):
        return f"{platform.freedesktop_os_release()['PRETTY_NAME']}, {kernel}"
    return kernel


def _database() -> str:
    with server() as server_url:
        url = create_database(server_url, "bench_machine")
        place = parse_url(url, variable="DATABASE_URL")
        with connect(place) as connection:
            connection.execute("CREATE EXTENSION vector")
            timeout = Database().statement_timeout
            with read_only(connection, place, statement_timeout=timeout):
                facts = read_server(connection)
        drop_database(server_url, "bench_machine")
    return f"PostgreSQL {facts.version.split()[0]} with pgvector {facts.vector_version}"
