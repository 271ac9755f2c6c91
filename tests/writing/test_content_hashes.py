"""Content hashes of several digests and types: recognised, held against the text, written."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest

from tests.provider_server import ProviderServer
from tests.repairs import docs, environment, opened, repaired, settings

if TYPE_CHECKING:
    from pathlib import Path

    from checks.settings.integrity_toml import Settings
    from tests.repairs import Docs

KEYS = environment("acme")


def hashed(table: Docs, function: str, of: str, kind: str) -> None:
    """Give every row the digest of something, and let two rows be edited after."""
    table.execute(f"ALTER TABLE docs ADD digest {kind}")
    for number, value in table.rows(f"id, {of}"):
        digits = hashlib.new(function, str(value).encode()).hexdigest()
        given = bytes.fromhex(digits) if kind == "bytea" else digits.upper()
        table.execute("UPDATE docs SET digest = %s WHERE id = %s", (given, number))


def declared(server: ProviderServer, **table: object) -> Settings:
    return settings(server, table={"content_hash": "digest", **table})


@pytest.mark.parametrize(
    ("function", "kind"), [("sha256", "bytea"), ("sha512", "text"), ("md5", "char(32)")]
)
def test_a_declared_digest_finds_the_stale_rows_and_is_written_in_its_form(
    database: str, tmp_path: Path, function: str, kind: str
) -> None:
    with docs(database, {"acme": (30, 1)}) as table, ProviderServer() as server:
        hashed(table, function, "body", kind)
        table.execute("UPDATE docs SET body = 'Ürün ' || id WHERE id IN (3, 4)")
        done = repaired(database, declared(server, hash=function), tmp_path, keys=KEYS)
        assert done.counts() == {"selected": 3, "fixed": 3}
        assert table.wrong() == []
        for body, digest in table.rows("body, digest"):
            digits = hashlib.new(function, body.encode()).hexdigest()
            held = bytes(digest).hex() if kind == "bytea" else digest.lower()
            assert held == digits


@pytest.mark.parametrize(
    ("function", "of", "told"),
    [
        ("sha256", "body", 'declare hash = "sha256"'),
        ("sha1", "body", "no such digest is known"),
        ("md5", "'page ' || id / 10", "holds the md5 of the text in none of 31 sampled rows"),
    ],
)
def test_hashes_of_another_form_stop_the_table_and_are_left_alone(
    database: str, function: str, of: str, told: str
) -> None:
    with docs(database, {"acme": (30, 1)}) as table, ProviderServer() as server:
        hashed(table, function, of, "text")
        with opened(database, declared(server), keys=KEYS) as repair:
            (problem,) = repair.examination.tables[0].target.problems
            assert told in problem.text
            assert problem.blocks
            assert repair.plan().tables == ()
        assert server.requests == []
