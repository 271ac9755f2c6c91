"""Databases that are not UTF-8: read right where they can be, and told row by row where not."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg import sql

from checks.database.undecodable import as_read, is_utf_8, readable
from demo.postgres import database_url, drop_database
from remediation.journal.outcomes import Outcome
from tests.builders.tables import rows, run
from tests.drivers.canaries import drift
from tests.drivers.repairs import repaired, settings
from tests.drivers.rollbacks import server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.servers.provider_server import ProviderServer

__all__ = ["server"]

TABLE = """
CREATE TABLE "Größen" (
    id int PRIMARY KEY, tenant text, body text, digest text, embedding vector(8)
)
"""
NO_UTF_8 = (
    b"Gr\xf6\xdfe",
    b"\xc3",
    b"\xc0\xaf",
    b"\xed\xa0\x80",
    b"\xf5\x80\x80\x80",
    b"caf\xe9 ok",
)


@contextmanager
def encoded(server_url: str, encoding: str) -> Iterator[str]:
    """An empty database of that encoding with the extension."""
    name = f"encoded_{encoding.lower()}"
    run(
        server_url,
        f"CREATE DATABASE {name} TEMPLATE template0 ENCODING '{encoding}'"
        " LC_COLLATE 'C' LC_CTYPE 'C'",
    )
    url = f"{database_url(server_url, name)}?client_encoding=UTF8"
    try:
        run(url, "CREATE EXTENSION vector")
        yield url
    finally:
        drop_database(server_url, name)


def _insert(url: str, *values: tuple[int, bytes, bytes]) -> None:
    """Rows of these bytes, whatever they mean."""
    with psycopg.connect(url, autocommit=True) as connection:
        for number, tenant, body in values:
            connection.execute(
                'INSERT INTO "Größen" (id, tenant, body) VALUES (%s,'
                " convert_from(%s, 'SQL_ASCII'), convert_from(%s, 'SQL_ASCII'))",
                (number, tenant, body),
            )


@pytest.mark.parametrize("hash_of", ["md5", "sha256"])
def test_texts_of_a_database_without_an_encoding_are_told_row_by_row(
    server_url: str, server: ProviderServer, tmp_path: Path, hash_of: str
) -> None:
    with encoded(server_url, "SQL_ASCII") as url:
        run(url, TABLE)
        _insert(
            url,
            *((number, "Müller".encode(), f"Größe {number}".encode()) for number in range(1, 9)),
            *((100 + n, "Müller".encode(), body) for n, body in enumerate(NO_UTF_8)),
            (200, b"M\xfcller", b"of a tenant whose name is no UTF-8"),
        )
        declared = {
            "name": '"Größen"',
            "tenant": "tenant",
            "text": "body",
            "where": "true",
            "content_hash": "digest",
            "hash": hash_of,
        }
        chosen = settings(server, tables=[declared], keys={"env": "KEY_{tenant}"})
        keys = {"KEY_M_LLER": "sk-1", r"KEY_M_374LLER": "sk-2"}
        done = repaired(url, chosen, tmp_path, keys=keys)
        (result,) = done.results
        account = result.account
        assert account.count(Outcome.FIXED) == 9
        assert account.count(Outcome.QUARANTINED) == len(NO_UTF_8)
        refused = {g.reason for g in account.groups if g.outcome is Outcome.QUARANTINED}
        (reason,) = refused
        assert "the text is no UTF-8" in reason
        assert sorted(server.texts) == sorted(
            [*(f"Größe {n}" for n in range(1, 9)), "of a tenant whose name is no UTF-8"]
        )
        assert {group.tenant for group in account.groups} >= {"Müller", r"M\374ller"}
        assert done.after is not None
        assert {f.tenant: f.failing for f in done.after.findings} == {"Müller": len(NO_UTF_8)}
        drift(url, chosen, keys=keys)


def test_rows_whose_keys_are_no_utf_8_are_named_and_all_others_repaired(
    server_url: str, server: ProviderServer, tmp_path: Path
) -> None:
    with encoded(server_url, "SQL_ASCII") as url:
        run(url, "CREATE TABLE docs (name text PRIMARY KEY, body text, embedding vector(8))")
        with psycopg.connect(url, autocommit=True) as connection:
            for name in ("Größe".encode(), b"plain", *NO_UTF_8):
                connection.execute(
                    "INSERT INTO docs VALUES (convert_from(%s, 'SQL_ASCII'), 'a text')", (name,)
                )
        chosen = settings(
            server,
            tables=[{"name": "docs", "text": "body"}],
            keys={"fallback_env": "KEY"},
            repair={"probe": 0},
        )
        done = repaired(url, chosen, tmp_path, keys={"KEY": "sk-1"})
        (result,) = done.results
        assert (result.stopped, result.account.selected) == (None, 2)
        assert result.account.count(Outcome.FIXED) == 2
        assert done.after is not None
        (finding,) = done.after.findings
        assert finding.check == "schema"
        assert f"key raises an error for {len(NO_UTF_8)} of 8 rows" in finding.says
        assert r"(Gr\366\337e)" in finding.says


def test_rows_whose_provenance_is_no_utf_8_are_named_and_left_alone(
    server_url: str, server: ProviderServer, tmp_path: Path
) -> None:
    with encoded(server_url, "SQL_ASCII") as url:
        run(
            url,
            "CREATE TABLE docs (id text PRIMARY KEY, body text)",
            "CREATE TABLE vectors (doc text PRIMARY KEY, model text, embedding vector(8))",
        )
        with psycopg.connect(url, autocommit=True) as connection:
            for name in (b"named", b"other", *NO_UTF_8):
                connection.execute(
                    "INSERT INTO docs VALUES (convert_from(%s, 'SQL_ASCII'), 'a text')", (name,)
                )
                connection.execute(
                    "INSERT INTO vectors VALUES (convert_from(%s, 'SQL_ASCII'),"
                    " convert_from(%s, 'SQL_ASCII'), NULL)",
                    (name, b"mod\xe8le" if name == b"named" else b"model"),
                )
        store = {"name": "vectors", "key": ["doc"], "model_column": "model"}
        chosen = settings(
            server,
            tables=[{"name": "docs", "text": "body", "store": {**store, "embedding": "embedding"}}],
            keys={"fallback_env": "KEY"},
            repair={"probe": 0},
        )
        done = repaired(url, chosen, tmp_path, keys={"KEY": "sk-1"})
        (result,) = done.results
        assert (result.stopped, result.account.selected) == (None, 1)
        assert done.after is not None
        assert {finding.check for finding in done.after.findings} == {"schema"}
        says = "; ".join(finding.says for finding in done.after.findings)
        assert f"key raises an error for {len(NO_UTF_8)} of 8 rows" in says
        assert "model_column raises an error for 1 of 8 rows, with the key (named)" in says


def test_what_is_utf_8_is_told_byte_by_byte_as_python_does(server_url: str) -> None:
    class Ascii:
        encoding = "SQL_ASCII"

    with encoded(server_url, "SQL_ASCII") as url:
        statement = sql.SQL("SELECT {} FROM unnest(%s::bytea[]) AS v (b)").format(
            readable(sql.SQL("convert_from(b, 'SQL_ASCII')"), Ascii())  # type: ignore[arg-type]
        )
        pieces = [bytes([lead, *tail]) for lead in range(0x80, 0x100) for tail in TAILS]
        with psycopg.connect(url) as connection:
            told = [t for (t,) in connection.execute(statement, (pieces,)).fetchall()]
    for piece, name in zip(pieces, told, strict=True):
        valid = is_utf_8(as_read(piece))
        assert name == piece.decode() if valid else name.isascii(), piece


TAILS = [
    (),
    *((b,) for b in (0x7F, 0x80, 0xBF, 0xC2)),
    *((b, 0x80) for b in (0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0)),
    *((b, 0xBF, 0x80) for b in (0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0)),
    (0x90, 0x80, 0x80, 0x80),
]


@pytest.mark.parametrize("encoding", ["LATIN1", "EUC_JP"])
def test_texts_of_another_encoding_arrive_as_they_are_meant(
    server_url: str, server: ProviderServer, tmp_path: Path, encoding: str
) -> None:
    body = "Größe" if encoding == "LATIN1" else "大きさ"
    with encoded(server_url, encoding) as url:
        run(url, "CREATE TABLE docs (id int PRIMARY KEY, body text, embedding vector(8))")
        with psycopg.connect(url) as connection:
            connection.execute("INSERT INTO docs VALUES (1, %s)", (body,))
        chosen = settings(
            server,
            tables=[{"name": "docs", "text": "body"}],
            keys={"fallback_env": "KEY"},
        )
        done = repaired(url, chosen, tmp_path, keys={"KEY": "sk-1"})
        (result,) = done.results
        assert result.account.count(Outcome.FIXED) == 1
        assert server.texts == [body]
        assert rows(url, "SELECT embedding IS NULL FROM docs") == [(False,)]
